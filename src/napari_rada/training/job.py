"""One training, from the cases to the last checkpoint, on the processes of a team."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_rada.allocator import give_back
from napari_rada.errors import RadaError, RunFolderError, Stopped
from napari_rada.events import CheckpointSaved, FinishReason, Notice, RunFinished, Stage, StageProgress
from napari_rada.memory import release, shortage_explained
from napari_rada.models.device import computing
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.checkpoint import Checkpoint, TrainState, load_checkpoint, save_weights
from napari_rada.training.economy import Rung, ladder, run_within_memory
from napari_rada.training.exchange import prepared
from napari_rada.training.guiding import prepare_guide
from napari_rada.training.pace import NOTHING
from napari_rada.training.self_training import after, halves, labelled_by, teaches_itself
from napari_rada.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.events import Event, Listener
    from napari_rada.models.guided import Guide
    from napari_rada.training.pace import ToCome
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.team import Team
    from napari_rada.training.volumes import Volume


@dataclass(frozen=True)
class Job:
    """What is trained, with what, where, and who is told; of a team, only the process that leads tells and writes.

    Parameters
    ----------
    folder
        Locked by the caller; the configuration and the cases are in it.
    """

    folder: RunFolder
    cases: Sequence[Case]
    classes: ClassTable
    config: RunConfig
    device: torch.device
    team: Team
    control: RunControl
    listener: Listener

    def train(
        self, checkpoint: Checkpoint | None, make_volume: Callable[[Case], Volume]
    ) -> tuple[FinishReason, TrainState]:
        """Prepare guidance and volumes, and train; returns how it ended.

        Parameters
        ----------
        checkpoint
            Where to go on; None starts afresh.
        make_volume
            Prepares a case; raises `Stopped` if a stop was requested.

        Raises
        ------
        RadaError
            If it failed, which is in the log then.
        """
        try:
            return self._ended(checkpoint, make_volume)
        except RadaError as error:
            if self.team.leads:
                with suppress(RunFolderError):  # the folder itself may be what is wrong
                    self.folder.log(f"failed: {error}")
            raise

    @shortage_explained
    def _ended(
        self, checkpoint: Checkpoint | None, make_volume: Callable[[Case], Volume]
    ) -> tuple[FinishReason, TrainState]:
        with computing(self.config.threads), ExitStack() as stack:
            try:
                with self.team.together():
                    guide = self._guide(checkpoint)
                    volumes = stack.enter_context(prepared(self.cases, make_volume, self.folder, self.team))
            except Stopped:
                state = checkpoint.state if checkpoint else TrainState(0, self.config.training.iterations)
                self.told(RunFinished(FinishReason.STOPPED, state.iteration))
                return FinishReason.STOPPED, state
            give_back()
            state, reason = self._run(volumes, guide, checkpoint)
            if self.device.type != "cpu":
                release()  # a prediction needs the card's memory, of which recordings keep their own
        self.told(RunFinished(reason, state.iteration))
        return reason, state

    def told(self, event: Event) -> None:
        """Log an event and pass it on.

        Raises
        ------
        RunFolderError
            If a checkpoint was saved into a folder that is no run any more.
        """
        if not self.team.leads:
            return
        if isinstance(event, CheckpointSaved):
            self.folder.check_there()
        if not isinstance(event, StageProgress):
            self.folder.log(str(event))
        self.listener(event)

    def _guide(self, checkpoint: Checkpoint | None) -> Guide | None:
        """Settle the guidance in one process; the others read what that one wrote."""
        guide = None
        for mine in (self.team.leads, not self.team.leads):
            if mine:
                guide = prepare_guide(
                    self.folder, self.cases, self.classes, self.config, checkpoint, self.control, self.told
                )
            self.team.any(False)
        return guide

    def _run(
        self, volumes: Sequence[Volume], guide: Guide | None, checkpoint: Checkpoint | None
    ) -> tuple[TrainState, FinishReason]:
        """Train on all volumes at once; or, where networks teach themselves, on the annotated ones first."""
        if not teaches_itself(self.config, volumes):
            return self._trained(self.config, volumes, guide, checkpoint)
        first, second = halves(self.config)
        if checkpoint is None or not checkpoint.state.taught_by_itself:
            annotated = [volume for volume in volumes if volume.is_labelled]
            state, reason = self._trained(first, annotated, guide, checkpoint, after(first, second))
            if reason is not FinishReason.COMPLETED:
                return state, reason
            checkpoint = self._begun_anew(state, guide)
        if checkpoint.state.iteration < checkpoint.state.total_iterations:
            try:
                with self.team.together():
                    volumes = self._labelled(volumes, guide)
            except Stopped:
                return checkpoint.state, FinishReason.STOPPED
        return self._trained(second, volumes, guide, checkpoint)

    def _begun_anew(self, state: TrainState, guide: Guide | None) -> Checkpoint:
        """Keep the best networks as teacher, and make new ones the last checkpoint."""
        state, weights = state.begun_anew(self.config.training.iterations), self._networks(guide).state_dict()
        if self.team.leads:
            best, last = self.folder.best_checkpoint, self.folder.last_checkpoint
            teacher = load_checkpoint(best if best.exists() else last)
            save_weights(self.folder.teacher_checkpoint, teacher.state, teacher.model)
            save_weights(last, state, weights)
        self.team.any(False)
        return Checkpoint(state, weights, None)

    def _labelled(self, volumes: Sequence[Volume], guide: Guide | None) -> list[Volume]:
        """Let the teacher label the volumes that nobody annotated."""
        teacher, path = self._networks(guide), self.folder.teacher_checkpoint
        if not path.is_file():
            raise RunFolderError(
                f"{path} is not there, whose networks label scans without annotated slices; restore it from a copy, "
                "or continue the run in a new folder."
            )
        load_checkpoint(path, ", or delete it and continue the run in a new folder").fill(teacher)
        teacher.place_on(self.device)
        bare = [position for position, volume in enumerate(volumes) if not volume.is_labelled]
        found, total = list(volumes), len(bare)
        for number, position in enumerate(bare):
            self.told(StageProgress(Stage.LABEL, number, total, volumes[position].name))
            found[position] = labelled_by(teacher, volumes[position], self.config, self.control)
        self.told(StageProgress(Stage.LABEL, total, total))
        scans = "1 scan" if total == 1 else f"{total} scans"
        self.told(Notice(f"The networks labelled {scans} without annotated slices; new networks learn from all."))
        return found

    def _networks(self, guide: Guide | None) -> TripleViewModel:
        return TripleViewModel(len(self.classes), self.config.model, self.config.seed, guide)

    def _trained(
        self,
        config: RunConfig,
        volumes: Sequence[Volume],
        guide: Guide | None,
        checkpoint: Checkpoint | None,
        to_come: ToCome = NOTHING,
    ) -> tuple[TrainState, FinishReason]:
        """Train with these settings on these volumes, within the memory that there is."""

        def make(rung: Rung, start: Checkpoint | None) -> Trainer:
            return Trainer(
                volumes,
                len(self.classes),
                rung.config,
                self.folder,
                rung.device,
                self.control,
                self.told,
                start,
                economy=rung.economy,
                guide=guide,
                team=self.team,
                to_come=to_come,
            )

        rungs = ladder(config, self.device, self.team.size)
        trainer, reason = run_within_memory(make, rungs, self.folder, checkpoint, self.told, self.team)
        return trainer.state, reason
