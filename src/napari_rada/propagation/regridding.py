"""Bringing what was propagated on one working grid of a case to another one, often coarser.

On the grid that several scans share, one annotated structure has few voxels; propagated on a grid of its own it comes
out better, and what is averaged from there is not too large, as labels by majority on a coarse grid are.

Shape legend: C classes, V views, Z Y X a working grid, z y x the full grid, along (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.working import block_mean, box_selector
from napari_rada.propagation.base import PseudoLabels, distance_to_slices, stamped, truth_without

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import Probability


def regridded(pseudo: PseudoLabels, made_on: WorkingCase, wanted: WorkingCase) -> PseudoLabels:
    """Return the pseudo-labels of a case on another working grid of the same case.

    Probabilities are interpolated to the full grid and averaged over the voxels of the wanted one; annotated voxels
    are as they are annotated there.

    Parameters
    ----------
    made_on
        The case on the grid of `pseudo`; beyond its box everything is background.
    wanted
        The case on the grid that is wanted.
    """
    probability = stamped(_averaged(pseudo.probability, made_on, wanted), wanted.truth)
    held_out = tuple(
        None if without is None else stamped(_averaged(without, made_on, wanted), truth_without(wanted, view))
        for view, without in enumerate(pseudo.held_out)
    )
    labels = probability.argmax(axis=0)[None]
    if len(pseudo.labels) > 1:
        classes = np.arange(len(probability))[:, None, None, None]
        opinions = [(labels_ZYX == classes).astype(np.float32) for labels_ZYX in pseudo.labels]
        labels = np.stack([_averaged(opinion, made_on, wanted).argmax(axis=0) for opinion in opinions])
    uncertain = pseudo.disagreement
    if uncertain is not None:
        uncertain = _pooled(made_on.map_to_full(uncertain), wanted)
    distance = distance_to_slices(wanted)
    return PseudoLabels(pseudo.method, probability, labels.astype(np.int16), distance, held_out, uncertain)


def _averaged(probability_CZYX: Probability, made_on: WorkingCase, wanted: WorkingCase) -> Probability:
    return np.stack([_pooled(values_zyx, wanted) for values_zyx in made_on.to_full(probability_CZYX)])


def _pooled(values_zyx: NDArray[np.float32], wanted: WorkingCase) -> NDArray[np.float32]:
    return block_mean(values_zyx[box_selector(wanted.box)], wanted.factors)
