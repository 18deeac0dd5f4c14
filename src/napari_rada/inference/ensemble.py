"""From the networks' softmaxes to a mask on the case's own grid.

Shape legend: N networks, C classes, Z Y X working grid, z y x full grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.data.working import WorkingCase


def assemble(
    case: Case,
    working: WorkingCase,
    classes: ClassTable,
    probability_CZYX: NDArray[np.float32],
    disagreement_ZYX: NDArray[np.float32] | None,
    *,
    keep_annotated: bool,
    provenance: Mapping[str, str | int | float],
) -> Prediction:
    """Bring probability and disagreement to the full grid and decide every voxel.

    Parameters
    ----------
    keep_annotated
        Voxels of annotated slices keep what was painted.
    """
    probability = working.to_full(probability_CZYX)
    certain = None if disagreement_ZYX is None else working.map_to_full(disagreement_ZYX)
    if keep_annotated and case.labels is not None:
        known = case.known
        painted = classes.encode(case.labels[known])
        probability[:, known] = np.eye(len(classes), dtype=np.float32)[painted].T
        if certain is not None:
            certain[known] = 0.0
    return Prediction(
        name=case.name,
        mask=classes.decode(probability.argmax(axis=0)),
        probability=probability,
        disagreement=certain,
        grid=case.grid,
        classes=classes,
        source=case.source,
        provenance=dict(provenance),
    )
