"""Train on from the weights of a run, with the annotation as it is now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.config import as_config
from napari_rada.control import RunControl
from napari_rada.data.case import Case, as_cases, check_trainable
from napari_rada.errors import ConfigError, InputError
from napari_rada.events import Listener, ignore
from napari_rada.memory import shortage_explained
from napari_rada.models.device import undisturbed
from napari_rada.models.triple_view import guide_in
from napari_rada.pipeline.training import TrainingResult, run_job, tell_what_is_left_out
from napari_rada.training.checkpoint import Checkpoint, save_weights
from napari_rada.training.guiding import built_alike
from napari_rada.training.job import Job
from napari_rada.training.lock import locked
from napari_rada.training.plan import plan, teaching
from napari_rada.training.run_folder import RunFolder, named_folder
from napari_rada.training.self_training import smallest_batch
from napari_rada.training.share import check_share
from napari_rada.training.snapshot import load_classes, save_snapshot
from napari_rada.training.team import ALONE
from napari_rada.training.trained import check_known, latest_trained

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_rada.config import RunConfig
    from napari_rada.data.classes import ClassTable
    from napari_rada.training.team import Team


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
        If `run_dir` has no checkpoint, or `new_run_dir` names nothing, holds a run already, is in use or cannot be
        written.
    """
    control = control or RunControl()
    path = named_folder(new_run_dir)
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
    check_share(smallest_batch(config, taught), team)
    device = team.device(config.device)
    state = checkpoint.state.continued(config.training.iterations)
    with team.together(), locked(path, team):
        folder = RunFolder(path)
        if team.leads:
            with folder.undone_on_failure():
                RunFolder.create(folder.path, config)
                folder.inherit(parent, state.iteration)
                save_weights(folder.last_checkpoint, state, checkpoint.model)
                save_snapshot(folder, taught, classes, control, listener)  # last: it makes the folder a run
        job = Job(folder, taught, classes, config, device, team, control, listener)
        tell_what_is_left_out(job, cases)
        return run_job(job, Checkpoint(state, checkpoint.model, None))


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
