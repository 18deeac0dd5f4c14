"""The dock `Train`: choose what and how, start, watch, pause, stop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton

from napari_rada._napari.engine import load_pipeline, training
from napari_rada._napari.history import History
from napari_rada._napari.job import Job, RunState
from napari_rada._napari.layers import check_aligned, source_of, take_snapshot
from napari_rada._qt.device_combo import DeviceCombo
from napari_rada._qt.dock import Dock, fill_devices, form
from napari_rada._qt.folder_edit import FolderEdit, data_folder, fresh_run_folder
from napari_rada._qt.layer_combo import LayerCombo
from napari_rada._qt.loss_plot import LossPlot
from napari_rada._qt.message import Message
from napari_rada._qt.progress import ProgressLine, duration
from napari_rada._qt.run_settings import PresetCombo, RunLength, viewer_config
from napari_rada._qt.theme import emphasise
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.config import RunConfig
from napari_rada.errors import InputError
from napari_rada.events import FinishReason, Notice, StageProgress, StepLogged

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_rada._napari.engine import LoadEngine
    from napari_rada._qt.theme import Colours
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Event
    from napari_rada.pipeline import TrainingResult

REDRAW_MS = 250
"""The plot follows at most four times a second."""

STATE_TEXTS = {
    RunState.IDLE: "Ready",
    RunState.PREPARING: "Preparing",
    RunState.PROPAGATING: "Propagating the annotated slices",
    RunState.TRAINING: "Training",
    RunState.PREDICTING: "Predicting",
    RunState.PAUSING: "Pausing after this iteration",
    RunState.PAUSED: "Paused",
    RunState.STOPPING: "Stopping after this iteration",
}


class TrainWidget(Dock):
    """Train the three networks on the chosen layers.

    `start`, `pause`, `resume` and `stop` do what the buttons do; `state`, `history` and `run_dir` tell what is. The
    run works on a copy of the layers taken at Start: later edits do not reach it.
    """

    def __init__(self, napari_viewer: ViewerModel, *, load_engine: LoadEngine = load_pipeline) -> None:
        super().__init__(napari_viewer)
        self._load_engine = load_engine
        self.history = History()
        self.run_dir: Path | None = None
        self.job = Job("training", spawn)
        self._pump = JobPump(self.job, self)
        self.image = LayerCombo(napari_viewer, Image, empty="no image open")
        self.labels = LayerCombo(napari_viewer, Labels, empty="no labels yet")
        self.preset = PresetCombo()
        self.device = DeviceCombo()
        self.length = RunLength()
        self.folder = FolderEdit("Choose the folder of the run")
        self.progress = ProgressLine()
        self.plot = LossPlot()
        self.notices = Message()
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._build()
        self._connect()
        self.apply_colours(self.colours)
        self._on_preset_changed(self.preset.value())
        self._on_layers_changed()
        self._on_state_changed(self.job.state)
        fill_devices(self.device)

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
        return viewer_config(self.preset.value(), self.device.value(), self.length.value())

    def start(self) -> None:
        """Copy the layers and train in a worker."""
        with self.telling_errors():
            image, labels = self.image.value(), self.labels.value()
            if image is None or labels is None:
                raise InputError("Training needs an Image layer and a Labels layer with annotated slices.")
            check_aligned(image, labels)
            if not self.annotated:
                raise InputError(
                    f"No slice of '{labels.name}' is marked as annotated; mark at least one in the dock Label slices."
                )
            snapshot = take_snapshot(image, labels, self.annotated)
            run_dir = self.folder.value()
            self.job.start(training(self._load_engine, [snapshot], run_dir, self.config()))
            self.run_dir = run_dir
            self.history = History()
            self.notices.setValue("")
            self.plot.set_data(self.history)

    def pause(self) -> None:
        """Let training wait after the present iteration."""
        self.job.pause()

    def resume(self) -> None:
        """Let paused training go on."""
        self.job.resume()

    def stop(self) -> None:
        """End training after the present iteration; a checkpoint is saved."""
        self.job.stop()

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme."""
        super().apply_colours(colours)
        self.notices.setColours(colours)
        self.plot.setColours(colours)
        emphasise(self.start_button, colours)
        self.summary.setStyleSheet(f"color: {colours.muted}")

    def _build(self) -> None:
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.start_button = QPushButton("Start")
        self.pause_button = QPushButton("Pause")
        self.stop_button = QPushButton("Stop")
        self.start_button.setToolTip("Train on a copy of the layers as they are now")
        self.pause_button.setToolTip("Wait after the present iteration")
        self.stop_button.setToolTip("End after the present iteration; a checkpoint is saved")
        row = QHBoxLayout()
        for button in (self.start_button, self.pause_button, self.stop_button):
            row.addWidget(button)
        self.column.addLayout(form(Image=self.image, Labels=self.labels))
        self.column.addWidget(self.summary)
        self.column.addLayout(form(Preset=self.preset, Device=self.device, Length=self.length, Folder=self.folder))
        self.column.addLayout(row)
        for widget in (self.progress, self.message, self.notices, self.plot):
            self.column.addWidget(widget)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.start_button.clicked.connect(lambda: self.start())
        self.stop_button.clicked.connect(lambda: self.stop())
        self.pause_button.clicked.connect(self._on_pause_clicked)
        self.preset.valueChanged.connect(self._on_preset_changed)
        self.image.valueChanged.connect(self._on_layers_changed)
        self.labels.valueChanged.connect(self._on_layers_changed)
        self.session.annotation_changed.connect(self._on_annotation_changed)
        self._redraw.timeout.connect(lambda: self.plot.set_data(self.history))
        self.job.state_changed.connect(self._on_state_changed)
        self.job.event.connect(self._on_event)
        self.job.succeeded.connect(self._on_succeeded)
        self.job.failed.connect(self.show_error)
        self.on_shut(lambda: self.session.annotation_changed.disconnect(self._on_annotation_changed))
        for part in (self.image, self.labels):
            self.on_shut(part.shut)
        self.on_shut(self._redraw.stop)
        self.on_shut(self.job.stop)

    def _on_pause_clicked(self) -> None:
        if self.state in (RunState.PAUSED, RunState.PAUSING):
            self.resume()
        else:
            self.pause()

    def _on_preset_changed(self, name: str) -> None:
        self.length.set_data(RunConfig.from_preset(name))

    def _on_layers_changed(self, layer: object = None) -> None:
        del layer
        self._on_annotation_changed()
        if not self.job.is_running:
            self._propose_folder()

    def _on_annotation_changed(self) -> None:
        count = len(self.annotated)
        if self.labels.value() is None:
            text = "Label three slices first, in the dock Label slices."
        elif count == 0:
            text = "No slice is marked as annotated yet."
        else:
            text = f"{count} annotated slice{'s' if count > 1 else ''} will be learned from."
        self.summary.setText(text)

    def _propose_folder(self) -> None:
        """Propose a fresh run folder: beside the image file if one can write there, else among the user's data."""
        image = self.image.value()
        source = None if image is None else _source(image)
        if source is not None and os.access(source.parent, os.W_OK):
            base = source.parent / "rada-runs"
        else:
            base = data_folder()
        self.folder.setValue(fresh_run_folder("run" if image is None else str(image.name), base))

    def _on_state_changed(self, state: RunState) -> None:
        idle = state is RunState.IDLE
        for widget in (self.image, self.labels, self.preset, self.device, self.length, self.folder, self.start_button):
            widget.setEnabled(idle)
        waiting = state in (RunState.PAUSED, RunState.PAUSING)
        self.pause_button.setText("Resume" if waiting else "Pause")
        self.pause_button.setEnabled(waiting or state is RunState.TRAINING)
        self.stop_button.setEnabled(not idle and state is not RunState.STOPPING)
        self.progress.setVisible(not idle)
        if not idle:
            self._draw_progress()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.setValue(event.message, "warning")
        if isinstance(event, StageProgress):
            self.progress.set_data(f"{STATE_TEXTS[self.state]}…", event.done, event.total)
        if self.history.add(event) and not self._redraw.isActive():
            self._redraw.start()
        if isinstance(event, StepLogged):
            self._draw_progress()

    def _draw_progress(self) -> None:
        text = STATE_TEXTS[self.state]
        if not self.history.steps:
            self.progress.set_data(f"{text}…")
            return
        last = self.history.steps[-1]
        left = f" · {duration(last.remaining_s)} left" if self.state is RunState.TRAINING else ""
        sentence = f"{text} · iteration {last.iteration} of {last.total_iterations}{left}"
        self.progress.set_data(sentence, last.iteration, last.total_iterations)

    def _on_succeeded(self, result: TrainingResult) -> None:
        self.plot.set_data(self.history)
        dice = "" if result.dice is None else f" Held-out Dice {result.dice:.3f}."
        if result.iteration == 0:
            self.message.setValue("Stopped before the first iteration; nothing was trained.")
        else:
            verb = "Finished" if result.reason is FinishReason.COMPLETED else "Stopped"
            self.message.setValue(f"{verb} after {result.iteration} iterations.{dice} Go on in the dock Predict.")
            self.session.add_run(result.run_dir, result.run_dir.name)
        if result.reason is FinishReason.COMPLETED:
            show_info(f"Training finished after {result.iteration} iterations.{dice}")
        self._propose_folder()


def _source(image: Image) -> Path | None:
    """Return the image's file; None also for an image that is no volume, which Start will tell."""
    try:
        return source_of(image)
    except InputError:
        return None
