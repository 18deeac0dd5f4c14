"""Close-ups: structures that are small beside the others are propagated again, each on a finer grid of its own.

Several structures share one working grid, and the box around all of them says how large its voxels are. A kidney beside
a liver, or the aorta in a whole abdomen, then has few. So each such structure is propagated once more in the box around
itself, the others being there as far as they reach into it, and what comes out for it counts inside that box.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada.preparation import own_grids, propagated
from napari_rada.propagation.regridding import in_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.data.working import Box, WorkingCase
    from napari_rada.preparation import Work
    from napari_rada.propagation.base import Probability
    from napari_rada.propagation.regridding import Made

FINER = 4
"""A close-up is worth its time if its voxels are smaller than those of the common grid by this factor, in volume."""


class CloseUp(NamedTuple):
    """A class, by its index, and the grids in the box around it on which it is propagated."""

    class_index: int
    grids: list[WorkingCase]


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
    together = in_box(made, work.control)
    wanted = close_ups(work, made[0].case) if work.config.data.close_ups else []
    if not wanted:
        return together
    probability = together.copy()
    for index, grids in wanted:
        found = propagated(work, grids, held_out=False, focus=index)
        inside, there = overlap(grids[0].box, made[0].case.box)
        probability[index][there] = in_box(found, work.control)[index][inside]
    probability[0] = np.maximum(1.0 - probability[1:].sum(axis=0), 0.0)
    probability /= probability.sum(axis=0)
    return probability


def close_ups(work: Work, common: WorkingCase) -> list[CloseUp]:
    """Return the classes that have a much finer grid in a box of their own than on the common one."""
    case, classes = work.case, work.classes
    if len(classes) == 2 or case.labels is None:
        return []
    found = []
    for index in np.unique(classes.encode(case.labels[case.known])):
        if index == 0:
            continue
        one = classes.classes[index]
        grids = own_grids(work, around=one.value)
        if prod(grids[0].factors) * FINER <= prod(common.factors):
            found.append(CloseUp(int(index), [replace(grid, name=f"{case.name}, {one.name}") for grid in grids]))
    return found


def overlap(one: Box, other: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where two boxes of one volume lie over each other: in the first, and in the second."""
    low, high = np.maximum(one[0], other[0]), np.minimum(one[1], other[1])
    first, second = (
        tuple(slice(int(a - start), int(b - start)) for a, b, start in zip(low, high, box[0], strict=True))
        for box in (one, other)
    )
    return first, second
