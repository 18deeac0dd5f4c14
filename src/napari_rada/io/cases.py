"""From image and label files to a `Case`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from napari_rada.data.case import Case, NonFinite
from napari_rada.data.grid import TOLERANCE, Grid
from napari_rada.data.slices import (
    AnnotatedSlice,
    PaintedSlice,
    Winner,
    annotated_mask,
    detect_slices,
    looks_sparse,
    merge_slices,
    named_slices,
)
from napari_rada.errors import InputError, check_choice
from napari_rada.events import Listener, Notice, ignore, tell
from napari_rada.io.annotations import (
    FileSlice,
    named_briefly,
    parse_slices,
    read_classes,
    read_sidecar,
    to_array,
    to_file,
    write_slices,
)
from napari_rada.io.files import Format, format_of, stem_of
from napari_rada.io.formats import read_volume
from napari_rada.io.volume import Volume, file_axis
from napari_rada.memory import shortage_explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.classes import ClassInfo


@shortage_explained
def load_case(
    image: Path | str,
    labels: Path | str | Sequence[Path | str] | None = None,
    slices: Sequence[FileSlice] | FileSlice | str | None = None,
    *,
    name: str | None = None,
    non_finite: NonFinite = "refuse",
    conflicts: Winner = "later",
    listener: Listener = ignore,
) -> Case:
    """Read a case from files.

    Parameters
    ----------
    image
        NIfTI or TIFF.
    labels
        A label file on the image's grid; or several, each with its own slices, which are merged; None for an
        unlabelled case.
    slices
        The annotated slices as (axis, index), or written ``0:91;1:70``, in the label file's own voxel axes (NIfTI:
        i = 0, j = 1, k = 2; TIFF: z = 0, y = 1, x = 2). With several label files, one slice per file. If None, a
        sidecar file beside the labels names them (see `napari_rada.io.sidecar_path`), and without one they are
        detected. Names and prompts of classes are taken from the sidecar too, if it has them.
    name
        The file name of the image if not given.
    non_finite
        What to do with NaN and infinity in the image.
    conflicts
        Which of several label files wins where crossing slices disagree. Each conflict is told as a `Notice`.
    listener
        Is told what had to be assumed or decided.

    Raises
    ------
    InputError
        With one sentence that says what is wrong and how to mend it.
    NotEnoughMemoryError
        If there is no room for it.
    """
    check_choice("conflicts", conflicts, get_args(Winner))
    planes = _named_in_file(slices)
    volume = read_volume(image)
    tell(listener, *volume.notes)
    name = name or stem_of(volume.path)
    paths = _label_paths(labels)
    if not paths:
        if planes:
            raise InputError(f"{name}: slices are named but there is no label file; name that too.")
        return Case.create(volume.array, grid=volume.grid, name=name, non_finite=non_finite, source=volume.path)
    single = len(paths) == 1
    painted = [
        _painted(volume, path, chosen, name if single else f"{name} ({path.name})", non_finite, listener)
        for path, chosen in zip(paths, _slices_per_file(planes, paths), strict=True)
    ]
    return painted[0] if single else _merged(painted, name, conflicts, listener)


def check_same_grid(labels: Volume, image: Volume) -> None:
    """Check that two files put the same voxels at the same places.

    A TIFF that does not say how large its voxels are is taken to lie on the grid of another TIFF.

    Raises
    ------
    InputError
        That says what differs.
    """
    if labels.grid.shape != image.grid.shape:
        raise InputError(
            f"{labels.path} has shape {labels.file_shape} but {image.path} has {image.file_shape}; they must be equal."
        )
    measured = labels.calibrated and image.calibrated
    both_tiff = format_of(labels.path) is Format.TIFF and format_of(image.path) is Format.TIFF
    if both_tiff and not measured:
        return
    if not labels.grid.matches(image.grid):
        if not measured:
            raise InputError(_unmeasured(*((labels, image) if image.calibrated else (image, labels))))
        raise InputError(
            f"{labels.path} does not lie where {image.path} lies: {_difference(labels.grid, image.grid)}; resample one "
            "onto the other, or correct the header that is wrong."
        )


def _named_in_file(slices: Sequence[FileSlice] | FileSlice | str | None) -> list[FileSlice] | None:
    if slices is None:
        return None
    if isinstance(slices, str):
        return list(parse_slices(slices))
    return [(plane.axis, plane.index) for plane in named_slices(slices)]


def _label_paths(labels: Path | str | Sequence[Path | str] | None) -> list[Path]:
    if labels is None:
        return []
    return [Path(labels)] if isinstance(labels, (str, Path)) else [Path(path) for path in labels]


def _slices_per_file(slices: Sequence[FileSlice] | None, paths: Sequence[Path]) -> list[Sequence[FileSlice] | None]:
    if slices is None or len(paths) == 1:
        return [slices] * len(paths)
    if len(slices) != len(paths):
        raise InputError(
            f"There are {len(paths)} label files and {len(slices)} slices; name one slice per file, in the same order."
        )
    return [[plane] for plane in slices]


def _painted(
    image: Volume,
    path: Path,
    chosen: Sequence[FileSlice] | None,
    name: str,
    non_finite: NonFinite,
    listener: Listener,
) -> Case:
    """Case of one label file."""
    labels = read_volume(path)
    check_same_grid(labels, image)
    if chosen is None:
        chosen = read_sidecar(path)
    case = Case.create(
        image.array,
        labels.array,
        slices=None if chosen is None else to_array(chosen, labels),
        grid=image.grid,
        name=name,
        non_finite=non_finite,
        source=image.path,
    )
    if chosen is not None and (ignored := _ignored(labels, case.annotated)):
        listener(Notice(f"{name}: {ignored}"))
    return _named(case, read_classes(path))


def _ignored(labels: Volume, named: Sequence[AnnotatedSlice]) -> str | None:
    """Say how much of sparse paint the named slices leave out, and where it seems to be; None if nothing is told.

    That dense labels reach beyond the slices that are named of them is as it should be.
    """
    painted = labels.array != 0
    outside = painted & ~annotated_mask(labels.grid.shape, named)
    if not outside.any() or not looks_sparse(painted):
        return None
    found = detect_slices(painted)
    if not found or (painted & ~annotated_mask(labels.grid.shape, found)).any():
        return None
    seem = named_briefly(write_slices(to_file(found, labels.path)))
    return (
        f"{int(outside.sum())} of {int(painted.sum())} painted voxels of {labels.path.name} lie outside the annotated "
        f"slices that are named and are ignored; painted seem {seem} (axis:index in the file)."
    )


def _named(case: Case, infos: Sequence[ClassInfo]) -> Case:
    return case if case.classes is None else replace(case, classes=case.classes.with_names(infos))


def _merged(painted: Sequence[Case], name: str, winner: Winner, listener: Listener) -> Case:
    """Write the slices of several label files into one case."""
    first = painted[0]
    slices = [
        PaintedSlice(plane, case.labels[plane.selector()])
        for case in painted
        if case.labels is not None
        for plane in case.annotated
    ]
    labels, conflicts = merge_slices(first.grid.shape, slices, winner)
    for conflict in conflicts:
        shown = replace(
            conflict,
            kept=_as_in_file(conflict.kept, first.source),
            overruled=_as_in_file(conflict.overruled, first.source),
        )
        listener(Notice(f"{name}: {shown}."))
    merged = Case.create(
        first.image,
        labels,
        slices=sorted({part.plane for part in slices}),
        grid=first.grid,
        name=name,
        source=first.source,
    )
    return _named(merged, [c for case in painted if case.classes for c in case.classes.classes if c.is_named])


def _as_in_file(plane: AnnotatedSlice, path: Path | None) -> AnnotatedSlice:
    """Count the axis as the user's file does, for a message."""
    return AnnotatedSlice(file_axis(path, plane.axis), plane.index)


