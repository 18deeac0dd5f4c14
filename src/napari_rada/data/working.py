"""The working grid: the case as propagation and training see it, normalised and, if asked, coarser.

The grid covers what was scanned, or is cropped to the box around the annotated foreground, and can be coarsened.
Coarsening is block averaging by powers of two, always halving the axis with the finest spacing first, so that voxels
become rounder. Predictions come back to the case's own grid with `WorkingCase.to_full`.

An annotated slice is thinner than a block, and where in its block it lies moves everything that follows from it by a
part of a block. Two alignments, in which the slices lie just before and just after the middle of their blocks, err in
opposite directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2, prod
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.box import box_selector, box_shape, counted_part, foreground_box
from napari_rada.data.classes import UNKNOWN, ClassTable
from napari_rada.data.intensity import normalise
from napari_rada.data.resampling import Factors, Padding, block_mean, majority, upsample, upsample_planes
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.data.views import split_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.box import Box
    from napari_rada.data.case import Case
    from napari_rada.data.grid import Shape, Spacing

MIN_SIDE = 8
"""Coarsening to a spacing leaves an axis at least this many voxels, if it has them."""


EMPTY = 3
"""The bit of empty annotated slices, beside those of the three views."""


@dataclass(frozen=True, eq=False)
class WorkingCase:
    """A case on the working grid.

    Parameters
    ----------
    name
        The case's name.
    image
        (Z, Y, X) float32, intensities mapped to 0..1.
    spacing
        mm along (Z, Y, X).
    truth
        (Z, Y, X) int16 class index, `UNKNOWN` (-1) outside the annotated slices.
    views
        (Z, Y, X) uint8 bit mask: bit v is set where a slice of view v was annotated, bit `EMPTY` where an empty one was
        (see `split_slices`).
    slices
        The annotated slices on this grid, per view.
    num_classes
        Number of classes, background included.
    factors
        Voxels of the full grid per working voxel along (z, y, x).
    box
        The part of the full grid that is covered: first voxel and end along (z, y, x).
    full_shape
        Shape of the case's own grid.
    padding
        Voxels of the full grid, copies of the border, that were put before the box along (z, y, x).
    empty
        The annotated slices on this grid that show nothing and are in no view.
    finer
        The case in the same box on a finer grid, for what needs thinner slices; None if there is none, or it was not
        asked for.
    """

    name: str
    image: NDArray[np.float32]
    spacing: Spacing
    truth: NDArray[np.int16]
    views: NDArray[np.uint8]
    slices: tuple[tuple[AnnotatedSlice, ...], ...]
    num_classes: int
    factors: Factors
    box: Box
    full_shape: Shape
    padding: Padding = (0, 0, 0)
    empty: tuple[AnnotatedSlice, ...] = ()
    finer: WorkingCase | None = None

    @property
    def shape(self) -> Shape:
        """Shape (Z, Y, X) of the working grid."""
        return (self.image.shape[0], self.image.shape[1], self.image.shape[2])

    @property
    def is_labelled(self) -> bool:
        """True if at least one voxel is annotated."""
        return any(self.slices)

    def to_full(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring class probabilities (C, Z, Y, X) to the full grid (C, z, y, x).

        Interpolates linearly, voxel centres kept in place; outside the box everything is background.
        """
        return self.box_to_full(self.to_box(values))

    def to_box(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring class probabilities (C, Z, Y, X), or other maps, to the voxels of the full grid inside the box."""
        return upsample(values, self.factors, box_shape(self.box), self.padding)

    def planes_in_box(self, values: NDArray[np.float32], planes: slice) -> NDArray[np.float32]:
        """Return some `planes` along z of what `to_box` returns."""
        return upsample_planes(values, self.factors, box_shape(self.box), self.padding, planes)

    def box_to_full(self, inside: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put class probabilities of the box onto the full grid; outside everything is background."""
        if inside.shape[1:] == self.full_shape:
            return inside
        full = np.zeros((len(inside), *self.full_shape), dtype=np.float32)
        full[0] = 1.0
        full[(slice(None), *box_selector(self.box))] = inside
        return full

    def map_to_full(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring one map (Z, Y, X) to the full grid (z, y, x); 0 outside the box."""
        return self.put_in_full(self.to_box(values[None])[0])

    def put_in_full(self, inside: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put a map of the box onto the full grid (z, y, x); outside it is 0."""
        full = np.zeros(self.full_shape, dtype=np.float32)
        full[box_selector(self.box)] = inside
        return full


def make_working_case(
    case: Case,
    classes: ClassTable,
    *,
    max_voxels: int | None = None,
    whole: bool = False,
    crop_margin: float | None = None,
    percentiles: tuple[float, float] = (1.0, 99.0),
    window: tuple[float, float] | None = None,
) -> WorkingCase:
    """Normalise a case, crop it, and coarsen it until it has at most `max_voxels` voxels.

    Parameters
    ----------
    whole
        Keep the volume as it is, whatever was scanned of it.
    crop_margin
        Crop to the box around the annotated foreground, widened on every side by this share of its length. With None,
        and of unlabelled cases, border planes that hold only the darkest value are left out
        (`napari_rada.data.scanned`).
    max_voxels
        None keeps the full grid.
    percentiles
        Intensities mapped to 0 and 1; values beyond are clipped. Voxels in such planes do not count.
    window
        Lower and upper intensity instead of percentiles (CT: for example -125, 275 HU).
    """
    return make_working_cases(
        case,
        classes,
        max_voxels=max_voxels,
        whole=whole,
        crop_margin=crop_margin,
        percentiles=percentiles,
        window=window,
    )[0]


def make_working_cases(
    case: Case,
    classes: ClassTable,
    *,
    aligned: bool = False,
    finer_voxels: int | None = None,
    max_voxels: int | None = None,
    spacing: Spacing | None = None,
    whole: bool = False,
    crop_margin: float | None = None,
    around: int | None = None,
    percentiles: tuple[float, float] = (1.0, 99.0),
    window: tuple[float, float] | None = None,
) -> list[WorkingCase]:
    """Make the working case, or the two in which the annotated slices are `aligned`; see `make_working_case`.

    With a `spacing`, mm along (z, y, x), the grid has it whatever `max_voxels` says; see `grid_factors`.
    Aligned slices lie just before the middle of their blocks in the first and just after it in the second. Because
    of the padding such a grid can have one voxel more along an axis than `max_voxels` counts. Where nothing is
    coarsened both would be the same, and there is one. With `finer_voxels` each has the case on a grid of at most so
    many voxels beside it (`WorkingCase.finer`), which is not aligned, where that is finer. `around` is the label value
    of the only structure that it is cropped to; the others are there as far as they reach into its box.
    """
    box = ((0, 0, 0), case.grid.shape) if whole else foreground_box(case, crop_margin, around)
    counted = () if whole else counted_part(case, crop_margin)
    image = normalise(case.image, percentiles, window, case.name, box_selector(box), counted)
    fine = _fine(case, classes, box, image)
    factors = grid_factors(fine.shape, case.grid.spacing, max_voxels, spacing)
    if finer_voxels is not None:
        finer = coarsening_factors(fine.shape, case.grid.spacing, finer_voxels)
        if prod(finer) < prod(factors):
            fine = replace(fine, finer=coarsen(fine, finer))
    if not aligned:
        return [coarsen(fine, factors)]
    paddings = dict.fromkeys(aligning_padding(fine, factors, after=after) for after in (False, True))
    return [coarsen(fine, factors, padding) for padding in paddings]


def _fine(case: Case, classes: ClassTable, box: Box, image: NDArray[np.float32]) -> WorkingCase:
    """Crop a case to a box, in which its normalised image is given; not coarsened."""
    shape = box_shape(box)
    truth = np.full(shape, UNKNOWN, dtype=np.int16)
    views = np.zeros(shape, dtype=np.uint8)
    placed: list[tuple[AnnotatedSlice, ...]] = []
    groups, empty = split_slices(case)
    for view, group in enumerate((*groups, empty)):
        inside = [s for s in group if box[0][s.axis] <= s.index < box[1][s.axis]]
        placed.append(tuple(AnnotatedSlice(s.axis, s.index - box[0][s.axis]) for s in inside))
        for plane in placed[-1]:
            assert case.labels is not None
            truth[plane.selector()] = classes.encode(case.labels[box_selector(box)][plane.selector()])
            views[plane.selector()] |= np.uint8(1 << view)
    return WorkingCase(
        name=case.name,
        image=image,
        spacing=case.grid.spacing,
        truth=truth,
        views=views,
        slices=tuple(placed[:EMPTY]),
        num_classes=len(classes),
        factors=(1, 1, 1),
        box=box,
        full_shape=case.grid.shape,
        empty=placed[EMPTY],
    )


def aligning_padding(case: WorkingCase, factors: Factors, *, after: bool) -> Padding:
    """Return the padding with which annotated slices lie just before, or just after, the middle of their blocks.

    Along an axis with several slices it is the padding that comes closest to that for all of them, among those by which
    the fewest fall into one block.
    """
    padding = []
    for axis, factor in enumerate(factors):
        indices = [plane.index for planes in (*case.slices, case.empty) for plane in planes if plane.axis == axis]
        wanted = factor // 2 - (not after)
        costs = []
        for before in range(factor):
            blocks = {(index + before) // factor for index in indices}
            away = sum(abs((index + before) % factor - wanted) for index in indices)
            costs.append((-len(blocks), away))
        padding.append(costs.index(min(costs)) if indices else (factor // 2) * after)
    return (padding[0], padding[1], padding[2])


def coarsen(case: WorkingCase, factors: Factors, padding: Padding = (0, 0, 0)) -> WorkingCase:
    """Average blocks of `factors` voxels; in annotated slices the majority of each block's voxels decides.

    The voxels beside a slice, which are unknown, take no part in that vote. Slices that fall into one plane vote
    together.

    Parameters
    ----------
    padding
        Voxels to put before the first ones, copies of the border; along each axis fewer than the factor.
    """
    if factors == (1, 1, 1):
        return case
    image = block_mean(case.image, factors, padding)
    truth = np.full(image.shape, UNKNOWN, dtype=np.int16)
    views = np.zeros(image.shape, dtype=np.uint8)
    placed: list[tuple[AnnotatedSlice, ...]] = []
    planes: dict[AnnotatedSlice, list[NDArray[np.int16]]] = {}
    for view, group in enumerate((*case.slices, case.empty)):
        merged = [AnnotatedSlice(s.axis, (s.index + padding[s.axis]) // factors[s.axis]) for s in group]
        # Neighbours can fall into one plane; an empty one beside one that shows something then belongs to its view.
        taken = {plane for planes_of_view in placed for plane in planes_of_view} if view == EMPTY else set()
        placed.append(tuple(plane for plane in dict.fromkeys(merged) if plane not in taken))
        for fine, coarse in zip(group, merged, strict=True):
            planes.setdefault(coarse, []).append(case.truth[fine.selector()])
        for coarse in placed[view]:
            views[coarse.selector()] |= np.uint8(1 << view)
    for coarse, together in planes.items():
        across = _without(factors, coarse.axis), _without(padding, coarse.axis)
        truth[coarse.selector()] = majority(together, case.num_classes, *across)
    spacing = tuple(s * f for s, f in zip(case.spacing, factors, strict=True))
    total = tuple(f * g for f, g in zip(case.factors, factors, strict=True))
    before = tuple(p + f * q for p, f, q in zip(case.padding, case.factors, padding, strict=True))
    return replace(
        case,
        image=image,
        spacing=(spacing[0], spacing[1], spacing[2]),
        truth=truth,
        views=views,
        slices=tuple(placed[:EMPTY]),
        factors=(total[0], total[1], total[2]),
        padding=(before[0], before[1], before[2]),
        empty=placed[EMPTY],
    )


def grid_factors(shape: Shape, spacing: Spacing, max_voxels: int | None, target: Spacing | None) -> Factors:
    """Return powers of two per axis that bring a scan to the working grid.

    With a `target` (mm) those that come closest to it, in ratio, and leave an axis of 8 voxels or more at least 8;
    else those of `coarsening_factors`.
    """
    if target is None:
        return coarsening_factors(shape, spacing, max_voxels)
    z, y, x = (_nearest_power(size, mm, aim) for size, mm, aim in zip(shape, spacing, target, strict=True))
    return (z, y, x)


def _nearest_power(size: int, spacing: float, target: float) -> int:
    most = max(0, (size // MIN_SIDE).bit_length() - 1)
    return int(2 ** min(most, max(0, round(log2(target / spacing)))))


def coarsening_factors(shape: Shape, spacing: Spacing, max_voxels: int | None) -> Factors:
    """Return powers of two per axis that bring `shape` to at most `max_voxels` voxels, finest axis first."""
    factors = [1, 1, 1]
    size = list(shape)
    while max_voxels is not None and size[0] * size[1] * size[2] > max_voxels:
        candidates = [axis for axis in range(3) if size[axis] >= 16]
        if not candidates:
            break
        # Rounded, so that equal spacings of an oblique scan are equal.
        axis = min(candidates, key=lambda a: (float(f"{spacing[a] * factors[a]:.6g}"), -size[a]))
        factors[axis] *= 2
        size[axis] = -(-shape[axis] // factors[axis])
    return (factors[0], factors[1], factors[2])


def relative_factors(coarse: WorkingCase, fine: WorkingCase) -> Factors:
    """Return the voxels of the finer working grid per voxel of the coarser one along (z, y, x)."""
    z, y, x = (c // f for c, f in zip(coarse.factors, fine.factors, strict=True))
    return (z, y, x)


def regrid(values: NDArray[np.float32], made_on: WorkingCase, wanted: WorkingCase) -> NDArray[np.float32]:
    """Bring (C, Z, Y, X) from one working grid to another of the same box.

    As if it was interpolated to the voxels of the full grid, and those were averaged; both work along one axis after
    the other, so that they come to one small matrix for each.
    """
    assert made_on.box == wanted.box
    for axis, length in enumerate(box_shape(made_on.box)):
        along_nm = _along(made_on, wanted, axis, length)
        values = np.tensordot(values, along_nm, axes=(1, 0))  # the new axis comes last, and the next is the second
    return np.ascontiguousarray(values, dtype=np.float32)


def _along(made_on: WorkingCase, wanted: WorkingCase, axis: int, length: int) -> NDArray[np.float32]:
    """How much each voxel along an axis (n) counts for each one of another grid (m); `length` full voxels."""
    each = np.eye(made_on.shape[axis], dtype=np.float32)[:, None, None]
    full = upsample(each, (1, 1, made_on.factors[axis]), (1, 1, length), (0, 0, made_on.padding[axis]))
    return block_mean(full[:, 0], (1, 1, wanted.factors[axis]), (0, 0, wanted.padding[axis]))[:, 0]


def _without(factors: Factors, axis: int) -> tuple[int, int]:
    rest = [factor for position, factor in enumerate(factors) if position != axis]
    return (rest[0], rest[1])
