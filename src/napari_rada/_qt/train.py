"""The dock `Train`: choose what and how, start, watch, pause, stop, continue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_rada._napari.engine import checking, continuing, load_pipeline, loading, training
from napari_rada._napari.history import History
from napari_rada._napari.job import Job, RunState
from napari_rada._napari.kept_names import keep_as
from napari_rada._napari.layers import check_aligned, open_images, selected_images, shape_of, source_of, take_snapshot
from napari_rada._napari.pairing import brushed_image, check_owner, may_label, scans_of
from napari_rada._napari.recipes import Scan, train_command, train_script
from napari_rada._napari.run_files import show_scans
from napari_rada._qt.cohort_panel import CohortPanel
from napari_rada._qt.dock import Dock, fill_devices, form
from napari_rada._qt.folder_edit import FolderEdit, can_be_made, folder_for_runs, fresh_run_folder
from napari_rada._qt.layer_combo import LayerCombo
from napari_rada._qt.log_window import LogWindow
from napari_rada._qt.loss_plot import LossPlot
from napari_rada._qt.message import Notices
from napari_rada._qt.preview_panel import PreviewedRun, PreviewPanel
from napari_rada._qt.progress import ProgressLine, duration
from napari_rada._qt.run_buttons import RunButtons
from napari_rada._qt.run_settings import RunSettings
from napari_rada._qt.section import Section
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import ConfigError, InputError
from napari_rada.events import CheckpointSaved, FinishReason, Notice
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_rada._napari.engine import LoadEngine
    from napari_rada._napari.job import Work
    from napari_rada._napari.layers import Snapshot
    from napari_rada._napari.recipes import Write
    from napari_rada._napari.run_files import LoadedRun
    from napari_rada._qt.theme import Colours
    from napari_rada.config import RunConfig
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Event
    from napari_rada.pipeline import TrainingResult
    from napari_rada.training.preflight import Preflight

REDRAW_MS = 250
"""The plot follows at most four times a second."""

LISTED_EVENTS = ("inserted", "removed", "name")
"""What the layer list emits where the further scans or their labels may be others."""

COPY_NOTE = "The run works on a copy; what you paint now counts when you continue it."


@dataclass(frozen=True, eq=False)
class _Before:
    """The run before the one that is in progress, until that has trained something and saved it."""

    run_dir: Path | None
    saved_in: Path | None
    can_continue: bool
    history: History
    preview: PreviewedRun | None


class TrainWidget(Dock):
    """Train the three networks on the chosen layers.

    `start`, `pause`, `resume`, `stop`, `continue_training` and `load_run` do what the buttons do; `state`, `history`
    and `run_dir` tell what is. The run works on a copy of the layers taken at Start: later edits do not reach it.
    """

    def __init__(self, napari_viewer: ViewerModel, *, load_engine: LoadEngine = load_pipeline) -> None:
        super().__init__(napari_viewer)
        self._load_engine = load_engine
        self.history = History()
        self.run_dir: Path | None = None
        self._can_continue = False
        self._before: _Before | None = None
        self._selected: list[Image] = []
        self._several = False
        self.job = Job("training", spawn)
        self._pump = JobPump(self.job, self)
        self.checking_job = Job("check", spawn)
        self._checking_pump = JobPump(self.checking_job, self)
        self._checked = ""  # what a check found of the settings and scans that are chosen
        self.loading_job = Job("loading", spawn)
        self._loading_pump = JobPump(self.loading_job, self)
        self.image = LayerCombo(napari_viewer, Image, empty="no image open", first=brushed_image(napari_viewer))
        self.labels = LayerCombo(napari_viewer, Labels, empty="no labels yet", fits=self._may_label)
        self.labels.setPlaceholderText("no labels of this image")
        self.settings = RunSettings()
        self.folder = FolderEdit("Choose the folder of the run")
        self.cohort = CohortPanel()
        self.buttons = RunButtons()
        self.progress = ProgressLine()
        self.plot = LossPlot()
        self.notices = Notices()
        self.preview = PreviewPanel(napari_viewer, load_engine)
        self.log = LogWindow(self)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._build()
        self._connect()
        self.apply_colours(self.colours)
        self._on_settings_changed()
        self._on_image_changed()
        self._on_state_changed(self.job.state)
        fill_devices(self.settings.device)

    @property
    def state(self) -> RunState:
        """What the run is doing."""
        return self.job.state

    @property
    def annotated(self) -> tuple[AnnotatedSlice, ...]:
        """The slices marked as annotated in the chosen Labels layer."""
        return self.session.annotation(self.labels.value()).complete if self.labels.value() else ()

    def config(self) -> RunConfig:
        """Return the configuration that Start would use; raises `ConfigError`."""
        return self.settings.value()

    def start(self) -> None:
        """Copy the layers and train new networks in a worker."""
        with self.telling_errors():
            snapshots, run_dir, config = self._snapshots(), self.folder.checked(), self.config()
            work = training(self._load_engine, snapshots, run_dir, config, self.cohort.value())
            self._run(work, snapshots[0], run_dir, History())

    def continue_training(self) -> None:
        """Copy the layers and train on from the latest run, into a run folder of its own; the curve goes on."""
        with self.telling_errors():
            if self.run_dir is None or not self._can_continue:
                raise InputError("There is no run to continue; start one, or load one from disk.")
            snapshots, run_dir, config = self._snapshots(), self.folder.checked(), self.config()
            work = continuing(self._load_engine, self.run_dir, snapshots, run_dir, config, self.cohort.value())
            self._run(work, snapshots[0], run_dir, self.history.copy())

    def check(self) -> None:
        """Tell whether a run can start, the memory that it needs and how long it will take, without training."""
        with self.telling_errors():
            self.checking_job.start(checking(self._snapshots(), self.config(), self.cohort.value()))
            self.message.setValue("Checking…")

    def pause(self) -> None:
        """Let training wait after the present iteration."""
        self.job.pause()

    def resume(self) -> None:
        """Let paused training go on."""
        self.job.resume()

    def stop(self) -> None:
        """End training, on a processor within the present iteration; a checkpoint is saved."""
        self.job.stop()

    def load_run(self, run_dir: Path | str) -> None:
        """Bring back a run from disk: its layers as they were last painted, settings, curve and networks."""
        with self.telling_errors():
            if self.job.is_running:
                raise InputError("A run is in progress; stop it before you load another one.")
            self.loading_job.start(loading(Path(run_dir)))
            self.message.setValue("Loading the run…")

    def as_command(self) -> str:
        """Return the command that does what Start would do now; raises `RadaError` if that cannot be done."""
        return self._command()()

    def as_script(self) -> str:
        """Return the lines for napari's console that do what Start would do now; raises `RadaError` likewise."""
        return train_script(self._scans(), self.cohort.value(), self.folder.checked(), self.config(), None)

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme."""
        super().apply_colours(colours)
        for part in (self.notices, self.plot, self.buttons, self.settings, self.preview):
            part.setColours(colours)
        for line in (self.summary, self.settings.weights):
            line.setStyleSheet(f"color: {colours.muted}")

    def show_log(self) -> None:
        """Open a window with what the latest run told, as it lies in its run folder."""
        with self.telling_errors():
            if self.run_dir is None:
                raise InputError("There is no run to show the log of; start one, or load one from disk.")
            self.log.set_data(self.run_dir)
            self.log.show()

    def _command(self) -> Write:
        return train_command(self._scans(), self.cohort.value(), self.folder.checked(), self.config(), None)

    def _snapshots(self) -> list[Snapshot]:
        """Copy the chosen layers, then those of the cohort."""
        return [take_snapshot(*scan) if scan.planes else take_snapshot(scan.image) for scan in self._scans()]

    def _scans(self) -> list[Scan]:
        """Return the chosen layers, then those of the cohort; raises `InputError` if they cannot be trained on."""
        image, labels = self.image.value(), self.labels.value()
        if image is not None:
            shape_of(image)  # what is no volume has no labels, and is told first
        if image is None or labels is None:
            raise InputError("Training needs an Image layer and a Labels layer with annotated slices.")
        check_aligned(image, labels)
        check_owner(labels, image, open_images(self.viewer))
        if not self.annotated:
            raise InputError(
                f"No slice of '{labels.name}' is marked as annotated; mark at least one in the dock Label slices."
            )
        return [Scan(image, labels, self.annotated), *self._other_scans()]

    def _other_scans(self) -> list[Scan]:
        """Return the further scans, each with its own labels: those of the chosen image are never another's."""
        images = self._other_images()
        return scans_of(self.viewer, images, besides=self.labels.value()) if images else []

    def _other_images(self) -> list[Image]:
        """Return the images that were selected when several were; a click on one, to paint, is no choice."""
        here = [layer for layer in self._selected if layer in self.viewer.layers]
        return [layer for layer in here if layer is not self.image.value()]

    def _run(self, work: Work, snapshot: Snapshot, run_dir: Path, history: History) -> None:
        if self.loading_job.is_running:
            raise InputError("A run is being loaded; wait until it is there, then start.")
        RunFolder(run_dir).check_free()
        self.job.start(work)
        for labels in [scan.labels for scan in self._scans() if scan.labels is not None]:
            keep_as(labels, str(labels.name), self.viewer.layers)  # the name that the run remembers
        self._before = _Before(self.run_dir, self.session.run_dir, self._can_continue, self.history, self.preview.run)
        self.run_dir, self._can_continue, self.history = run_dir, False, history
        device = self.settings.device.value()
        self.preview.set_run(PreviewedRun(run_dir, snapshot, self.image.value(), self.labels.value(), device))
        self.notices.forget()
        self.summary.setText(COPY_NOTE)
        self.plot.set_data(self.history)

    def _go_back(self) -> None:
        """Take up the run before again, if the one that has ended leaves nothing to go on with."""
        before, self._before = self._before, None
        if before is not None and (before.can_continue or self.session.run_dir != self.run_dir):
            self.run_dir, self._can_continue, self.history = before.run_dir, before.can_continue, before.history
            self.session.run_dir = before.saved_in
            self.preview.set_run(before.preview)
            self.plot.set_data(self.history)
        self._draw_buttons()

    def _build(self) -> None:
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.column.addLayout(form(Image=self.image, Labels=self.labels))
        self.column.addWidget(self.summary)
        self.column.addWidget(self.settings)
        self.more = Section(self.cohort.title, self.cohort, tip="Learn from several scans, annotated or not")
        self.column.addWidget(self.more)
        self.column.addLayout(form(Folder=self.folder))
        section = Section("Preview while training", self.preview, tip="Look at the mask before the run is over")
        for widget in (self.buttons, self.progress, self.message, self.notices, self.plot, section):
            self.column.addWidget(widget)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.buttons.startRequested.connect(self.start)
        self.buttons.pauseRequested.connect(self.pause)
        self.buttons.resumeRequested.connect(self.resume)
        self.buttons.stopRequested.connect(self.stop)
        self.buttons.continueRequested.connect(self.continue_training)
        self.buttons.checkRequested.connect(self.check)
        self.buttons.loadRequested.connect(self._on_load_requested)
        self.buttons.copyRequested.connect(self._on_copy_requested)
        self.buttons.logRequested.connect(self.show_log)
        self.settings.valueChanged.connect(self._on_settings_changed)
        self.cohort.valueChanged.connect(self._on_scans_changed)
        self.follow(self.viewer.layers.selection.events.changed, self._on_scans_changed)
        self.image.valueChanged.connect(self._on_image_changed)
        self.labels.valueChanged.connect(self._on_layers_changed)
        self.follow(self.viewer.layers.events, self._on_layer_event)
        self.follow(self.session.annotation_changed, self._on_annotation_changed)
        self.follow(self.session.annotation_changed, self._draw_listing)
        self.preview.checkpointRequested.connect(self.job.request_checkpoint)
        self.plot.refused.connect(self.show_error)
        self._redraw.timeout.connect(lambda: self.plot.set_data(self.history))
        self.job.state_changed.connect(self._on_state_changed)
        self.job.event.connect(self._on_event)
        self.job.succeeded.connect(self._on_succeeded)
        self.job.interrupted.connect(self._on_nothing_trained)
        self.job.failed.connect(self._on_failed)
        self.checking_job.succeeded.connect(self._on_checked)
        self.checking_job.failed.connect(self.show_error)
        self.loading_job.state_changed.connect(lambda _state: self._draw_buttons())
        self.loading_job.succeeded.connect(self._on_loaded)
        self.loading_job.failed.connect(self.show_error)
        for part in (self.image, self.labels):
            self.on_shut(part.shut)
        self.on_shut(self._redraw.stop)
        self.on_shut(self._leave_run)
        for job in (self.checking_job, self.loading_job, self.preview.job):
            self.on_shut(job.stop)

    def _leave_run(self) -> None:
        """Stop the run that is left behind, and say where it is: nobody is here to hear of its end."""
        if not self.job.is_running:
            return
        self.job.stop()
        if self.run_dir is not None and self._can_continue:
            self.session.add_run(self.run_dir, self.run_dir.name)
        show_info(
            f"Training was stopped, since its dock was closed. Load run… in the dock Train brings {self.run_dir} back."
        )

    def _on_settings_changed(self) -> None:
        self.message.takeBack(self._checked)
        try:
            self.session.set_config(self.settings.value(cohort=False))
        except ConfigError:
            return  # the form says what is wrong

    def _on_scans_changed(self, change: object = None) -> None:
        """Show the settings for as many scans as are chosen: one, or several that share one network."""
        del change
        if not self.cohort.layers.isChecked():
            self._selected = []
        elif len(selected := selected_images(self.viewer)) > 1 or not self._other_images():
            self._selected = selected
        self._draw_listing()
        several = bool(self._other_images()) or self.cohort.names_folder
        if several != self._several and not self.job.is_running:
            self._several = several
            self.settings.set_cohort(several)

    def _on_layer_event(self, event: Any) -> None:
        if event.type in LISTED_EVENTS:
            self._draw_listing()

    def _draw_listing(self) -> None:
        """List the further scans, each with the labels that it is learned with."""
        self.message.takeBack(self._checked)
        scans = self._other_scans()
        self.cohort.set_data([(scan.image.name, scan.labels.name if scan.labels else None) for scan in scans])
        self.more.setTitle(self.cohort.title)

    def _may_label(self, layer: Labels) -> bool:
        image = self.image.value()
        return image is None or may_label(layer, image, open_images(self.viewer))

    def _choose_labels(self) -> None:
        """Choose the annotation of the image, or none where there is only that of others."""
        image, labels = self.image.value(), self.labels.value()
        best = None if image is None else self.session.labels_on(self.viewer, image)
        if best is not None:
            self.labels.setValue(best)
        elif labels is not None and not self._may_label(labels):
            self.labels.setCurrentIndex(-1)

    def _on_image_changed(self, layer: object = None) -> None:
        self._choose_labels()
        self._on_layers_changed(layer)
        if not self.job.is_running:
            self._propose_folder()

    def _on_layers_changed(self, layer: object = None) -> None:
        del layer
        self.forget_error()
        self._on_annotation_changed()
        self._on_scans_changed()

    def _on_annotation_changed(self) -> None:
        if self.job.is_running:
            return
        count = len(self.annotated)
        if self.labels.value() is None:
            text = "Label three slices first, in the dock Label slices."
        elif count == 0:
            text = "No slice is marked as annotated yet."
        else:
            text = f"{count} annotated slice{'s' if count > 1 else ''} will be learned from."
        self.summary.setText(text)

    def _propose_folder(self, base: Path | None = None) -> None:
        """Propose a fresh run folder: in `base`, else beside the image file or among the user's data."""
        image = self.image.value()
        name = "run" if image is None else str(image.name)
        self.folder.setValue(
            fresh_run_folder(name, base or folder_for_runs(None if image is None else source_of(image)))
        )

    def _on_copy_requested(self, what: str) -> None:
        with self.telling_errors():
            write = self._command() if what == "command" else partial(str, self.as_script())
            self.copier.copy(write, f"Copied what Start would do as a {what}.")

    def _on_load_requested(self) -> None:
        start = self.run_dir.parent if self.run_dir else self.folder.value().parent
        chosen = QFileDialog.getExistingDirectory(self, "Load a run folder", str(start))
        if chosen:
            self.load_run(chosen)

    def _on_state_changed(self, state: RunState) -> None:
        idle = state is RunState.IDLE
        for widget in (self.image, self.labels, self.settings, self.cohort, self.folder):
            widget.setEnabled(idle)
        self.settings.weights.setVisible(idle and bool(self.settings.weights.text()))
        self._draw_buttons()
        self.preview.set_state(state)
        self.progress.setVisible(not idle)
        if idle:
            self._on_annotation_changed()
        else:
            self.progress.set_steps(self.state, self.history.steps)

    def _draw_buttons(self) -> None:
        run = self.run_dir.name if self.run_dir and self._can_continue else None
        self.buttons.set_data(self.state, run, loading=self.loading_job.is_running)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.add(event.message)
        if self.history.add(event) and not self._redraw.isActive():
            self._redraw.start()
        self.progress.take_in(event, self.state, self.history.steps)
        if isinstance(event, CheckpointSaved) and event.iteration > 0:
            self._can_continue, self._before = True, None
        if self.session.run_dir != self.run_dir and self.run_dir is not None and RunFolder(self.run_dir).is_run:
            self.session.run_dir = self.run_dir
        self.preview.take_in(event)

    def _on_succeeded(self, result: TrainingResult) -> None:
        self.plot.set_data(self.history)
        if result.iteration == 0:
            self._on_nothing_trained()
            return
        self._can_continue, self._before = True, None
        self._draw_buttons()
        verb = "Finished" if result.reason is FinishReason.COMPLETED else "Stopped"
        dice = "" if result.dice is None else f" Held-out Dice {result.dice:.3f}."
        self.message.setValue(f"{verb} after {result.iteration} iterations.{dice} Go on in the dock Predict.")
        self.session.add_run(result.run_dir, result.run_dir.name)
        if verb == "Finished":
            show_info(f"Training finished after {result.iteration} iterations.{dice}")
        self._propose_next()

    def _on_nothing_trained(self) -> None:
        self.message.setValue("Stopped before the first iteration; nothing was trained.")
        self._propose_next()
        self._go_back()

    def _on_failed(self, message: str) -> None:
        self.show_error(message)
        self._propose_next()
        self._go_back()

    def _propose_next(self) -> None:
        """Propose a folder beside that of the run that has ended, however it did, unless none can be made there."""
        beside = self.run_dir.parent if self.run_dir else None
        self._propose_folder(beside if beside is not None and can_be_made(beside) else None)

    def _on_checked(self, found: Preflight) -> None:
        lines = [f"Ready to start: about {duration(found.seconds)} of training.", str(found.memory), *found.hints]
        self._checked = " ".join(lines)
        self.message.setValue(self._checked, "info" if found.memory.fits and not found.hints else "warning")

    def _on_loaded(self, run: LoadedRun) -> None:
        self._choose_scans(show_scans(self.viewer, run))
        self.settings.setValue(run.config)
        self.history = History.of(run.steps, run.validations)
        self.notices.forget()  # they are of the run before
        self.plot.set_data(self.history)
        self.run_dir = self.session.run_dir = run.path
        self.preview.set_run(None)
        self._can_continue = run.can_predict
        if run.can_predict:
            self.session.add_run(run.path, run.path.name)
        self._draw_buttons()
        self._on_annotation_changed()
        self.message.setValue(f"Loaded {run.path.name}.{f' {len(run.steps)} logged iterations.' if run.steps else ''}")

    def _choose_scans(self, scans: dict[Image, Labels | None]) -> None:
        """Choose the first annotated scan with its labels, and the others, if there are any, as further scans."""
        image = next((image for image, labels in scans.items() if labels), next(iter(scans)))
        self.image.setValue(image)
        self.cohort.setValue(None)
        self.viewer.layers.selection = set(scans)
        self.cohort.layers.setChecked(len(scans) > 1)
        if (labels := scans[image]) is not None:
            self.labels.setValue(labels)
            self.viewer.layers.selection.active = labels
