"""Prepare, propagate, train, predict: the one use case that the API, the command line and the viewer all call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.assembly import assembled, found_inside, tidied, turned_back
from napari_rada.closeups import propagated_closely
from napari_rada.config import as_config
from napari_rada.control import RunControl
from napari_rada.data.box import told_cut_short
from napari_rada.data.case import Case, as_cases, check_trainable, one_case
from napari_rada.data.grid import told_out_of_scale
from napari_rada.data.orientation import told_turned, turn_of
from napari_rada.data.slices import named_slices
from napari_rada.data.slips import told_slips
from napari_rada.errors import ConfigError, InputError
from napari_rada.events import FinishReason, Listener, Notice, Stage, StageProgress, ignore
from napari_rada.guidance.files import find_files
from napari_rada.inference.cleanup import CleanUp
from napari_rada.inference.ensemble import Inside, mean_disagreement
from napari_rada.inference.explain import class_heat
from napari_rada.inference.suggest import Suggestion, suggest_slice
from napari_rada.memory import shortage_explained
from napari_rada.models.device import computing, undisturbed
from napari_rada.models.triple_view import guide_in
from napari_rada.prediction import Explanation, Prediction
from napari_rada.preparation import (
    Work,
    network_inputs,
    own_grids,
    propagated,
    training_volume,
    working_grids,
)
from napari_rada.propagation import make_propagator
from napari_rada.training.checkpoint import Checkpoint, load_checkpoint, save_weights
from napari_rada.training.economy import check_alike
from napari_rada.training.guiding import built_alike
from napari_rada.training.job import Job
from napari_rada.training.lock import locked
from napari_rada.training.plan import left_out, plan, teaching
from napari_rada.training.preview import preview_annotated
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.self_training import halves, teaches_itself
from napari_rada.training.share import check_share
from napari_rada.training.snapshot import load_cases, load_classes, save_snapshot
from napari_rada.training.team import ALONE
from napari_rada.training.trained import TrainedRun, check_known, latest_trained

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_rada.config import RunConfig
    from napari_rada.data.classes import ClassTable
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.training.team import Team
    from napari_rada.training.trained import Weights
    from napari_rada.training.volumes import Volume


@dataclass(frozen=True)
class TrainingResult:
    """How training ended.

    Parameters
    ----------
    run_dir
        The run folder, for `predict` and `resume`.
    reason
        Completed, or stopped on request; both leave a run that can be resumed.
    iteration
        Finished iterations.
    dice, propagation_dice
        Latest Dice on held-out annotated voxels: of networks and propagation together, or of networks that see the
        image alone; and of the propagation alone. None if unknown.
    """

    run_dir: Path
    reason: FinishReason
    iteration: int
    dice: float | None
    propagation_dice: float | None


@shortage_explained
@undisturbed()
def propagate(
    case: Case, config: RunConfig | str | None = None, *, control: RunControl | None = None, listener: Listener = ignore
) -> Prediction:
    """Complete the annotated slices of a case to a volume, without training: seconds.

    Parameters
    ----------
    config
        As for `train`. The groups `data`, `propagation` and `inference` count; nothing is trained.

    Raises
    ------
    InputError
        If the case has no annotated slices, or they hold one class only.
    Stopped
        If a stop was requested.
    """
    config = as_config(config)
    control = control or RunControl()
    case = one_case(case)
    classes = check_trainable([case])
    _tell(listener, told_cut_short(case, config.data.crop_margin), *told_slips(case))
    work = Work(case, classes, config, control, listener)
    with computing(config.threads):
        found = propagated(work, own_grids(work), held_out=False)
        doubt = mean_disagreement([(working, pseudo.disagreement) for pseudo, working in found])
        inside = Inside(found[0].case, propagated_closely(work, found), doubt)
        prediction = assembled(work, inside, {"method": f"propagation: {found[0].pseudo.method}"})
    return tidied(prediction, CleanUp(), case, config)


@shortage_explained
@undisturbed()
def train(
    cases: Iterable[Case] | Case,
    run_dir: Path | str,
    config: RunConfig | str | None = None,
    *,
    control: RunControl | None = None,
    listener: Listener = ignore,
    team: Team = ALONE,
) -> TrainingResult:
    """Train the three networks on one or more cases, into a new run folder.

    Parameters
    ----------
    cases
        One, or several of which at least one has annotated slices; networks learn from the others only if the settings
        have patches without labels (`training.unlabelled_patches`), which `quick` has not.
    run_dir
        A folder that holds no run yet; made if needed.
    config
        Settings, or the name of a preset; the quick preset if not given.
    team
        The processes that train together (`napari_rada.training.crew.joined`); each calls this with the same cases.

    Raises
    ------
    Stopped
        If a stop was requested before all of several cases were written: there is no run then.
    InputError
        If the cases cannot teach anything.
    ConfigError, MissingDependencyError, WeightsError
        If the device, the propagation or the guidance that is asked for cannot be used here.
    RunFolderError
        If `run_dir` holds a run already, is in use or cannot be written.
    """
    control = control or RunControl()
    cases = as_cases(cases)
    classes = check_trainable(cases)
    config = plan(cases, as_config(config))
    taught = teaching(cases, config)
    check_share(config.training, team)
    device = team.device(config.device)
    make_propagator(config.propagation)  # a missing package is told before anything is written
    find_files(config.guidance)  # so are missing weights, where they are required
    with team.together(), locked(Path(run_dir), team):
        folder = RunFolder(Path(run_dir))
        if team.leads:
            with folder.whole_or_not_at_all():
                RunFolder.create(folder.path, config)
                save_snapshot(folder, taught, classes, control, listener)
        job = Job(folder, taught, classes, config, device, team, control, listener)
        _tell_what_is_left_out(job, cases)
        return _train(job, None)


@shortage_explained
@undisturbed()
def resume(
    run_dir: Path | str, *, control: RunControl | None = None, listener: Listener = ignore, team: Team = ALONE
) -> TrainingResult:
    """Go on with a run from its last checkpoint; on the CPU bit for bit as if it had never stopped.

    The bits depend on the number of threads. The number of processes in the team may be another than before; `team` is
    as for `train`.

    Raises
    ------
    Stopped
        If a stop was requested while several cases were read.
    RunFolderError
        If `run_dir` is no run folder, is in use, is damaged, or an image has changed since.
    """
    folder = RunFolder.open(Path(run_dir))
    config = folder.config()
    check_share(config.training, team)
    device = team.device(config.device)
    with team.together(), locked(folder.path, team):
        checkpoint = load_checkpoint(folder.last_checkpoint) if folder.last_checkpoint.exists() else None
        iteration = checkpoint.state.iteration if checkpoint else 0
        check_alike(iteration, team)
        if team.leads:
            folder.forget_after(iteration)
        control = control or RunControl()
        cases, classes = load_cases(folder, config, control, listener), load_classes(folder)
        job = Job(folder, cases, classes, config, device, team, control, listener)
        return _train(job, checkpoint)


@shortage_explained
@undisturbed()
def continue_training(
    run_dir: Path | str,
    cases: Iterable[Case] | Case,
    new_run_dir: Path | str,
    config: RunConfig | str | None = None,
    *,
    control: RunControl | None = None,
    listener: Listener = ignore,
    team: Team = ALONE,
) -> TrainingResult:
    """Train on from the weights of a run, with the annotation as it is now, into a run folder of its own.

    They are those of its last checkpoint, or of the networks that labelled scans without annotated slices if those that
    began anew on them are not done. The old run is left as it is. The new one begins with its curves, counts iterations
    on, and runs its schedules anew over the iterations that are added: ``training.iterations`` or ``training.minutes``
    of the configuration.

    Parameters
    ----------
    run_dir
        A run that was finished or stopped.
    cases
        As for `train`; their label values must be among the run's classes, and mean the same.
    new_run_dir
        A folder that holds no run yet.
    config
        That of the run if not given; the networks must be built alike.
    team
        As for `train`.

    Raises
    ------
    InputError
        If the cases cannot teach anything, or hold a label value that the networks do not know, or another name for
        one.
    ConfigError
        If the networks of `config` are built differently.
    Stopped
        As `train`.
    RunFolderError
        If `run_dir` has no checkpoint, or `new_run_dir` holds a run already, is in use or cannot be written.
    """
    control = control or RunControl()
    parent = RunFolder.open(Path(run_dir))
    before, classes, checkpoint = parent.config(), load_classes(parent), latest_trained(parent)
    cases = [_with_classes(case, classes) for case in as_cases(cases)]
    check_trainable(cases)
    config = plan(cases, _on_grid_of(before, before if config is None else as_config(config)))
    free = {"dropout": before.model.dropout, "prior_dropout": before.model.prior_dropout}
    alike = built_alike(config.guidance, before.guidance)
    unguided = config.guidance.source == "none" and guide_in(checkpoint.model, before.guidance) is None
    if config.model.model_copy(update=free) != before.model or not (alike or unguided):
        raise ConfigError(
            f"The networks of {parent.path} are built differently (settings model.* and guidance.*); keep those "
            "settings to continue this run, or start a new one."
        )
    taught = teaching(cases, config)
    check_share(config.training, team)
    device = team.device(config.device)
    state = checkpoint.state.continued(config.training.iterations)
    with team.together(), locked(Path(new_run_dir), team):
        folder = RunFolder(Path(new_run_dir))
        if team.leads:
            with folder.whole_or_not_at_all():
                RunFolder.create(folder.path, config)
                folder.inherit(parent, state.iteration)
                save_weights(folder.last_checkpoint, state, checkpoint.model)
                save_snapshot(folder, taught, classes, control, listener)  # last: it makes the folder a run
        job = Job(folder, taught, classes, config, device, team, control, listener)
        _tell_what_is_left_out(job, cases)
        return _train(job, Checkpoint(state, checkpoint.model, None))


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
        If the run can only complete annotated slices and the case has none, or has labels that are none of its classes.
    Stopped
        If a stop was requested.
    """
    control = control or RunControl()
    given = one_case(case)
    run = TrainedRun.open(run_dir, given, weights)
    config, classes, case = run.config, run.classes, run.case
    run.check_completable()
    _tell(listener, told_turned(case, config.data.orientation), *told_slips(given))
    turn = turn_of(case, config.data.orientation)
    work = Work(turn.case(case), classes, config, control, listener)
    with computing(config.threads):
        model = run.model(device)
        grids = working_grids(work)
        _tell(listener, told_out_of_scale(case.name, grids[0].spacing, config.data.spacing))
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
    class_name: str,
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


