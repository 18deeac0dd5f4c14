"""How far painted structures reach, slips of the brush left aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.case import Case

SLIP = 10
"""Voxels of a structure, painted apart from all others, of which a slip of the brush has fewer."""
SLIPS = 0.005
"""Largest share of the paint of a structure that can be slips; one with more of them is made of small parts."""


def reach(case: Case, painted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the last plane along each axis of what is painted.

    One voxel far away would make the box around a structure much larger, and the grid in it coarser. So outermost
    planes that show nothing but slips do not count: parts of fewer than `SLIP` voxels in slices that show more of the
    structure, if all that would be left aside at one end are no more than `SLIPS` of it.

    Parameters
    ----------
    case
        A labelled case.
    painted
        (z, y, x), True where its labels have some value, or one of several; not empty.
    """
    assert case.labels is not None
    most = SLIPS * np.bincount(case.labels[painted])
    found = []
    for axis in range(3):
        planes = np.flatnonzero(painted.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (_outermost(case, painted, axis, order, most) for order in (planes, planes[::-1]))
        found.append((first, last))
    return found


def _outermost(
    case: Case, painted: NDArray[np.bool_], axis: int, planes: NDArray[np.intp], most: NDArray[np.floating]
) -> int:
    """Return the first of some painted planes that shows more than slips; `most` voxels of each value can be slips."""
    assert case.labels is not None
    slips = np.zeros(len(most))
    for plane in planes:
        voxels = np.insert(np.argwhere(np.moveaxis(painted, axis, 0)[plane]), axis, plane, axis=1)
        if not all(_is_slip(case, tuple(voxel)) for voxel in voxels):
            return int(plane)
        slips += np.bincount(case.labels[tuple(voxels.T)], minlength=len(most))
        if (slips > most).any():
            break
    return int(planes[0])


def _is_slip(case: Case, voxel: tuple[int, ...]) -> bool:
    """Tell whether few voxels of its value are near a voxel, and many elsewhere in the annotated slices through it."""
    assert case.labels is not None
    value = case.labels[voxel]
    near = case.labels[tuple(slice(max(0, at - SLIP + 1), at + SLIP) for at in voxel)]
    through = (plane for plane in case.annotated if voxel[plane.axis] == plane.index)
    return int((near == value).sum()) < SLIP and all(
        int((case.labels[plane.selector()] == value).sum()) >= 2 * SLIP for plane in through
    )
