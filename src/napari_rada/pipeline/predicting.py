"""What a trained run finds in a scan, where it looks, and which slice to annotate next."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.assembly import assembled, found_inside, tidied, turned_back
from napari_rada.control import RunControl
from napari_rada.data.case import Case, one_case
from napari_rada.data.grid import told_out_of_scale
from napari_rada.data.orientation import told_turned, turn_of
from napari_rada.data.slices import named_slices
from napari_rada.data.slips import told_many, told_slips
from napari_rada.errors import InputError
from napari_rada.events import Listener, Stage, StageProgress, ignore, tell
from napari_rada.inference.cleanup import CleanUp
from napari_rada.inference.explain import class_heat
from napari_rada.inference.suggest import Suggestion, suggest_slice
from napari_rada.memory import shortage_explained
from napari_rada.models.device import computing, undisturbed
from napari_rada.prediction import Explanation, Prediction
from napari_rada.preparation import Work, network_inputs, training_volume, working_grids
from napari_rada.training.preview import preview_annotated
from napari_rada.training.trained import TrainedRun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.training.trained import Weights


@shortage_explained
@undisturbed()
def predict(
    run_dir: Path | str,
    case: Case,
    *,
    device: str = "auto",
    weights: Weights = "best",
    tidy: CleanUp | None = None,
    control: RunControl | None = None,
    listener: Listener = ignore,
) -> Prediction:
    """Predict a case with a trained run, also while it trains.

    A case of the run is recognised by its image; its annotation of then is used where `case` has none of its own.

    Parameters
    ----------
    run_dir
        The run folder.
    case
        The scan.
    device
        As in the configuration.
    weights
        `best`: those with the highest held-out Dice, or of the end of self-training if they are hardly behind; if that
        is not known, those of the latest checkpoint, but for networks that began anew on what earlier ones labelled and
        are not done: then the earlier ones; `last`: those of the latest in any case; `teacher`: those that labelled.
    tidy
        Small parts to remove and holes to fill; only what the run's settings ask for by default.

    Raises
    ------
    RunFolderError
        If `run_dir` is no run folder or has no checkpoint.
    InputError
        If the run can only complete annotated slices and the case has none, or has labels that are none of its classes;
        also if `tidy` is no `CleanUp`.
    Stopped
        If a stop was requested.
    """
    control = control or RunControl()
    if not isinstance(tidy, CleanUp | None):
        raise InputError(f"{shorten(repr(tidy), 60)} does not say what to tidy; give a CleanUp.")
    given = one_case(case)
    run = TrainedRun.open(run_dir, given, weights)
    config, classes, case = run.config, run.classes, run.case
    run.check_completable()
    tell(listener, told_turned(case, config.data.orientation), told_many(given), *told_slips(given))
    turn = turn_of(case, config.data.orientation)
    work = Work(turn.case(case), classes, config, control, listener)
    with computing(config.threads):
        model = run.model(device)
        grids = working_grids(work)
        tell(listener, told_out_of_scale(case.name, grids[0].spacing, config.data.spacing))
        inside = found_inside(work, model, grids)
        prediction = turned_back(assembled(work, inside, run.provenance()), turn, case)
    return tidied(prediction, tidy or CleanUp(), case, config)


@shortage_explained
@undisturbed()
def preview(
    run_dir: Path | str,
    case: Case,
    *,
    device: str = "auto",
    control: RunControl | None = None,
    listener: Listener = ignore,
) -> Prediction:
    """Show what the latest checkpoint of a run, also of one in progress, makes of the annotated slices unseen.

    Returns
    -------
    Prediction
        Its mask is drawn in the annotated slices and 0 elsewhere; there is no disagreement.

    Raises
    ------
    RunFolderError
        If `run_dir` is no run folder or has no checkpoint yet.
    InputError
        If the case has no annotated slices, or all are of one view, so that none can be held out.
    Stopped
        If a stop was requested.
    """
    control = control or RunControl()
    run = TrainedRun.open(run_dir, one_case(case), "last")
    config, classes, case = run.config, run.classes, run.case
    turn = turn_of(case, config.data.orientation)
    turned = turn.case(case)
    with computing(config.threads):
        model = run.model(device)
        working, volume = training_volume(Work(turned, classes, config, control, listener))
        if not volume.held_out:
            raise InputError(
                f"{case.name}: a preview needs annotated slices in at least two views, so that one can be held out; "
                "preview the volume instead."
            )
        mask = turn.back(preview_annotated(model, turned, working, volume, classes, config, control))
    probability = np.moveaxis(np.eye(len(classes), dtype=np.float32)[classes.encode(mask)], -1, 0)
    provenance = run.provenance("annotated slices, held out")
    return Prediction(case.name, mask, probability, None, case.grid, classes, case.source, provenance)


@shortage_explained
@undisturbed()
def explain(
    run_dir: Path | str,
    case: Case,
    class_name: str | int,
    *,
    device: str = "auto",
    control: RunControl | None = None,
    listener: Listener = ignore,
) -> Explanation:
    """Show where the networks of a run, and their guidance, look for a class (the paper's figure 6).

    Parameters
    ----------
    class_name
        Name of a foreground class of the run, or its label value.

    Raises
    ------
    InputError
        If the run has no such class, or its networks find nothing of it in the scan; also as `predict`.
    RunFolderError, Stopped
        As `predict`.
    """
    control = control or RunControl()
    run = TrainedRun.open(run_dir, one_case(case))
    config, classes, case = run.config, run.classes, run.case
    class_index = classes.find(class_name)
    run.check_completable()
    turn = turn_of(case, config.data.orientation)
    with computing(config.threads):
        model = run.model(device)
        work = Work(turn.case(case), classes, config, control, listener)
        working = working_grids(work)[0]
        (inputs,), _ = network_inputs(work, [working])

        def on_network(done: int, total: int) -> None:
            listener(StageProgress(Stage.PREDICT, done, total))

        heat = class_heat(model, inputs, class_index, config.training.patch, config.inference, control, on_network)
    name = classes.classes[class_index].name
    if not heat.any():
        raise InputError(f"{case.name}: the networks find nothing of {name} here, so there is nothing to explain.")
    heat = turn.back(working.map_to_full(heat))
    return Explanation(case.name, name, heat, case.grid, case.source, run.provenance())


def suggest(prediction: Prediction, annotated: Sequence[AnnotatedSlice | tuple[int, int]] = ()) -> Suggestion:
    """Name the slice whose annotation should help most next, by its array axis (0 z, 1 y, 2 x).

    Raises
    ------
    InputError
        If an annotated slice is no pair (axis, index) that lies in the scan.
    """
    planes = named_slices(annotated)
    for plane in planes:
        plane.check(prediction.grid.shape)
    return suggest_slice(prediction.doubt, planes)
