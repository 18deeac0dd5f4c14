"""Train a run, and go on with one that was stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.config import as_config
from napari_rada.control import RunControl
from napari_rada.data.box import told_cut_short
from napari_rada.data.case import Case, as_cases, check_trainable
from napari_rada.data.orientation import told_turned, turn_of
from napari_rada.data.slips import told_many, told_slips
from napari_rada.events import FinishReason, Listener, ignore, tell
from napari_rada.guidance.files import find_files
from napari_rada.memory import shortage_explained
from napari_rada.models.device import undisturbed
from napari_rada.preparation import Work, training_volume
from napari_rada.propagation import make_propagator
from napari_rada.training.checkpoint import Checkpoint, load_checkpoint
from napari_rada.training.economy import check_alike
from napari_rada.training.job import Job
from napari_rada.training.lock import locked
from napari_rada.training.plan import left_out, plan, teaching
from napari_rada.training.run_folder import RunFolder, named_folder
from napari_rada.training.self_training import smallest_batch
from napari_rada.training.share import check_share
from napari_rada.training.snapshot import load_cases, load_classes, save_snapshot
from napari_rada.training.team import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_rada.config import RunConfig
    from napari_rada.training.team import Team
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
        If `run_dir` names nothing, holds a run already, is in use or cannot be written.
    """
    control = control or RunControl()
    path = named_folder(run_dir)
    cases = as_cases(cases)
    classes = check_trainable(cases)
    config = plan(cases, as_config(config))
    taught = teaching(cases, config)
    check_share(smallest_batch(config, taught), team)
    device = team.device(config.device)
    make_propagator(config.propagation)  # a missing package is told before anything is written
    find_files(config.guidance)  # so are missing weights, where they are required
    with team.together(), locked(path, team):
        folder = RunFolder(path)
        if team.leads:
            with folder.undone_on_failure():
                RunFolder.create(folder.path, config)
                save_snapshot(folder, taught, classes, control, listener)
        job = Job(folder, taught, classes, config, device, team, control, listener)
        tell_what_is_left_out(job, cases)
        return run_job(job, None)


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
    device = team.device(config.device)
    with team.together(), locked(folder.path, team):
        checkpoint = load_checkpoint(folder.last_checkpoint) if folder.last_checkpoint.exists() else None
        iteration = checkpoint.state.iteration if checkpoint else 0
        check_alike(iteration, team)
        if team.leads:
            folder.forget_after(iteration)
        control = control or RunControl()
        cases, classes = load_cases(folder, config, control, listener), load_classes(folder)
        check_share(smallest_batch(config, cases), team)
        job = Job(folder, cases, classes, config, device, team, control, listener)
        return run_job(job, checkpoint)


def run_job(job: Job, checkpoint: Checkpoint | None) -> TrainingResult:
    """Prepare the cases of a job, as its networks know them, and train from a checkpoint or from the beginning."""
    wanted = job.config.data.orientation
    tell(job.told, *(told_turned(case, wanted) for case in job.cases))
    job = replace(job, cases=[turn_of(case, wanted).case(case) for case in job.cases])

    def make(case: Case) -> Volume:
        return training_volume(Work(case, job.classes, job.config, job.control, job.told))[1]

    reason, state = job.train(checkpoint, make)
    return TrainingResult(job.folder.path, reason, state.iteration, state.dice, state.propagation_dice)


def tell_what_is_left_out(job: Job, cases: Sequence[Case]) -> None:
    """Tell which of the cases do not teach, and what may be wrong with the annotation of those that do."""
    tell(job.told, left_out(cases, job.config))
    for case in job.cases:
        tell(job.told, told_many(case))
        tell(job.told, told_cut_short(case, job.config.data.crop_margin), *told_slips(case))