def _train(job: Job, checkpoint: Checkpoint | None) -> TrainingResult:
    if teaches_itself(job.config, job.cases):
        check_share(halves(job.config)[0].training, job.team)
    wanted = job.config.data.orientation
    _tell(job.told, *(told_turned(case, wanted) for case in job.cases))
    job = replace(job, cases=[turn_of(case, wanted).case(case) for case in job.cases])

    def make(case: Case) -> Volume:
        return training_volume(Work(case, job.classes, job.config, job.control, job.told))[1]

    reason, state = job.train(checkpoint, make)
    return TrainingResult(job.folder.path, reason, state.iteration, state.dice, state.propagation_dice)


def _tell_what_is_left_out(job: Job, cases: Sequence[Case]) -> None:
    _tell(job.told, left_out(cases, job.config))
    for case in job.cases:
        _tell(job.told, told_cut_short(case, job.config.data.crop_margin), *told_slips(case))


def _tell(listener: Listener, *sentences: str | None) -> None:
    for sentence in sentences:
        if sentence:
            listener(Notice(sentence))


def _on_grid_of(before: RunConfig, config: RunConfig) -> RunConfig:
    """Give settings that name no orientation or spacing those of a run, whose networks know structures so."""
    own, known = config.data, before.data
    spacing = own.spacing or known.spacing
    orientation = own.orientation or known.orientation
    return config.with_settings({"data.spacing": spacing and list(spacing), "data.orientation": orientation})


def _with_classes(case: Case, classes: ClassTable) -> Case:
    """Give a labelled case the class table of a run that is to learn from it."""
    if case.classes is None:
        return case
    remedy = "networks cannot gain a class afterwards, start a new run"
    check_known(case.name, case.classes.values, classes, remedy)
    known = {info.value: info for info in classes.classes}
    for info in case.classes.classes[1:]:
        if not info.is_called_as(known[info.value]):
            raise InputError(
                f"{case.name} calls the label value {info.value} {info.name!r} and the run calls it "
                f"{known[info.value].name!r}; one value must mean one structure: name it as the run does, or start a "
                "new run."
            )
    return replace(case, classes=classes)
