"""Bringing what was propagated on other working grids of a case to one that is wanted, often coarser.

On the grid that several scans share, one annotated structure has few voxels; propagated on a grid of its own it comes
out better, and what is averaged from there is not too large, as labels by majority on a coarse grid are. Grids in two
alignments with the annotated slices are averaged on the way.

Shape legend: C classes, V views, Z Y X a working grid, z y x the full grid, along (z, y, x).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada.data.working import block_mean, box_selector
from napari_rada.propagation.base import PseudoLabels, distance_to_slices, stamped, truth_without

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import Probability


class Made(NamedTuple):
    """Pseudo-labels, and the case on the grid that they were made on; beyond its box everything is background."""

    pseudo: PseudoLabels
    case: WorkingCase


def regridded(parts: Sequence[Made], wanted: WorkingCase) -> PseudoLabels:
    """Return the pseudo-labels of a case, the mean of those made on other grids of it, on the grid that is wanted.

    Probabilities are interpolated to the full grid and averaged over the voxels of the wanted one; annotated voxels
    are as they are annotated there.

    Parameters
    ----------
    parts
        One or more, made in the same way.
    wanted
        The case on the grid that is wanted.
    """

    def mean(values_of: Callable[[PseudoLabels], Probability]) -> Probability:
        found = [_averaged(values_of(part.pseudo), part.case, wanted) for part in parts]
        return np.asarray(np.mean(found, axis=0, dtype=np.float32))

    first = parts[0].pseudo
    probability = stamped(mean(lambda pseudo: pseudo.probability), wanted.truth)
    held_out = tuple(
        None if known is None else stamped(mean(partial(_without, view=view)), truth_without(wanted, view))
        for view, known in enumerate(first.held_out)
    )
    labels = probability.argmax(axis=0)[None]
    if len(first.labels) > 1:
        opinions = [mean(partial(_opinion, view=view)) for view in range(len(first.labels))]
        labels = np.stack([opinion.argmax(axis=0) for opinion in opinions])
    maps = [
        _pooled(made_on.map_to_full(pseudo.disagreement), wanted)
        for pseudo, made_on in parts
        if pseudo.disagreement is not None
    ]
    uncertain = np.asarray(np.mean(maps, axis=0, dtype=np.float32)) if maps else None
    distance = distance_to_slices(wanted)
    return PseudoLabels(first.method, probability, labels.astype(np.int16), distance, held_out, uncertain)


def _without(pseudo: PseudoLabels, view: int) -> Probability:
    probability = pseudo.held_out[view]
    assert probability is not None  # whether a view can be held out does not depend on the alignment
    return probability


def _opinion(pseudo: PseudoLabels, view: int) -> Probability:
    """Labels of one view as probabilities (C, Z, Y, X)."""
    classes = np.arange(len(pseudo.probability))[:, None, None, None]
    return np.asarray(pseudo.labels[view] == classes, dtype=np.float32)


def _averaged(probability_CZYX: Probability, made_on: WorkingCase, wanted: WorkingCase) -> Probability:
    return np.stack([_pooled(values_zyx, wanted) for values_zyx in made_on.to_full(probability_CZYX)])


def _pooled(values_zyx: NDArray[np.float32], wanted: WorkingCase) -> NDArray[np.float32]:
    return block_mean(values_zyx[box_selector(wanted.box)], wanted.factors, wanted.padding)
