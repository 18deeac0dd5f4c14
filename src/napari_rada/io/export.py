"""Masks and sparse annotations for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.durable import write_text
from napari_rada.errors import InputError
from napari_rada.events import Listener, ignore, tell
from napari_rada.io.annotations import read_classes, read_sidecar, to_array, write_annotation
from napari_rada.io.files import file_name, stem_of
from napari_rada.io.formats import lost_in, read_volume, write_volume
from napari_rada.io.results import check_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable

ENDING = ".nii.gz"
IGNORE = "ignore"
"""nnU-Net's name of the label whose voxels take no part in training."""


def export_volume(source: Path | str, out: Path | str, *, listener: Listener = ignore) -> Path:
    """Copy a mask or label file into another format, NIfTI or TIFF, with its geometry and its annotated slices.

    Parameters
    ----------
    listener
        Is told what had to be assumed.

    Raises
    ------
    InputError
        If the file cannot be read, or `out` cannot be written, is the file itself or an annotation.
    """
    out = check_result(out, [source])
    volume = read_volume(source)
    tell(listener, *volume.notes, lost_in(out, volume.grid))
    slices, classes = read_sidecar(volume.path), read_classes(volume.path)
    labels = volume.labels or slices is not None
    if slices is None and not classes:
        write_volume(out, volume.array, volume.grid, volume.path, labels=labels)
        return out
    planes = None if slices is None else to_array(slices, volume)
    write_annotation(out, volume.array, volume.grid, volume.path, labels=labels, slices=planes, classes=classes)
    return out


def export_nnunet(cases: Sequence[Case], classes: ClassTable, folder: Path | str) -> Path:
    """Write cases as a raw dataset of nnU-Net v2: what nobody annotated carries the ignore label.

    Images go to ``imagesTr`` and ``labelsTr``, those without annotation to ``imagesTs``. Labels are the class indices
    0, 1, 2 …, the ignore label comes after the last. nnU-Net finds the folder if it is called ``DatasetNNN_Name`` and
    lies in ``nnUNet_raw``.

    Raises
    ------
    InputError
        If no case is annotated, two cases have the same name, or the folder holds a dataset already.
    """
    folder = Path(folder)
    names = [_file_name(case.name) for case in cases]
    if len(set(names)) < len(names):
        raise InputError("Two cases have the same name; rename one, so that their files can be told apart.")
    if not any(case.is_labelled for case in cases):
        raise InputError("No case has annotated slices; nnU-Net needs at least one to learn from.")
    if (folder / "dataset.json").exists():
        raise InputError(f"{folder} holds a dataset already; choose another folder.")
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for case, name in zip(cases, names, strict=True):
        part = "imagesTr" if case.is_labelled else "imagesTs"
        image = folder / part / f"{name}_0000{ENDING}"
        write_volume(image, case.image, case.grid, _existing(case))
        if case.is_labelled:
            labels = folder / "labelsTr" / f"{name}{ENDING}"
            write_volume(labels, with_ignore(case, classes), case.grid, _existing(case), labels=True)
    count = sum(case.is_labelled for case in cases)
    write_text(folder / "dataset.json", json.dumps(_description(classes, count), indent=2), InputError)
    return folder


def with_ignore(case: Case, classes: ClassTable) -> NDArray[np.uint8]:
    """Return class indices (z, y, x) in the annotated slices and the ignore label, their number, elsewhere."""
    assert case.labels is not None
    labels = np.full(case.labels.shape, len(classes), dtype=np.uint8)
    known = case.known
    labels[known] = classes.encode(case.labels[known])
    return labels


def _description(classes: ClassTable, count: int) -> dict[str, Any]:
    taken = ("background", IGNORE)  # nnU-Net's own
    names = [f"{c.name} ({c.value})" if c.name.casefold() in taken else c.name for c in classes.classes[1:]]
    labels = {name: index for index, name in enumerate(names, start=1)}
    return {
        "channel_names": {"0": "image"},
        "labels": {"background": 0, **labels, IGNORE: len(classes)},
        "numTraining": count,
        "file_ending": ENDING,
    }


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in stem_of(Path(file_name(name))))


def _existing(case: Case) -> Path | None:
    """Return the case's own file if it is still there: in its format its geometry is written exactly."""
    return case.source if case.source is not None and case.source.is_file() else None
