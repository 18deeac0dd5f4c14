"""Planning: what is settled from the cases before a run starts, and written into its settings.

Several cases share one working grid, so that a structure has one size in voxels everywhere, in scans that are
predicted later too; and a patch shows as much of them as is affordable.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_rada.data.box import box_shape, foreground_box, showing
from napari_rada.data.orientation import common_orientation, turn_of
from napari_rada.data.working import coarsening_factors, grid_factors
from napari_rada.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.config import RunConfig
    from napari_rada.data.case import Case
    from napari_rada.data.grid import Grid, Shape, Spacing

SPACING_DIGITS = 6
"""Significant digits of a planned spacing: microscopes have voxels of millionths of a millimetre."""
STEP = 8
"""Sides of a planned patch are multiples of this, which networks with three downsamplings need not pad."""

MOST_EMPTY = 64
"""A patch may be so many times as large as all scans, each side of which counts at least `SMALL`."""
SMALL = 32


def plan(cases: Sequence[Case], config: RunConfig) -> RunConfig:
    """Return the settings of a run on these cases: a run's config.yaml holds them.

    All are to lie as most annotated ones do. Several cases get the preset's settings for cohorts and one spacing; where
    all are annotated, self-training has no scan for the preset's patches without labels, and there are none;
    `training.patch_voxels` becomes a patch. What was chosen stays (orientation, spacing, patch), so that planning twice
    changes nothing.

    Raises
    ------
    ConfigError
        If the networks could not learn from such patches, or they are far larger than the scans.
    """
    changes: dict[str, Any] = {"data.orientation": config.data.orientation or common_orientation(cases)}
    cases = [turn_of(case, changes["data.orientation"]).outline(case) for case in cases]
    if len(cases) > 1:
        config = config.for_cohort()
        if config.data.spacing is None and config.data.max_voxels is not None:
            grids = [replace(case.grid, shape=_scanned(case)) for case in cases]
            changes["data.spacing"] = list(common_spacing(grids, config.data.max_voxels))
    changed = config.changes()
    if config.training.self_training and all(case.is_labelled for case in cases):
        changes["training.unlabelled_patches"] = changed.get("training.unlabelled_patches", 0)
    if "training.patch" in changed:
        changes["training.patch_voxels"] = changed.get("training.patch_voxels")
    config = config.with_settings(changes)
    shapes = [working_shape(case, config) for case in cases]
    if config.training.patch_voxels is not None:
        patch = largest_patch(shapes, config.training.patch_voxels)
        config = config.with_settings({"training.patch": list(patch), "training.patch_voxels": None})
    _check_patch(config.training.patch, shapes)
    _check_norm(config)
    return config


def _check_patch(patch: Shape, shapes: Sequence[Shape]) -> None:
    """Raise if hardly anything of a patch would be scan: a slip, for which memory may run out."""
    longest = [max(side, SMALL) for side in np.max(shapes, axis=0).tolist()]
    if prod(patch) > MOST_EMPTY * prod(longest):
        raise ConfigError(
            f"training.patch of {list(patch)} voxels is far larger than all scans, which have at most "
            f"{np.max(shapes, axis=0).tolist()} on the working grid; choose about as much."
        )


def _check_norm(config: RunConfig) -> None:
    """Raise if batch normalisation would have a single value to take mean and variance of."""
    training, stride = config.training, 2 ** (len(config.model.blocks) - 1)
    deepest = prod(ceil(side / stride) for side in training.patch)
    if config.model.norm == "batch" and deepest * (training.labelled_patches + training.unlabelled_patches) == 1:
        raise ConfigError(
            f"One patch of {training.patch} voxels leaves batch normalisation a single value; choose a larger "
            "training.patch, more training.labelled_patches, or model.norm=instance."
        )


def teaching(cases: Sequence[Case], config: RunConfig) -> list[Case]:
    """Return the cases that the networks learn from: all, or those with annotated slices if no patch is unlabelled."""
    return [case for case in cases if case.is_labelled or config.training.unlabelled_patches]


class Scan(NamedTuple):
    """The grid of a case, the shape of the part of it that was scanned, and how many of its slices show something."""

    grid: Grid
    scanned: Shape
    showing: int


def teaching_scans(cases: Sequence[Case], config: RunConfig) -> list[Scan]:
    """Return the scans of the cases that the networks learn from, turned as planned settings say."""
    turned = (turn_of(case, config.data.orientation).outline(case) for case in teaching(cases, config))
    return [Scan(case.grid, _scanned(case), showing(case)) for case in turned]


def _scanned(case: Case) -> Shape:
    return box_shape(foreground_box(case, None))


def left_out(cases: Sequence[Case], config: RunConfig) -> str | None:
    """Say how many cases the networks do not learn from; None if they learn from all."""
    number = len(cases) - len(teaching(cases, config))
    if not number:
        return None
    scans = "1 scan without annotated slices is" if number == 1 else f"{number} scans without annotated slices are"
    remedy = "training.unlabelled_patches=1"
    if not config.base(cohort=config.cohort).training.unlabelled_patches:  # else the run has the preset already
        remedy = f"the preset standard, or {remedy},"
    return f"{scans} left out of training; {remedy} makes networks learn there, too."


def common_spacing(grids: Sequence[Grid], max_voxels: int) -> Spacing:
    """Return the spacing (mm) at which the median case comes to at most `max_voxels`, coarsened by powers of two."""
    spacing = np.median([grid.spacing for grid in grids], axis=0)
    extent = np.median([np.multiply(grid.shape, grid.spacing) for grid in grids], axis=0)
    depth, height, width = (max(1, round(side)) for side in extent / spacing)
    between = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    coarse = np.multiply(spacing, coarsening_factors((depth, height, width), between, max_voxels))
    z, y, x = (float(f"{step:.{SPACING_DIGITS}g}") for step in coarse)
    return (z, y, x)


def working_shape(case: Case, config: RunConfig) -> Shape:
    """Return the shape that a case has on the working grid; the largest that it may have where slices are aligned."""
    shape = box_shape(foreground_box(case, config.data.crop_margin))
    factors = grid_factors(shape, case.grid.spacing, config.data.voxels_with(showing(case)), config.data.spacing)
    aligned = config.data.working_aligned and case.is_labelled
    padding = [factor - 1 if aligned else 0 for factor in factors]
    z, y, x = (-(-(size + before) // factor) for size, before, factor in zip(shape, padding, factors, strict=True))
    return (z, y, x)


def largest_patch(shapes: Sequence[Shape], voxels: int) -> Shape:
    """Return the patch of at most `voxels` that shows the most of the largest shape along each axis.

    The side that shows the largest share of its axis is shortened first.
    """
    longest = np.max(shapes, axis=0)
    patch = -(-longest // STEP) * STEP
    while prod(patch.tolist()) > voxels and patch.max() > STEP:
        patch[np.where(patch > STEP, patch / longest, 0.0).argmax()] -= STEP
    z, y, x = patch.tolist()
    return (z, y, x)
