"""Annotated slices: naming them, finding them in a painted volume, and merging several paintings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import index as index_of
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from napari_rada.errors import InputError, check_choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.data.grid import Shape

Labels: TypeAlias = NDArray[np.integer]

MOST_BLOCKS = 0.05
"""Blocks of 2x2x2 painted voxels, as a share of all paint, above which labels count as dense."""


@dataclass(frozen=True, order=True)
class AnnotatedSlice:
    """A plane that was annotated completely: inside it, 0 means background.

    `axis` is the array axis (0 = z, 1 = y, 2 = x) that the plane is perpendicular to, `index` its position on it.
    """

    axis: int
    index: int

    def __post_init__(self) -> None:
        """Take whole numbers of any type, NumPy's too, and raise `InputError` for others."""
        try:
            for name in ("axis", "index"):
                object.__setattr__(self, name, index_of(getattr(self, name)))
        except TypeError:
            raise InputError(
                f"Slice {self.axis}:{self.index} is no pair of whole numbers; write (axis, index), for example (0, 91)."
            ) from None

    def selector(self) -> tuple[slice | int, slice | int, slice | int]:
        """Index that takes this plane out of a (z, y, x) array."""
        where: list[slice | int] = [slice(None)] * 3
        where[self.axis] = self.index
        return (where[0], where[1], where[2])

    def check(self, shape: Shape) -> None:
        """Raise `InputError` unless the slice lies inside a volume of `shape`."""
        if self.axis not in (0, 1, 2):
            raise InputError(f"Slice axis {self.axis} does not exist; a 3D volume has the axes 0, 1 and 2.")
        if not 0 <= self.index < shape[self.axis]:
            raise InputError(
                f"Slice {self.index} on axis {self.axis} lies outside the volume; "
                f"this axis has the slices 0 to {shape[self.axis] - 1}."
            )


UNCOUNTED = np.iinfo(np.uint8).max
"""Planes that are counted together in single bytes, which is quickest."""

FEWEST = 4
"""Voxels that only a plane itself shows, if it is to be detected: with fewer, stacks of slices are read across more."""


def named_slices(slices: object) -> list[AnnotatedSlice]:
    """Return slices that a caller names: one or several, each an `AnnotatedSlice` or a pair (axis, index).

    Raises
    ------
    InputError
        If one is no such pair.
    """
    if isinstance(slices, AnnotatedSlice) or _is_pair(slices):
        slices = [slices]
    if isinstance(slices, str) or not isinstance(slices, Iterable):
        raise InputError(f"{slices!r} names no slices; write pairs (axis, index), for example [(0, 91), (1, 70)].")
    return [_named_slice(part) for part in slices]


def _is_pair(part: object) -> bool:
    return isinstance(part, tuple | list) and len(part) == 2 and all(hasattr(number, "__index__") for number in part)


def _named_slice(part: object) -> AnnotatedSlice:
    if isinstance(part, AnnotatedSlice):
        return part
    pair = tuple(part) if isinstance(part, Iterable) else ()
    if len(pair) != 2:
        raise InputError(f"Slice {part!r} is no pair of whole numbers; write (axis, index), for example (0, 91).")
    return AnnotatedSlice(*pair)


def detect_slices(labels: Labels) -> tuple[AnnotatedSlice, ...]:
    """Propose the annotated slices of a sparsely painted volume.

    A plane that was not painted shows only where painted planes cross it. So the plane with the most paint is taken
    first, its paint is removed, and so on, as long as a plane has `FEWEST` voxels left and a block of 2x2 painted
    voxels of which two are left. Structures one voxel thin and empty annotated slices cannot be found this way, and a
    structure painted in many neighbouring slices can be read along the wrong axis: the user corrects the proposal.

    Parameters
    ----------
    labels
        (z, y, x), 0 where nothing was painted.
    """
    box = _box_of(labels)
    paint = (labels[box] != 0).view(np.uint8)  # 2 where a plane was taken: a second volume takes longest
    counts = _paint_of_planes(paint)
    found: list[AnnotatedSlice] = []
    while True:
        axis = max(range(3), key=lambda axis: counts[axis].max())
        plane = AnnotatedSlice(axis, int(counts[axis].argmax()))
        if counts[axis][plane.index] < FEWEST:
            return tuple(sorted(AnnotatedSlice(p.axis, p.index + box[p.axis].start) for p in found))
        here = paint[plane.selector()]
        left = (here == 1).view(np.uint8)
        counts[axis][plane.index] = 0
        if not _shows_itself(here, left):
            continue
        found.append(plane)
        first, second = (other for other in range(3) if other != axis)
        counts[first] -= np.add.reduce(left, axis=1, dtype=np.uint32)
        counts[second] -= np.add.reduce(left, axis=0, dtype=np.uint32)
        here += left


