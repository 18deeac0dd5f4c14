"""From the working grids of a case to its mask: what networks and propagation find, decided on the case's own voxels.

Shape legend: N networks, C classes, Z Y X working grid, z y x full grid.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari_rada.closeups import propagated_closely
from napari_rada.events import Notice, Stage
from napari_rada.inference.blending import blended
from napari_rada.inference.cleanup import CleanUp, clean_up
from napari_rada.inference.ensemble import Inside, Part, assemble, averaged, mean_in_box
from napari_rada.inference.sliding import predicted_softmax
from napari_rada.models.networks import begun_as
from napari_rada.prediction import Prediction, disagreement
from napari_rada.preparation import Work, image_in_box, network_inputs, tell_part
from napari_rada.propagation.regridding import placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_rada.config import RunConfig
    from napari_rada.data.case import Case
    from napari_rada.data.orientation import Turn
    from napari_rada.data.working import WorkingCase
    from napari_rada.inference.sliding import VolumeInput
    from napari_rada.models.triple_view import TripleViewModel


def found_inside(work: Work, model: TripleViewModel, grids: Sequence[WorkingCase]) -> Inside:
    """Predict inside the box of the grids: the mean of the networks, with the propagation where there is one."""
    config, listener = work.config, work.listener
    parts = []
    every, made = network_inputs(work, grids)
    propagation = propagated_closely(work, made) if made else None
    for number, (working, inputs) in enumerate(zip(grids, every, strict=True)):
        softmax_NCZYX = predicted_softmax(
            model,
            inputs,
            config.training.patch,
            config.inference,
            work.control,
            on_tile=partial(tell_part, listener, Stage.PREDICT, number, len(grids)),
            on_shortage=lambda change: listener(Notice(f"Memory ran out; prediction begins again with {change}.")),
        )
        work.control.check()  # also where all tiles went in one batch
        parts.append(Part(working, softmax_NCZYX.mean(axis=0), disagreement(softmax_NCZYX)))
    inside = averaged(parts)
    if propagation is None:
        return inside
    propagation = placed(propagation, made[0].case, inside.working)
    begun = _begun(work, grids, every) if config.inference.corrections and config.model.completion else None
    work.control.check()
    found = blended(inside.probability_Czyx, propagation, config.inference, begun)
    return inside._replace(probability_Czyx=found)


def _begun(work: Work, grids: Sequence[WorkingCase], every: Sequence[VolumeInput]) -> NDArray[np.float32]:
    """Probability (C, z, y, x) inside the box of the grids that the networks would give untrained."""
    begun = [begun_as(inputs.prior) for inputs in every]
    return mean_in_box(list(zip(grids, begun, strict=True)), work.control)


def assembled(work: Work, inside: Inside, provenance: Mapping[str, str | int | float]) -> Prediction:
    """Decide every voxel of the scan, along its edges if it is configured so."""
    case, settings = work.case, work.config.inference
    edges = image_in_box(work, inside.working.box) if settings.edge_aware and case.is_labelled else None
    keep, control = settings.keep_annotated, work.control
    return assemble(
        case, work.classes, inside, keep_annotated=keep, provenance=provenance, image_zyx=edges, control=control
    )


def turned_back(prediction: Prediction, turn: Turn, case: Case) -> Prediction:
    """Bring what was found in a turned case to the case as it is."""
    if not turn:
        return prediction
    doubt = prediction.disagreement
    return replace(
        prediction,
        mask=turn.back(prediction.mask),
        probability=turn.back(prediction.probability),
        disagreement=None if doubt is None else turn.back(doubt),
        grid=case.grid,
    )


def tidied(prediction: Prediction, tidy: CleanUp, case: Case, config: RunConfig) -> Prediction:
    """Tidy a mask as it is asked for, and as the settings ask for."""
    tidy = replace(tidy, largest_part=tidy.largest_part or config.inference.largest_part)
    return clean_up(prediction, tidy, case.known if config.inference.keep_annotated else None)
