"""What the docks would do now, as text: a command for a terminal, a script for napari's console."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

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


Write: TypeAlias = Callable[[], str]
"""Returns a text once what it names was read, for which it may run in any thread; raises `InputError`."""


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
) -> Write:
    """Look at the layers, and return what writes the command that trains as the dock would, or continues run `old`.

    Parameters
    ----------
    folder
        A folder of further cases.

    Raises
    ------
    InputError
        If a layer lies in no file; what is returned raises it where a layer was changed since it was read from its
        file, or the files cannot be told apart in a command.
    """
    cases = [_case_of(scan) for scan in scans]
    further = [] if folder is None else [str(folder)]
    options = ["-o", str(run_dir)]
    options += ["--preset", config.preset] if old is None else ["--continue", str(old), "--preset", config.preset]
    for name, value in config.changes().items():
        options += ["--set", f"{name}={as_yaml(as_text(value))}"]

    def write() -> str:
        words = [*(case.words() for case in cases), *further]
        try:
            find_cases(words)
        except InputError as problem:
            sentence = str(problem).rstrip(".")
            raise InputError(f"{sentence}; or use Copy as script, which names layers instead of files.") from None
        return shlex.join(["napari-rada", "train", *words, *options])

    return write


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


@dataclass(frozen=True)
class _Case:
    """A CASE of the command line, and what has to be read before it may be named."""

    files: tuple[Path, ...]
    planes: Sequence[AnnotatedSlice]
    checks: tuple[Callable[[], None], ...]

    def words(self) -> str:
        """Return the case as it is written; raises `InputError` if a file no longer holds what its layer shows."""
        for check in self.checks:
            check()
        if len(self.files) == 1:
            return str(self.files[0])
        return ",".join([*map(str, self.files), ";".join(write_slices(to_file(self.planes, self.files[1])))])


def _case_of(scan: Scan) -> _Case:
    """Find the files of a scan; raises `InputError` if there are none."""
    named = [_image_file(scan.image), *([] if scan.labels is None else [_labels_file(scan.image, scan.labels)])]
    return _Case(tuple(file for file, _check in named), scan.planes, tuple(check for _file, check in named))


def _layer_words(scan: Scan) -> str:
    layers = [layer for layer in (scan.image, scan.labels) if layer is not None]
    return ", ".join(f"viewer.layers[{str(layer.name)!r}]" for layer in layers)


def predict_command(scans: Sequence[Scan], run_dir: Path, prediction: PredictionChoice) -> Write:
    """Look at the layers, and return what writes the command that predicts as the dock would.

    Raises
    ------
    InputError
        As for `train_command`.
    """
    cases = [_case_of(scan) for scan in scans]
    options = [*_output_words(scans, prediction), "--device", prediction.device]
    if prediction.non_finite != "refuse":
        options += ["--set", f"data.non_finite={prediction.non_finite}"]
    if prediction.tidy.min_part_ml > 0:
        options += ["--min-part", str(prediction.tidy.min_part_ml)]
    options += ["--fill-holes"] if prediction.tidy.fill_holes else []

    def write() -> str:
        words = [case.words() for case in cases]
        find_cases(words)
        return shlex.join(["napari-rada", "predict", str(run_dir), *words, *options])

    return write


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


def _image_file(layer: Image) -> tuple[Path, Callable[[], None]]:
    """Return the file of an Image layer, and what reads it to see whether it holds the voxels as they are now."""
    file, known = _file(layer), image_file(layer) is not None
    voxels, changed = full_resolution(layer), _changed(layer, file)

    def check() -> None:
        if not known and not file_holds(file, np.asarray(voxels)):
            raise changed

    return file, check


def _labels_file(image: Image, labels: Labels) -> tuple[Path, Callable[[], None]]:
    """Return the file of a Labels layer, and what reads it to see whether it holds voxels and classes as they are now.

    A layer that was made on an image has the image's file for its source, which is none of its own.
    """
    file = _file(labels)
    if file == source_of(image):
        raise _no_file(labels)
    voxels, infos, changed = full_resolution(labels), class_infos(labels), _changed(labels, file)

    def check() -> None:
        now, then = ([info for info in some if info.is_named] for some in (infos, read_classes(file)))
        if now != then or not np.array_equal(read_volume(file).array, voxels):
            raise changed

    return file, check


def _changed(layer: Image | Labels, file: Path) -> InputError:
    return InputError(
        f"Layer '{layer.name}' was changed since it was read from {file}; save it first as another file and open "
        "that, so that a command can name it."
    )


def _no_file(layer: Image | Labels) -> InputError:
    return InputError(
        f"Layer '{layer.name}' lies in no file; save it first and open that file, so that a command can name it."
    )
