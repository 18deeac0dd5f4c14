"""What the docks would do now, as text: a command for a terminal, a script for napari's console."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada._napari.layers import (
    MASK,
    OUTPUTS,
    class_infos,
    full_resolution,
    image_file,
    source_of,
    suffix_beside,
)
from napari_rada._napari.setting_fields import as_text, as_yaml
from napari_rada._napari.voxels import file_holds
from napari_rada.errors import InputError
from napari_rada.io import file_name, find_cases, read_volume, to_file, write_slices
from napari_rada.io.annotations import read_classes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.layers import Image, Labels

    from napari_rada.config import RunConfig
    from napari_rada.data.case import NonFinite
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.inference.cleanup import CleanUp

PREDICTIONS = "predictions"
"""Folder, where the command is run, of what it makes of several images."""


class Scan(NamedTuple):
    """An image layer of a cohort, its labels layer if it has one, and the slices annotated there."""

    image: Image
    labels: Labels | None
    planes: Sequence[AnnotatedSlice]


@dataclass(frozen=True)
class PredictionChoice:
    """What the dock Predict is set to.

    Parameters
    ----------
    outputs
        Any of `mask`, `probability` and `disagreement`; a command always writes the mask.
    folder
        Where one image is predicted chunk by chunk, None to predict in memory.
    """

    device: str
    tidy: CleanUp
    outputs: Sequence[str] = (MASK,)
    non_finite: NonFinite = "refuse"
    folder: Path | None = None


def train_command(
    scans: Sequence[Scan], folder: Path | None, run_dir: Path, config: RunConfig, old: Path | None
) -> str:
    """Return the command that trains as the dock would, or continues run `old`.

    Parameters
    ----------
    folder
        A folder of further cases.

    Raises
    ------
    InputError
        If a layer lies in no file or was changed since it was read from it, or the files cannot be told apart in a
        command.
    """
    cases = [*map(_case_words, scans), *([] if folder is None else [str(folder)])]
    try:
        find_cases(cases)
    except InputError as problem:
        sentence = str(problem).rstrip(".")
        raise InputError(f"{sentence}; or use Copy as script, which names layers instead of files.") from None
    words = ["napari-rada", "train", *cases]
    words += ["-o", str(run_dir)]
    words += ["--preset", config.preset] if old is None else ["--continue", str(old), "--preset", config.preset]
    for name, value in config.changes().items():
        words += ["--set", f"{name}={as_yaml(as_text(value))}"]
    return shlex.join(words)


def train_script(scans: Sequence[Scan], folder: Path | None, run_dir: Path, config: RunConfig, old: Path | None) -> str:
    """Return the lines that train as the dock would, for napari's console; the window waits meanwhile."""
    call = f"rada.train(cases, {str(run_dir)!r}, config)"
    if old is not None:
        call = f"rada.continue_training({str(old)!r}, cases, {str(run_dir)!r}, config)"
    several = ".for_cohort()" if config.cohort else ""
    non_finite = "" if config.data.non_finite == "refuse" else f", non_finite={config.data.non_finite!r}"
    return "\n".join(
        [
            "import napari_rada as rada",
            "from napari_rada._napari.layers import case_from_layers",
            "cases = [",
            *(f"    case_from_layers({_layer_words(scan)}{non_finite})," for scan in scans),
            "]",
            *([] if folder is None else [f"cases += rada.load_cases([{str(folder)!r}]{non_finite})"]),
            f"config = rada.RunConfig.from_preset({config.preset!r}){several}.with_settings({config.changes()!r})",
            call,
        ]
    )


def _case_words(scan: Scan) -> str:
    """Write a scan as a CASE of the command line."""
    if scan.labels is None:
        return str(_image_file(scan.image))
    files = [_image_file(scan.image), _labels_file(scan.image, scan.labels)]
    slices = ";".join(write_slices(to_file(scan.planes, files[1])))
    return ",".join([*map(str, files), slices])


def _layer_words(scan: Scan) -> str:
    layers = [layer for layer in (scan.image, scan.labels) if layer is not None]
    return ", ".join(f"viewer.layers[{str(layer.name)!r}]" for layer in layers)


def predict_command(scans: Sequence[Scan], run_dir: Path, prediction: PredictionChoice) -> str:
    """Return the command that predicts as the dock would.

    Raises
    ------
    InputError
        As for `train_command`.
    """
    cases = [_case_words(scan) for scan in scans]
    find_cases(cases)
    words = ["napari-rada", "predict", str(run_dir), *cases, *_output_words(scans, prediction)]
    words += ["--device", prediction.device]
    if prediction.non_finite != "refuse":
        words += ["--set", f"data.non_finite={prediction.non_finite}"]
    if prediction.tidy.min_part_ml > 0:
        words += ["--min-part", f"{prediction.tidy.min_part_ml:g}"]
    return shlex.join([*words, *(["--fill-holes"] if prediction.tidy.fill_holes else [])])


def _output_words(scans: Sequence[Scan], prediction: PredictionChoice) -> list[str]:
    """Name what is written: a file for each output, for several images a folder for all."""
    if prediction.folder is not None:
        return ["-o", str(prediction.folder)]
    image = scans[0].image
    names = {kind: f"{file_name(str(image.name))} {kind}{suffix_beside(image)}" for kind in OUTPUTS}
    if len(scans) > 1:
        names = dict.fromkeys(OUTPUTS, PREDICTIONS)
    further = [kind for kind in prediction.outputs if kind != MASK]
    return ["-o", names[MASK], *(word for kind in further for word in (f"--{kind}", names[kind]))]


def _file(layer: Image | Labels) -> Path:
    source = source_of(layer)
    if source is None:
        raise _no_file(layer)
    return source


def _image_file(layer: Image) -> Path:
    """Return the file that holds the voxels of an Image layer as they are now."""
    file = _file(layer)
    if image_file(layer) is None and not file_holds(file, np.asarray(full_resolution(layer))):
        raise _changed(layer, file)
    return file


def _labels_file(image: Image, labels: Labels) -> Path:
    """Return the file that holds the voxels and classes of a Labels layer as they are now.

    A layer that was made on an image has the image's file for its source, which is none of its own.
    """
    file = _file(labels)
    if file == source_of(image):
        raise _no_file(labels)
    now, then = ([info for info in infos if info.is_named] for infos in (class_infos(labels), read_classes(file)))
    if now != then or not np.array_equal(read_volume(file).array, full_resolution(labels)):
        raise _changed(labels, file)
    return file


def _changed(layer: Image | Labels, file: Path) -> InputError:
    return InputError(
        f"Layer '{layer.name}' was changed since it was read from {file}; save it first as another file and open "
        "that, so that a command can name it."
    )


def _no_file(layer: Image | Labels) -> InputError:
    return InputError(
        f"Layer '{layer.name}' lies in no file; save it first and open that file, so that a command can name it."
    )
