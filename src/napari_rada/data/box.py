"""Boxes of a scan's voxels, above all the one around what is annotated, or what was scanned.

A box is its first voxel and its end along (z, y, x).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from napari_rada.data.reach import reach
from napari_rada.data.scanned import box_above, hull, scanned_box

if TYPE_CHECKING:
    from napari_rada.data.case import Case
    from napari_rada.data.grid import Shape

Box: TypeAlias = tuple[tuple[int, int, int], tuple[int, int, int]]

MIN_CROP_MARGIN = 8
"""What a crop leaves around the annotated foreground at the least, in units of the finest spacing."""


def foreground_box(case: Case, margin: float | None, value: int | None = None) -> Box:
    """Box around the annotated foreground, or one value of it, widened by `margin`; without it what was scanned.

    Slips of the brush do not widen it (`reach`). Along an axis that no slice with foreground runs along nobody has seen
    where the structure ends, and the box is as long as the volume. Empty annotated slices bound the structure and lie
    inside the box or are of no use.
    """
    if margin is None or case.labels is None:
        return _scanned(case)
    structure = case.labels != 0 if value is None else case.labels == value
    if not structure.any():
        return _scanned(case)
    shape = case.grid.shape
    start, end, ends = [], [], reach(case, structure)
    shown = {plane.axis for plane in case.annotated if structure[plane.selector()].any()}
    for axis in range(3):
        if shown <= {axis}:
            start.append(0)
            end.append(shape[axis])
            continue
        first, last = ends[axis][0], ends[axis][1] + 1
        least = ceil(MIN_CROP_MARGIN * min(case.grid.spacing) / case.grid.spacing[axis])
        width = max(least, round(margin * (last - first)))
        start.append(max(0, first - width))
        end.append(min(shape[axis], last + width))
    return (start[0], start[1], start[2]), (end[0], end[1], end[2])


def showing(case: Case, value: int | None = None) -> int:
    """Count the annotated slices that show something, or one value of it."""
    if case.labels is None:
        return 0
    found = (case.labels[plane.selector()] for plane in case.annotated)
    return sum(bool((labels != 0 if value is None else labels == value).any()) for labels in found)


def _scanned(case: Case) -> Box:
    """Box of what was scanned and painted; the whole volume if every annotated slice is empty, so that none is lost."""
    box = scanned_box(case.image)
    if case.labels is None:
        return box
    painted = box_above(case.labels, 0)
    both = None if painted is None else hull(box, painted)
    return both or ((0, 0, 0), case.grid.shape)


def counted_part(case: Case, margin: float | None) -> tuple[slice, ...]:
    """Index of the voxels among which percentiles are sought: what was scanned, or all where a case is cropped."""
    cropped = margin is not None and case.labels is not None and case.labels.any()
    return () if cropped else box_selector(scanned_box(case.image))


def told_cut_short(case: Case, margin: float | None) -> str | None:
    """Say which structures end with the box of all, though nobody has seen where they end; None if there is none."""
    if margin is None or case.labels is None or case.classes is None:
        return None
    whole = foreground_box(case, margin)
    names = [
        info.name
        for info in case.classes.classes[1:]
        if (case.labels == info.value).any() and not _holds(whole, foreground_box(case, margin, info.value))
    ]
    if not names:
        return None
    return (
        f"{case.name}: {' and '.join(names)} {'is' if len(names) == 1 else 'are'} annotated in slices of one direction "
        "only, and looked for as far as the other structures reach; annotate a slice in another direction, or set "
        "data.crop_margin=null."
    )


def _holds(box: Box, other: Box) -> bool:
    return bool(np.all(np.less_equal(box[0], other[0])) and np.all(np.greater_equal(box[1], other[1])))


def box_shape(box: Box) -> Shape:
    """Shape (z, y, x) of a box."""
    (z0, y0, x0), (z1, y1, x1) = box
    return (z1 - z0, y1 - y0, x1 - x0)


def box_selector(box: Box) -> tuple[slice, slice, slice]:
    """Index that takes a box out of a (z, y, x) array."""
    (z0, y0, x0), (z1, y1, x1) = box
    return slice(z0, z1), slice(y0, y1), slice(x0, x1)


def overlap(one: Box, other: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where two boxes of one volume lie over each other: in the first, and in the second; empty if they do not."""
    low = np.maximum(one[0], other[0])
    high = np.maximum(low, np.minimum(one[1], other[1]))
    first, second = (
        tuple(slice(int(a - start), int(b - start)) for a, b, start in zip(low, high, box[0], strict=True))
        for box in (one, other)
    )
    return first, second
