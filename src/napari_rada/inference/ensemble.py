"""From the networks' softmaxes to a mask on the case's own grid.

Shape legend: N networks, C classes, Z Y X working grid, z y x full grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada.control import RunControl
from napari_rada.data.box import box_selector, box_shape
from napari_rada.data.resampling import mean_of, slabs
from napari_rada.inference.edges import follow_edges
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


class Inside(NamedTuple):
    """What was found inside the box of a working grid, on the case's own voxels.

    Probability (C, z, y, x) and disagreement (z, y, x), if any; of the grid its box counts.
    """

    working: WorkingCase
    probability_Czyx: NDArray[np.float32]
    disagreement_zyx: NDArray[np.float32] | None = None


def averaged(parts: Sequence[Part]) -> Inside:
    """Return the mean of what was found on one or more grids of a case that cover the same box."""
    grid = parts[0].working
    probability = mean_in_box([(part.working, part.probability_CZYX) for part in parts])
    return Inside(grid, probability, mean_disagreement([(part.working, part.disagreement_ZYX) for part in parts]))


def mean_disagreement(parts: Sequence[tuple[WorkingCase, NDArray[np.float32] | None]]) -> NDArray[np.float32] | None:
    """Mean of disagreements (Z, Y, X) on grids of one box, on the case's own voxels there; None if there are none."""
    known = [(grid, doubt_ZYX[None]) for grid, doubt_ZYX in parts if doubt_ZYX is not None]
    return mean_in_box(known)[0] if known else None


def mean_in_box(
    parts: Sequence[tuple[WorkingCase, NDArray[np.float32]]], control: RunControl | None = None
) -> NDArray[np.float32]:
    """Mean of what was found on grids of one box (C, Z, Y, X), on the case's own voxels there; a new array.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    box, control = parts[0][0].box, control or RunControl()
    assert all(grid.box == box for grid, _ in parts)
    shape = box_shape(box)
    found = np.empty((len(parts[0][1]), *shape), dtype=np.float32)
    for planes in slabs(shape):
        control.check()
        found[:, planes] = mean_of(grid.planes_in_box(values, planes) for grid, values in parts)
    return found


def assemble(
    case: Case,
    classes: ClassTable,
    inside: Inside,
    *,
    keep_annotated: bool,
    provenance: Mapping[str, str | int | float],
    image_zyx: NDArray[np.float32] | None = None,
    control: RunControl | None = None,
) -> Prediction:
    """Bring probability and disagreement to the full grid and decide every voxel.

    Parameters
    ----------
    inside
        What was found; its arrays are taken over, and may be changed.
    keep_annotated
        Voxels of annotated slices keep what was painted.
    image_zyx
        The image inside the box, mapped to 0..1: the probability then follows its edges.
    control
        Asked whether to stop while edges are followed.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    grid, found, doubt = inside
    box = box_selector(grid.box)
    keep = keep_annotated and case.labels is not None
    if image_zyx is not None:
        if keep:
            _put_in(found, case, classes, box)  # edges are followed from what was painted
        follow_edges(found, image_zyx, case.grid.spacing, control or RunControl())
    probability = grid.box_to_full(found)
    certain = None if doubt is None else grid.put_in_full(doubt)
    if keep:
        _put_in(probability, case, classes)
        if certain is not None:
            certain[case.known] = 0.0
    mask = np.full(case.grid.shape, classes.values[0], dtype=classes.dtype)
    for planes in slabs(box_shape(grid.box)):
        mask[box][planes] = classes.decode(probability[(slice(None), *box)][:, planes].argmax(axis=0))
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


def _put_in(
    probability: NDArray[np.float32], case: Case, classes: ClassTable, box: tuple[slice, ...] = (slice(None),) * 3
) -> None:
    """Make a probability (C, …) in a box of the scan what was painted there, in place."""
    assert case.labels is not None
    known = case.known[box]
    painted = classes.encode(case.labels[box][known])
    probability[:, known] = np.eye(len(classes), dtype=np.float32)[painted].T
