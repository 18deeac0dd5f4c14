"""The part of a volume that was scanned: without border planes that hold nothing but the darkest value.

Zeros around a scan that was resampled, registered or stripped of the skull are no part of it. They would make the grid
coarser that covers it, and the intensities of all else others.

A volume in memory is looked at from its border inwards (`scanned_box`). One that is read block by block has the same
box, from what every block tells of itself (`Extent`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.data.percentiles import as_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.box import Box
    from napari_rada.data.grid import Shape

LEAST = 2
"""An axis along which fewer voxels would be left stays whole: volumes have two at the least."""


def scanned_box(image: NDArray[np.floating]) -> Box:
    """Box of a volume (z, y, x) of finite values without the border planes that hold only the darkest value."""
    return _whole_where_thin(box_above(image, float(image.min())), image.shape)


def box_above(values: NDArray[Any], low: float) -> Box | None:
    """Box of the finite values of a block (z, y, x) that are above one; None if there is none."""
    start, end = [0, 0, 0], list(values.shape)
    for axis in range(3):
        inside = values[tuple(slice(a, b) for a, b in zip(start, end, strict=True))]
        planes = np.moveaxis(inside, axis, 0)
        first = next((number for number, plane in enumerate(planes) if _shows(plane, low)), None)
        if first is None:
            return None
        last = next(number for number in range(len(planes) - 1, -1, -1) if _shows(planes[number], low))
        start[axis], end[axis] = start[axis] + first, start[axis] + last + 1
    return _box(start, end)


def _shows(plane: NDArray[Any], low: float) -> bool:
    above: NDArray[np.bool_] = plane > low
    return bool(above.any() and (above & np.isfinite(plane)).any())


@dataclass(frozen=True)
class Extent:
    """What one block, or several, tell of the part of a volume that was scanned.

    Parameters
    ----------
    low
        The lowest finite value, as float32; infinite if there is none.
    above, finite
        Box, in the volume, of the finite values above it, and of all finite ones; None where there are none.
    """

    low: float
    above: Box | None
    finite: Box | None

    @classmethod
    def of(cls, block: NDArray[Any], start: Shape) -> Extent:
        """Look at a block whose first voxel is `start` in the volume."""
        values = as_float(block)
        low = float(values.min(initial=np.inf, where=np.isfinite(values)))
        above, finite = (_moved(box_above(values, least), start) for least in (low, -np.inf))
        return cls(low, above, finite)

    def __add__(self, other: Extent) -> Extent:
        """Return what both tell: where one has a lower value, nothing of the other is darkest."""
        low = min(self.low, other.low)
        above = [part.above if part.low == low else part.finite for part in (self, other)]
        return Extent(low, hull(*above), hull(self.finite, other.finite))

    def box(self, shape: Shape) -> Box:
        """Return what `scanned_box` returns for the whole volume, of this shape, where gaps hold its darkest value."""
        return _whole_where_thin(self.above, shape)


def hull(*boxes: Box | None) -> Box | None:
    """Return the smallest box that holds all that there are; None if there are none."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    starts, ends = zip(*there, strict=True)
    return _box(np.min(starts, axis=0).tolist(), np.max(ends, axis=0).tolist())


def _whole_where_thin(box: Box | None, shape: Sequence[int]) -> Box:
    start, end = box or ((0, 0, 0), (0, 0, 0))
    thin = [b - a < LEAST for a, b in zip(start, end, strict=True)]
    first = [0 if whole else a for whole, a in zip(thin, start, strict=True)]
    last = [size if whole else b for whole, size, b in zip(thin, shape, end, strict=True)]
    return _box(first, last)


def _moved(box: Box | None, start: Shape) -> Box | None:
    return None if box is None else _box(*([a + b for a, b in zip(corner, start, strict=True)] for corner in box))


def _box(start: Sequence[int], end: Sequence[int]) -> Box:
    return (start[0], start[1], start[2]), (end[0], end[1], end[2])
