"""Slips of painting in annotated slices: outlines that were not filled, spots far from the rest, labels of instances.

All can be right, as the wall of a vessel or a second part are; so they are told, and nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_rada.data.reach import SLIP
from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassInfo
    from napari_rada.data.grid import Grid

ENCLOSED = 0.5
"""An outline encloses more than so many voxels of label 0 for each of its own; solid structures hardly any."""
SPOT = 0.1
"""Largest share that a spot has of the paint of its structure in the slice."""
GROWTH = 1.3
"""So many times as large a spot that is told makes the box around its structure, at the least."""
USUAL = 30
"""More structures than this are told: each takes time of its own, and parts of one are often labelled so by mistake."""
MOST_TOLD = 3
"""So many slices are named in a sentence."""
TOUCHING = np.ones((3, 3), dtype=np.bool_)
"""Voxels of a slice that share a corner are of one part."""


@dataclass(frozen=True)
class Slip:
    """What looks like a slip: label `value` is an outline in slice `plane`, or has a spot there of `spot` voxels."""

    plane: AnnotatedSlice
    value: int
    spot: int = 0


@dataclass(frozen=True, eq=False)
class _Part:
    """A connected part of a structure in a slice; `alone` if it is small and no other slice shows more of it."""

    voxels: int
    first: NDArray[np.intp]
    last: NDArray[np.intp]
    alone: bool


def told_many(case: Case) -> str | None:
    """Say how many structures are annotated, if they are many; None if they are not. To be told first: it is quick."""
    if case.labels is None:
        return None
    many = np.count_nonzero(np.unique(case.labels[case.known]))
    if many <= USUAL:
        return None
    return (
        f"{case.name}: {many} structures are annotated, one for each label value, and every one takes time of its own; "
        "if they are parts of one structure, give them one label."
    )


def told_slips(case: Case) -> list[str]:
    """Say what looks like slips in the annotated slices of a case: a sentence for each structure and kind."""
    if case.labels is None or case.classes is None:
        return []
    found = find_slips(case.labels, case.annotated)
    return [f"{case.name}: {sentence}" for sentence in tell_slips(found, case.classes.classes, case.grid)]


def find_slips(
    labels: Any, annotated: Sequence[AnnotatedSlice], wanted: Iterable[AnnotatedSlice] | None = None
) -> list[Slip]:
    """Return what looks like slips in annotated slices.

    A structure that encloses many voxels of label 0 is an outline. A small part of it that no crossing or neighbouring
    slice shows to go on is a spot, if the box around the other parts would be much larger with it.

    Parameters
    ----------
    labels
        (z, y, x) label values, also in chunks: annotated slices are read, and those beside small parts.
    annotated
        The annotated slices.
    wanted
        Those to look at; all of them if not given.
    """
    found: list[Slip] = []
    spots: dict[int, list[tuple[AnnotatedSlice, _Part]]] = {}
    for plane in annotated if wanted is None else wanted:
        painted = _shown(labels, plane)
        for value in np.unique(painted[painted != 0]).tolist():
            if _is_outline(painted, value):
                found.append(Slip(plane, value))
            for part in _parts(labels, annotated, plane, value):
                if part.alone and part.voxels >= SLIP:
                    spots.setdefault(value, []).append((plane, part))
    for value, parts in spots.items():
        rest = [part for plane in annotated for part in _parts(labels, annotated, plane, value) if not part.alone]
        if rest:  # else it is made of small parts
            found += [Slip(plane, value, part.voxels) for plane, part in parts if _is_far(part, rest)]
    return found


def tell_slips(slips: Sequence[Slip], classes: Iterable[ClassInfo], grid: Grid) -> list[str]:
    """Say what looks like slips: a sentence for each structure and kind.

    Parameters
    ----------
    slips
        As they were found.
    classes
        Those that have names.
    grid
        That of the labels; names the slices.
    """
    names = {info.value: info.name for info in classes}
    told = []
    for value in sorted({slip.value for slip in slips}):
        name = names.get(value, f"label {value}")
        outlines, spots = (
            [slip for slip in slips if slip.value == value and bool(slip.spot) is is_spot] for is_spot in (False, True)
        )
        if outlines:
            told.append(
                f"{name} is a closed outline in {_listed(outlines, grid)}; if it is solid there, fill it: what it "
                "encloses counts as background."
            )
        if spots:
            told.append(
                f"{name} has a spot far from the rest in {_listed(spots, grid)}; if it is a slip, erase it: "
                "it can make the whole grid coarser."
            )
    return told


def _listed(slips: Sequence[Slip], grid: Grid) -> str:
    where = [
        f"{grid.plane_name(slip.plane.axis)} slice {slip.plane.index}" + (f" ({slip.spot} voxels)" if slip.spot else "")
        for slip in slips
    ]
    more = f" and {len(where) - MOST_TOLD} more" if len(where) > MOST_TOLD else ""
    return ", ".join(where[:MOST_TOLD]) + more


def _shown(labels: Any, plane: AnnotatedSlice) -> NDArray[np.integer]:
    return np.asarray(labels[plane.selector()])


def _is_outline(painted: NDArray[np.integer], value: int) -> bool:
    """Tell whether a structure encloses more voxels of label 0 than `ENCLOSED` times its own."""
    structure = painted == value
    where = _bounds(structure)
    beside, _number = ndimage.label(np.pad(~structure[where], 1, constant_values=True))
    enclosed = (beside != beside[0, 0])[1:-1, 1:-1] & (painted[where] == 0)
    return int(enclosed.sum()) > ENCLOSED * int(structure[where].sum())


def _parts(labels: Any, annotated: Sequence[AnnotatedSlice], plane: AnnotatedSlice, value: int) -> Iterator[_Part]:
    """Yield the connected parts of a structure in an annotated slice, but small ones that lie in other slices alone."""
    structure = _shown(labels, plane) == value
    if not structure.any():
        return
    where = _bounds(structure)
    parts, _number = ndimage.label(structure[where], TOUCHING)
    sizes = np.bincount(parts.ravel())
    for number, inside in enumerate(ndimage.find_objects(parts), start=1):
        corner = [along.start + within.start for along, within in zip(where, inside, strict=True)]
        small = sizes[number] <= SPOT * sizes[1:].sum()
        voxels = np.insert(np.argwhere(parts[inside] == number) + corner, plane.axis, plane.index, axis=1)
        if small and _lies_in(voxels, [other for other in annotated if other != plane]):
            continue
        alone = bool(small) and not _goes_on(labels, plane, voxels, value)
        yield _Part(int(sizes[number]), voxels.min(axis=0), voxels.max(axis=0), alone)


def _lies_in(voxels: NDArray[np.intp], slices: Sequence[AnnotatedSlice]) -> bool:
    """Tell whether all of some voxels (n, 3) lie in slices."""
    left = voxels
    for plane in slices:
        left = left[left[:, plane.axis] != plane.index]
    return not len(left)


def _goes_on(labels: Any, plane: AnnotatedSlice, voxels: NDArray[np.intp], value: int) -> bool:
    """Tell whether a part of a structure, (n, 3) voxels of a slice, is painted in one of the slices beside it, too."""
    corner = np.maximum(np.delete(voxels, plane.axis, axis=1) - 1, 0)
    rows, columns = (slice(corner[:, axis].min(), corner[:, axis].max() + 3) for axis in range(2))
    for index in (plane.index - 1, plane.index + 1):
        if 0 <= index < labels.shape[plane.axis]:
            beside = _shown(labels, AnnotatedSlice(plane.axis, index)) == value
            near = ndimage.binary_dilation(beside[rows, columns], TOUCHING)
            at = np.delete(voxels, plane.axis, axis=1) - (rows.start, columns.start)
            if near[tuple(at.T)].any():
                return True
    return False


def _is_far(part: _Part, rest: Sequence[_Part]) -> bool:
    """Tell whether the box around the rest of a structure is much smaller than one that holds a part, too."""
    first = np.min([other.first for other in rest], axis=0)
    last = np.max([other.last for other in rest], axis=0)
    wider = np.maximum(last, part.last) - np.minimum(first, part.first) + 1
    return bool(np.prod(wider / (last - first + 1)) >= GROWTH)


def _bounds(structure: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest rectangle around a structure that is there."""
    rows, columns = (np.flatnonzero(structure.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
