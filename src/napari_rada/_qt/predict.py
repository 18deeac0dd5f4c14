"""The dock `Predict`: a trained run, an image, and new layers on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_rada._napari.engine import load_pipeline, predicting, suggesting
from napari_rada._napari.job import Job, RunState
from napari_rada._napari.layers import (
    DISAGREEMENT,
    MASK,
    OUTPUTS,
    check_aligned,
    grid_of,
    prediction_to_layer_data,
    take_snapshot,
)
from napari_rada._napari.planes import describe, go_to
from napari_rada._napari.preview import add_layers
from napari_rada._qt.device_combo import DeviceCombo
from napari_rada._qt.dock import Dock, fill_devices, form
from napari_rada._qt.layer_combo import LayerCombo
from napari_rada._qt.progress import ProgressLine, volumes
from napari_rada._qt.run_combo import RunCombo
from napari_rada._qt.theme import emphasise
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import InputError
from napari_rada.events import Notice, StageProgress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_rada._napari.engine import LoadEngine
    from napari_rada._qt.theme import Colours
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Event
    from napari_rada.inference.suggest import Suggestion
    from napari_rada.prediction import Prediction

OUTPUT_TIPS = {
    MASK: "The label of every voxel",
    "probability": "How sure the three networks are of each class, 0 to 1",
    DISAGREEMENT: "How much the three networks contradict each other, 0 to 1",
}


class PredictWidget(Dock):
    """Predict an image with a trained run, into new layers that lie exactly on it.

    `predict`, `cancel` and `suggest` do what the buttons do; `prediction` is the latest result.
    """

    def __init__(self, napari_viewer: ViewerModel, *, load_engine: LoadEngine = load_pipeline) -> None:
        super().__init__(napari_viewer)
        self._load_engine = load_engine
        self.prediction: Prediction | None = None
        self._image: Image | None = None
        self.job = Job("prediction", spawn)
        self._pump = JobPump(self.job, self)
        self.suggestion_job = Job("suggestion", spawn)
        self._suggestion_pump = JobPump(self.suggestion_job, self)
        self.run = RunCombo(self.session)
        self.image = LayerCombo(napari_viewer, Image, empty="no image open")
        self.labels = LayerCombo(napari_viewer, Labels, empty="as in the run", optional=True)
        self.outputs = OutputChoice()
        self.device = DeviceCombo()
        self.progress = ProgressLine()
        self._build()
        self._connect()
        self.apply_colours(self.colours)
        self._on_state_changed(self.job.state)
        fill_devices(self.device)

    def predict(self) -> None:
        """Predict the chosen image in a worker; the result comes as new layers."""
        with self.telling_errors():
            run_dir, image = self._checked_input()
            labels = self.labels.value()
            snapshot = take_snapshot(image, labels, self._annotated(labels))
            self.job.start(predicting(self._load_engine, run_dir, snapshot, self.device.value()))
            self._image = image

    def cancel(self) -> None:
        """Stop the prediction after the present tile."""
        self.job.stop()

    def suggest(self) -> None:
        """Find the slice whose annotation should help most next, and show it."""
        with self.telling_errors():
            if self.prediction is None:
                raise InputError("There is no prediction yet; predict first.")
            self.suggestion_job.start(suggesting(self._load_engine, self.prediction, self._known_slices()))

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme."""
        super().apply_colours(colours)
        emphasise(self.predict_button, colours)

    def _checked_input(self) -> tuple[Path, Image]:
        run_dir, image, labels = self.run.value(), self.image.value(), self.labels.value()
        if run_dir is None:
            raise InputError("There is no run to predict with; train first, or open a run folder.")
        if image is None:
            raise InputError("There is no Image layer; open a scan first.")
        if not self.outputs.value():
            raise InputError("Nothing is asked for; tick at least one of mask, probability and disagreement.")
        if labels is not None:
            check_aligned(image, labels)
            if not self._annotated(labels):
                raise InputError(
                    f"No slice of '{labels.name}' is marked as annotated; mark one or choose another layer."
                )
        return run_dir, image

    def _annotated(self, labels: Labels | None) -> Sequence[AnnotatedSlice] | None:
        return None if labels is None else self.session.annotation(labels).complete

    def _known_slices(self) -> list[AnnotatedSlice]:
        """Slices annotated on the predicted image in any Labels layer: they need not be suggested again."""
        assert self.prediction is not None
        shape = self.prediction.mask.shape
        layers = [layer for layer in self.viewer.layers if isinstance(layer, Labels) and layer.data.shape == shape]
        return sorted({plane for layer in layers for plane in self.session.annotation(layer).complete})

    def _build(self) -> None:
        self.predict_button = QPushButton("Predict")
        self.cancel_button = QPushButton("Cancel")
        self.suggest_button = QPushButton("Suggest next slice")
        self.suggest_button.setToolTip("Show the slice in which the three networks disagree most")
        row = QHBoxLayout()
        row.addWidget(self.predict_button, 1)
        row.addWidget(self.cancel_button)
        self.column.addLayout(
            form(Run=self.run, Image=self.image, Labels=self.labels, Outputs=self.outputs, Device=self.device)
        )
        self.labels.setToolTip("Annotated slices that the networks complete; by default those of the run")
        self.column.addLayout(row)
        for widget in (self.progress, self.message, self.suggest_button):
            self.column.addWidget(widget)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.predict_button.clicked.connect(lambda: self.predict())
        self.cancel_button.clicked.connect(lambda: self.cancel())
        self.suggest_button.clicked.connect(lambda: self.suggest())
        self.run.refused.connect(self.show_error)
        self.job.state_changed.connect(self._on_state_changed)
        self.job.event.connect(self._on_event)
        self.job.succeeded.connect(self._on_predicted)
        self.job.failed.connect(self.show_error)
        self.suggestion_job.succeeded.connect(self._on_suggested)
        self.suggestion_job.failed.connect(self.show_error)
        for part in (self.run, self.image, self.labels):
            self.on_shut(part.shut)
        for job in (self.job, self.suggestion_job):
            self.on_shut(job.stop)

    def _on_state_changed(self, state: RunState) -> None:
        running = state is not RunState.IDLE
        for widget in (self.run, self.image, self.labels, self.outputs, self.device, self.predict_button):
            widget.setEnabled(not running)
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(running and state is not RunState.STOPPING)
        self.suggest_button.setEnabled(not running and self.prediction is not None)
        if running:
            self.progress.set_data("Stopping…" if state is RunState.STOPPING else "Preparing…")
        else:
            self.progress.hide()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StageProgress) and self.job.state is not RunState.STOPPING:
            self.progress.set_data(f"{event.stage.value.capitalize()}…", event.done, event.total)
        elif isinstance(event, Notice):
            self.message.setValue(event.message, "warning")

    def _on_predicted(self, prediction: Prediction) -> None:
        assert self._image is not None
        with self.telling_errors():
            layers = prediction_to_layer_data(prediction, self._image, self.outputs.value())
            added = add_layers(self.viewer, layers)
            names = " and ".join(f"'{layer.name}'" for layer in added)
            self.message.setValue(f"Added {names} ({volumes(prediction)}).")
            self.prediction = prediction
        self.suggest_button.setEnabled(self.prediction is not None)

    def _on_suggested(self, suggestion: Suggestion) -> None:
        if self._image is None or self._image not in self.viewer.layers:
            self.show_error("The predicted image is no longer open; predict again.")
            return
        with self.telling_errors():
            go_to(self.viewer, self._image, suggestion.plane)
            where = describe(grid_of(self._image), suggestion.plane)
            self.message.setValue(f"Annotate {where} next (score {suggestion.score:.2f}).")


class OutputChoice(QWidget):
    """Choose what is added to the viewer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.boxes = {name: QCheckBox(name.capitalize()) for name in OUTPUTS}
        for name, box in self.boxes.items():
            box.setToolTip(OUTPUT_TIPS[name])
            layout.addWidget(box)
        self.setValue((MASK,))

    def value(self) -> tuple[str, ...]:
        """Return the outputs that are ticked."""
        return tuple(name for name, box in self.boxes.items() if box.isChecked())

    def setValue(self, outputs: Sequence[str]) -> None:
        """Tick exactly these outputs."""
        for name, box in self.boxes.items():
            box.setChecked(name in outputs)
