"""Turning volumes so that their axes lie alike: axes are swapped and reversed, nothing is interpolated.

Networks that see a scan as an array know it the way they were shown: with the liver at the low end of the last axis,
say. The same scan can be stored mirrored, or with its axes in another order, and its header says so.

An orientation is written as nibabel does (`aff2axcodes`): where the file's axes x, y, z lead, such as RAS or LPS.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_rada.data.grid import ENDS, Grid
from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.data.grid import Shape

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Turn:
    """How a volume (z, y, x) is turned.

    Parameters
    ----------
    order
        Which of the volume's axes becomes axis 0, 1 and 2.
    reversed_axes
        Of the new axes, those that run backwards.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    reversed_axes: tuple[int, ...] = ()

    @classmethod
    def between(cls, found: str | None, wanted: str | None) -> Turn:
        """Return the turn from one orientation to another; none if one of them is not known."""
        if found is None or wanted is None:
            return cls()
        world = [_world(letter) for letter in reversed(found)]
        order = [world.index(_world(letter)) for letter in reversed(wanted)]
        backwards = (axis for axis, old in enumerate(order) if found[2 - old] != wanted[2 - axis])
        return cls((order[0], order[1], order[2]), tuple(backwards))

    def __bool__(self) -> bool:
        return self != Turn()

    def array(self, values: NDArray[T]) -> NDArray[T]:
        """Turn (…, z, y, x)."""
        return np.ascontiguousarray(self._view(values))

    def _view(self, values: NDArray[T]) -> NDArray[T]:
        lead = values.ndim - 3
        swapped = values.transpose(*range(lead), *(lead + axis for axis in self.order))
        return np.flip(swapped, tuple(lead + axis for axis in self.reversed_axes))

    def back(self, values: NDArray[T]) -> NDArray[T]:
        """Turn (…, z, y, x) back."""
        lead = values.ndim - 3
        straight = np.flip(values, tuple(lead + axis for axis in self.reversed_axes))
        order = (lead + self.order.index(axis) for axis in range(3))
        return np.ascontiguousarray(straight.transpose(*range(lead), *order))

    def grid(self, grid: Grid) -> Grid:
        """Return the grid of the turned volume: every voxel stays where it is in the world."""
        from_new = np.zeros((4, 4))
        from_new[3, 3] = 1.0
        for axis, old in enumerate(self.order):
            backwards = axis in self.reversed_axes
            from_new[old, axis] = -1.0 if backwards else 1.0
            from_new[old, 3] = grid.shape[old] - 1 if backwards else 0.0
        z, y, x = (grid.shape[old] for old in self.order)
        return replace(grid, shape=(z, y, x), affine=grid.affine @ from_new)

    def plane(self, plane: AnnotatedSlice, shape: Shape) -> AnnotatedSlice:
        """Return where an annotated slice of a volume of `shape` lies in the turned one."""
        axis = self.order.index(plane.axis)
        last = shape[plane.axis] - 1
        return AnnotatedSlice(axis, last - plane.index if axis in self.reversed_axes else plane.index)

    def case(self, case: Case) -> Case:
        """Turn a case: image, labels and annotated slices; the case itself if nothing is to be turned."""
        outline = self.outline(case)
        return replace(outline, image=np.ascontiguousarray(outline.image)) if self else case

    def outline(self, case: Case) -> Case:
        """Turn a case whose image is only looked at: it stays where it is in memory, which is slow to compute with."""
        if not self:
            return case
        planes = (self.plane(plane, case.grid.shape) for plane in case.annotated)
        labels = None if case.labels is None else self.array(case.labels)
        image, grid = self._view(case.image), self.grid(case.grid)
        return replace(case, image=image, grid=grid, labels=labels, annotated=tuple(sorted(planes)))


def turn_of(case: Case, wanted: str | None) -> Turn:
    """Return the turn that brings a case to an orientation."""
    return Turn.between(case.grid.orientation, wanted)


def told_turned(case: Case, wanted: str | None) -> str | None:
    """Say that a case is turned for the networks, or that nobody knows whether it should be; None if it lies right."""
    found = case.grid.orientation
    if wanted is None or found == wanted:
        return None
    if found is None:
        return f"{case.name} does not say how it lies in the patient; it is taken to lie as the networks know scans."
    return f"{case.name} lies as {found}; it is turned to {wanted}, as the networks know scans, and results back."


def common_orientation(cases: Iterable[Case]) -> str | None:
    """Return the orientation of most of the annotated cases, of equals the first; None if none is known."""
    known = Counter(case.grid.orientation for case in cases if case.is_labelled and case.grid.orientation)
    return known.most_common(1)[0][0] if known else None


def _world(letter: str) -> int:
    """Direction of the world that a letter lies on: 0 left-right, 1 back-front, 2 foot-head."""
    return next(world for world, pair in enumerate(ENDS) if letter in pair)