def _difference(found: Grid, wanted: Grid) -> str:
    """Say what tells two grids of one shape apart."""
    parts, tolerated = [], TOLERANCE * min(wanted.spacing)
    if not np.allclose(found.spacing, wanted.spacing, rtol=1e-4, atol=0.0):
        parts.append(
            f"voxel size (x, y, z) {_numbers(found.spacing[::-1])} mm against {_numbers(wanted.spacing[::-1])} mm"
        )
    turned, straight = (grid.affine[:3, :3] / grid.spacing for grid in (found, wanted))
    if not np.allclose(turned, straight, atol=1e-4):
        parts.append(f"orientation {_orientation(turned)} against {_orientation(straight)}")
    if not np.allclose(found.affine[:3, 3], wanted.affine[:3, 3], rtol=0.0, atol=tolerated):
        parts.append(f"first voxel at {_numbers(found.affine[:3, 3])} mm against {_numbers(wanted.affine[:3, 3])} mm")
    return ", ".join(parts) or f"the affines differ slightly, by more than {tolerated:.3g} mm at a corner"


def _unmeasured(unknown: Volume, known: Volume) -> str:
    """Say what a file needs that does not tell its voxel size, to lie where another one lies."""
    straight = known.grid.matches(Grid.from_spacing(known.grid.shape, known.grid.spacing))
    enter = f", or enter its voxel size there: (x, y, z) {_numbers(known.grid.spacing[::-1])} mm" if straight else ""
    return (
        f"{unknown.path} does not say how large its voxels are, and so not that it lies where {known.path} lies; save "
        f"it as NIfTI with the geometry of that file{enter}."
    )


def _orientation(direction: NDArray[np.float64]) -> str:
    return "[" + ", ".join(_numbers(direction[:, axis]) for axis in (2, 1, 0)) + "]"


def _numbers(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{float(value):.4g}" for value in values) + ")"