def _box_of(labels: Labels) -> tuple[slice, slice, slice]:
    """Return the smallest box around all paint: looking for slices in it alone is quick enough after every stroke."""
    first = np.flatnonzero([plane.any() for plane in labels])
    if not first.size:
        return (slice(0, 1),) * 3
    along = slice(int(first[0]), int(first[-1]) + 1)
    shadow = np.any(labels[along], axis=0)
    second, third = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    return along, slice(int(second[0]), int(second[-1]) + 1), slice(int(third[0]), int(third[-1]) + 1)


def _paint_of_planes(paint: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Count the voxels that are 1, and not 0, in every plane of each axis, in one pass over the volume."""
    shadow = np.zeros(paint.shape[1:], dtype=np.int64)
    for start in range(0, len(paint), UNCOUNTED):
        shadow += np.add.reduce(paint[start : start + UNCOUNTED], axis=0, dtype=np.uint8)
    along = np.array([np.count_nonzero(plane) for plane in paint])
    return [along, shadow.sum(axis=1), shadow.sum(axis=0)]


def looks_sparse(painted: NDArray[np.bool_]) -> bool:
    """Tell whether paint (z, y, x) lies in planes: no block of 2x2x2 voxels is painted but where planes are neighbours.

    Of dense labels most voxels belong to one, unless their structures are one voxel thin.
    """
    blocks = painted
    for axis in range(3):
        along = np.moveaxis(blocks, axis, 0)
        blocks = np.moveaxis(along[1:] & along[:-1], 0, axis)
    return int(blocks.sum()) <= MOST_BLOCKS * int(painted.sum())


def _shows_itself(paint: NDArray[np.uint8], left: NDArray[np.uint8]) -> bool:
    """Tell whether a plane has 2x2 neighbours that are all painted, and two of which no other plane explains."""
    painted = paint != 0
    rows, pairs = painted[1:] & painted[:-1], left[1:] + left[:-1]
    return bool((rows[:, 1:] & rows[:, :-1] & (pairs[:, 1:] + pairs[:, :-1] >= 2)).any())


def annotated_mask(shape: Shape, slices: Iterable[AnnotatedSlice]) -> NDArray[np.bool_]:
    """Mark the voxels (z, y, x) that lie in any of the slices."""
    mask = np.zeros(shape, dtype=bool)
    for plane in slices:
        mask[plane.selector()] = True
    return mask


def crossings(shape: Shape, plane: AnnotatedSlice, others: Iterable[AnnotatedSlice]) -> NDArray[np.bool_]:
    """Mark the voxels of a plane, 2D, that lie in any of the other slices, too."""
    axes = [axis for axis in range(3) if axis != plane.axis]
    mask = np.zeros([shape[axis] for axis in axes], dtype=bool)
    for other in others:
        if other.axis != plane.axis:
            np.moveaxis(mask, axes.index(other.axis), 0)[other.index] = True
    return mask


@dataclass(frozen=True, eq=False)
class PaintedSlice:
    """One plane with its own painting: `labels` is 2D, the volume's shape without `plane.axis`."""

    plane: AnnotatedSlice
    labels: Labels


@dataclass(frozen=True)
class Conflict:
    """Two crossing slices disagree in `voxels` voxels; the labels of `kept` were used."""

    kept: AnnotatedSlice
    overruled: AnnotatedSlice
    voxels: int

    def __str__(self) -> str:
        kept, other = self.kept, self.overruled
        return (
            f"slice {kept.axis}:{kept.index} and slice {other.axis}:{other.index} disagree in "
            f"{self.voxels} voxel{'s' if self.voxels > 1 else ''}; {kept.axis}:{kept.index} was kept"
        )


Winner: TypeAlias = Literal["later", "earlier"]


def merge_slices(
    shape: Shape, painted: Sequence[PaintedSlice], winner: Winner = "later"
) -> tuple[NDArray[np.uint16], tuple[Conflict, ...]]:
    """Write painted slices into one volume and report every pair that disagrees where it crosses.

    Returns
    -------
    labels
        (z, y, x), 0 outside the slices.
    conflicts
        Empty if all crossing slices agree. Never resolved silently: show them.
    """
    check_choice("conflicts", winner, get_args(Winner))
    merged = np.zeros(shape, dtype=np.uint16)
    order = list(painted) if winner == "later" else list(reversed(painted))
    conflicts: list[Conflict] = []
    for position, current in enumerate(order):
        current.plane.check(shape)
        conflicts += _conflicts_with_earlier(shape, order[:position], current)
        merged[current.plane.selector()] = current.labels
    return merged, tuple(conflicts)


def _conflicts_with_earlier(shape: Shape, earlier: Sequence[PaintedSlice], current: PaintedSlice) -> list[Conflict]:
    found = []
    for other in earlier:
        crossing = annotated_mask(shape, [other.plane])[current.plane.selector()]
        volume = np.zeros(shape, dtype=np.uint16)
        volume[other.plane.selector()] = other.labels
        differing = int((crossing & (volume[current.plane.selector()] != current.labels)).sum())
        if differing:
            found.append(Conflict(kept=current.plane, overruled=other.plane, voxels=differing))
    return found
