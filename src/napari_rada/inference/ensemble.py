"""From the networks' softmaxes to a mask on the case's own grid.

Shape legend: N networks, C classes, Z Y X working grid, z y x full grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada.control import RunControl
from napari_rada.data.working import box_selector, mean_of
from napari_rada.inference.edges import along_edges
from napari_rada.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.data.working import WorkingCase


class Part(NamedTuple):
    """What was found on one working grid of a case: probability (C, Z, Y, X) and disagreement (Z, Y, X), if any."""

    working: WorkingCase
    probability_CZYX: NDArray[np.float32]
    disagreement_ZYX: NDArray[np.float32] | None = None


def assemble(
    case: Case,
    classes: ClassTable,
    parts: Sequence[Part],
    *,
    keep_annotated: bool,
    provenance: Mapping[str, str | int | float],
    image_zyx: NDArray[np.float32] | None = None,
    control: RunControl | None = None,
) -> Prediction:
    """Bring probability and disagreement to the full grid and decide every voxel.

    Parameters
    ----------
    parts
        One or more, on grids of the same case that cover the same box; their mean counts.
    keep_annotated
        Voxels of annotated slices keep what was painted.
    image_zyx
        The image inside the box of the parts, mapped to 0..1: the probability then follows its edges.
    control
        Asked whether to stop while edges are followed.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    grid = parts[0].working
    assert all(part.working.box == grid.box for part in parts)
    inside = mean_of(part.working.to_box(part.probability_CZYX) for part in parts)
    if image_zyx is not None:
        inside = along_edges(inside, image_zyx, case.grid.spacing, control or RunControl())
    probability = grid.box_to_full(inside)
    doubted = [part.working.map_to_full(part.disagreement_ZYX) for part in parts if part.disagreement_ZYX is not None]
    certain = mean_of(doubted) if doubted else None
    if keep_annotated and case.labels is not None:
        known = case.known
        painted = classes.encode(case.labels[known])
        probability[:, known] = np.eye(len(classes), dtype=np.float32)[painted].T
        if certain is not None:
            certain[known] = 0.0
    box = box_selector(grid.box)
    mask = np.full(case.grid.shape, classes.values[0], dtype=classes.dtype)
    mask[box] = classes.decode(probability[(slice(None), *box)].argmax(axis=0))
    return Prediction(
        name=case.name,
        mask=mask,
        probability=probability,
        disagreement=certain,
        grid=case.grid,
        classes=classes,
        source=case.source,
        provenance=dict(provenance),
    )
