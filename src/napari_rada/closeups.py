"""Close-ups: structures that are small beside the others are propagated again, each on a finer grid of its own.

Several structures share one working grid, and the box around all of them says how large its voxels are. A kidney beside
a liver, or the aorta in a whole abdomen, then has few. So each such structure is propagated once more in the box around
itself, all others being one there as far as they reach into it, and what comes out for it counts inside that box.

Shape legend: C classes, K classes of a close-up (background, the structure, all others), z y x a part of the full grid.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada.data.box import box_shape, foreground_box, overlap, showing
from napari_rada.data.classes import ClassTable
from napari_rada.data.slices import annotated_mask
from napari_rada.data.working import grid_factors
from napari_rada.preparation import CLOSE_MARGIN, own_config, own_grids, propagated
from napari_rada.propagation.regridding import in_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.box import Box
    from napari_rada.data.working import WorkingCase
    from napari_rada.preparation import Work
    from napari_rada.propagation.base import Probability
    from napari_rada.propagation.regridding import Made

FINER = 2
"""A close-up is worth its time if its voxels are smaller than those of the common grid by this factor, in volume."""
ROOM = 1e-3
"""Where the other classes together are less likely than this, they do not say whether there is background."""
STRUCTURE, OTHERS = 1, 2
"""Classes of a close-up beside background, by label value and by index."""
TRACE = 1e-12
"""Added to each of several structures that share what a close-up calls others, for where none of them is likely."""


class CloseUp(NamedTuple):
    """A class, by its index, that is propagated in a box of its own."""

    class_index: int
    box: Box


def propagated_closely(work: Work, made: Sequence[Made]) -> Probability:
    """Return what was propagated on grids of one box, on the scan's own voxels there, with close-ups put in.

    Parameters
    ----------
    made
        What was propagated for all classes together.

    Returns
    -------
    numpy.ndarray
        Probability (C, z, y, x) inside the box of the grids. What was made is left as it is.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    probability = in_box(made, work.control)
    for one in worth_it(work, made[0].case) if work.config.data.close_ups else []:
        work.control.check()
        alone = _others_as_one(work, one)
        grids = own_grids(alone, around=STRUCTURE)
        if not (grids[0].truth == STRUCTURE).any():
            continue  # too thin to be seen even there
        found = in_box(propagated(alone, grids, held_out=False, focus=STRUCTURE), work.control)
        inside, there = overlap(grids[0].box, made[0].case.box)
        put_in(probability[(slice(None), *there)], found[(slice(None), *inside)], one.class_index)
    return probability


def worth_it(work: Work, common: WorkingCase) -> list[CloseUp]:
    """Return the structures that have a much finer grid in a box of their own than on the common one.

    Those with large boxes come first, so that the finest close-ups have the last word.
    """
    case, classes = work.case, work.classes
    if case.labels is None:
        return []
    annotated = [classes.classes[index] for index in np.unique(classes.encode(case.labels[case.known])) if index]
    if len(annotated) == 1:
        return []
    data, found = own_config(work.config, close=True).data, []
    for one in annotated:
        box, most = foreground_box(case, CLOSE_MARGIN, one.value), data.voxels_with(showing(case, one.value))
        if prod(grid_factors(box_shape(box), case.grid.spacing, most, None)) * FINER <= prod(common.factors):
            found.append(CloseUp(classes.values.index(one.value), box))
    return sorted(found, key=lambda one: prod(box_shape(one.box)), reverse=True)


def put_in(probability: NDArray[np.float32], close: NDArray[np.float32], index: int) -> None:
    """Give one class of a probability (C, z, y, x), in place, what a close-up (K, z, y, x) says.

    The others share what is left as they did before; where nothing was left for them, the close-up tells how likely
    background is.
    """
    left = 1.0 - probability[index]
    some = left > ROOM
    share = (1.0 - close[STRUCTURE]) / np.maximum(left, np.float32(ROOM))
    others = [other for other in range(1, len(probability)) if other != index]
    together = sum(probability[other] for other in others) + np.float32(TRACE * len(others))
    for other in others:
        split = close[OTHERS] * ((probability[other] + np.float32(TRACE)) / together)
        probability[other] = np.where(some, probability[other] * share, split)
    probability[0] = np.where(some, probability[0] * share, close[0])
    probability[index] = close[STRUCTURE]


def _others_as_one(work: Work, one: CloseUp) -> Work:
    """Return the work of a close-up, which is named after its structure.

    Where slices of one direction alone show the structure, only those are taken: each then tells what the opinions
    are worth without it, which slices of the other directions cannot.
    """
    case, structure = work.case, work.classes.classes[one.class_index]
    assert case.labels is not None
    labels = np.where(case.labels > 0, np.uint16(OTHERS), np.uint16(0))
    labels[case.labels == structure.value] = STRUCTURE
    annotated = case.annotated
    axes = {plane.axis for plane in annotated if (labels[plane.selector()] == STRUCTURE).any()}
    if len(axes) == 1:
        annotated = tuple(plane for plane in annotated if plane.axis in axes)
        labels[~annotated_mask(case.grid.shape, annotated)] = 0
    classes = ClassTable.from_values((STRUCTURE, OTHERS))
    name = f"{case.name}, {structure.name}"
    return work._replace(
        case=replace(case, name=name, labels=labels, annotated=annotated, classes=classes), classes=classes
    )
