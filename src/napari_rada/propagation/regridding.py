"""Bringing what was propagated on other working grids of a case to one that is wanted, often coarser.

On the grid that several scans share, one annotated structure has few voxels; propagated on a grid of its own it comes
out better, and what is averaged from there is not too large, as labels by majority on a coarse grid are. What was
found on grids in two alignments with the annotated slices comes together on the scan's own voxels.

Shape legend: C classes, V views, Z Y X a working grid, z y x the full grid, along (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada.data.resampling import block_mean, mean_of, slabs
from napari_rada.data.working import box_selector, box_shape
from napari_rada.propagation.base import Opinion, PseudoLabels, distance_to_slices, stamped, truth_without
from napari_rada.propagation.stacking import pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import Probability


class Made(NamedTuple):
    """Pseudo-labels, and the case on the grid that they were made on; beyond its box everything is background."""

    pseudo: PseudoLabels
    case: WorkingCase


def in_box(parts: Sequence[Made], control: RunControl) -> Probability:
    """Return the probability (C, z, y, x) of a case on its own voxels inside the box of the grids it was made on.

    The mean over the grids; where several opinions were pooled, the mean of each opinion, pooled anew: what is coarse
    in one does not blur what is fine in another. A part of the box is done at a time, so that no opinion exists whole.

    Parameters
    ----------
    parts
        One or more, made in the same way on grids of one box.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    shape, shared = box_shape(parts[0].case.box), parts[0].pseudo.shared
    found = np.empty((len(parts[0].pseudo.probability), *shape), dtype=np.float32)
    if shared is None:
        kinds = [[Opinion(pseudo.probability, case) for pseudo, case in parts]]
    else:
        kinds = [list(dict.fromkeys(same)) for same in zip(*(pseudo.opinions for pseudo, _ in parts), strict=True)]
    for planes in slabs(shape):
        control.check()
        means = (mean_of(one.case.planes_in_box(one.probability, planes) for one in same) for same in kinds)
        found[:, planes] = next(means) if shared is None else pooled(means, shared.pools[None])
    return found


def placed(inside: Probability, made_on: WorkingCase, wanted: WorkingCase) -> Probability:
    """Bring a probability (C, z, y, x) from the box of one grid to that of another; beyond it all is background."""
    if made_on.box == wanted.box:
        return inside
    return made_on.box_to_full(inside)[(slice(None), *box_selector(wanted.box))]


def regridded(parts: Sequence[Made], wanted: WorkingCase, control: RunControl) -> PseudoLabels:
    """Return the pseudo-labels of a case, made on other grids of it, on the grid that is wanted.

    Probabilities are those of `in_box`, those held out the mean over the grids; both are brought to the full grid and
    averaged over the voxels of the wanted one. Annotated voxels are as they are annotated there.

    Parameters
    ----------
    parts
        One or more, made in the same way. Of a view that could be held out on some of the grids only, those count.
    wanted
        The case on the grid that is wanted.

    Raises
    ------
    Stopped
        If a stop was requested.
    """

    def brought(probability_CZYX: Probability, made_on: WorkingCase) -> Probability:
        control.check()
        return _averaged(made_on.to_full(probability_CZYX), wanted)

    first = parts[0].pseudo
    probability = stamped(_averaged(parts[0].case.box_to_full(in_box(parts, control)), wanted), wanted.truth)
    held_out: list[Probability | None] = []
    for view in range(len(first.held_out)):
        known = [(fold, case) for pseudo, case in parts if (fold := pseudo.held_out[view]) is not None]
        without = mean_of(brought(*one) for one in known) if known else None
        held_out.append(None if without is None else stamped(without, truth_without(wanted, view)))
    labels = probability.argmax(axis=0)[None]
    if len(first.labels) > 1:
        views = range(len(first.labels))
        opinions = [mean_of(brought(_opinion(pseudo, view), case) for pseudo, case in parts) for view in views]
        labels = np.stack([opinion.argmax(axis=0) for opinion in opinions])
    doubts = [(pseudo.disagreement, case) for pseudo, case in parts]
    maps = [_pooled(case.map_to_full(doubt), wanted) for doubt, case in doubts if doubt is not None]
    return PseudoLabels(
        first.method,
        probability,
        labels.astype(np.int16),
        distance_to_slices(wanted),
        tuple(held_out),
        mean_of(maps) if maps else None,
    )


def _opinion(pseudo: PseudoLabels, view: int) -> Probability:
    """Labels of one view as probabilities (C, Z, Y, X)."""
    classes = np.arange(len(pseudo.probability))[:, None, None, None]
    return np.asarray(pseudo.labels[view] == classes, dtype=np.float32)


def _averaged(probability_Czyx: Probability, wanted: WorkingCase) -> Probability:
    return np.stack([_pooled(values_zyx, wanted) for values_zyx in probability_Czyx])


def _pooled(values_zyx: NDArray[np.float32], wanted: WorkingCase) -> NDArray[np.float32]:
    return block_mean(values_zyx[box_selector(wanted.box)], wanted.factors, wanted.padding)
