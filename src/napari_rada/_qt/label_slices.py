"""The dock `Label slices`: turn the viewer, mark annotated slices, preview the propagation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtWidgets import QHBoxLayout, QPushButton

from napari_rada._napari.engine import load_pipeline, propagation
from napari_rada._napari.job import Job, RunState
from napari_rada._napari.layers import check_aligned, new_labels_data, take_snapshot
from napari_rada._napari.preview import add_layers, show_preview
from napari_rada._qt.annotation_panel import AnnotationPanel
from napari_rada._qt.dock import Dock, form
from napari_rada._qt.layer_combo import LayerCombo
from napari_rada._qt.navigator import SliceNavigator
from napari_rada._qt.progress import ProgressLine, volumes
from napari_rada._qt.run_settings import viewer_config
from napari_rada._qt.theme import emphasise
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import InputError
from napari_rada.events import Notice, StageProgress

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_rada._napari.annotation import AnnotationModel
    from napari_rada._napari.engine import LoadEngine
    from napari_rada._qt.theme import Colours
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Event
    from napari_rada.prediction import Prediction


class LabelSlicesWidget(Dock):
    """Choose image and labels, turn to a plane, paint, mark the slice as annotated, propagate a preview.

    Every button is a method: `new_labels`, `show_plane`, `go_to`, `mark_current_slice`, `detect`, `propagate`,
    `cancel`.
    """

    def __init__(self, napari_viewer: ViewerModel, *, load_engine: LoadEngine = load_pipeline) -> None:
        super().__init__(napari_viewer)
        self._load_engine = load_engine
        self._propagated: tuple[Image, Labels] | None = None
        self.job = Job("propagation", spawn)
        self._pump = JobPump(self.job, self)
        self.image = LayerCombo(napari_viewer, Image, empty="no image open")
        self.labels = LayerCombo(napari_viewer, Labels, empty="no labels yet")
        self.navigator = SliceNavigator(napari_viewer)
        self.panel = AnnotationPanel()
        self.progress = ProgressLine()
        self._build()
        self._connect()
        self.apply_colours(self.colours)
        self._on_image_changed(self.image.value())
        self._on_labels_changed(self.labels.value())
        self._on_state_changed(self.job.state)

    @property
    def current_slice(self) -> AnnotatedSlice | None:
        """The slice that the viewer shows; None in 3D, without an image, or off the volume."""
        return self.navigator.value()

    @property
    def annotated(self) -> tuple[AnnotatedSlice, ...]:
        """The slices marked as annotated in the chosen Labels layer."""
        return self.session.annotation(self.labels.value()).complete if self.labels.value() else ()

    def new_labels(self) -> None:
        """Add an empty Labels layer on the image's voxels and choose it."""
        with self.telling_errors():
            if self.image.value() is None:
                raise InputError("There is no Image layer; open a scan first.")
            (layer,) = add_layers(self.viewer, [new_labels_data(self.image.value())])
            self.viewer.layers.selection.active = layer
            self.labels.setValue(layer)

    def show_plane(self, axis: int) -> None:
        """Turn the viewer to slices perpendicular to array `axis` of the image."""
        with self.telling_errors(keep_message=True):
            self.navigator.show_plane(axis)

    def go_to(self, plane: AnnotatedSlice) -> None:
        """Show one slice."""
        with self.telling_errors(keep_message=True):
            self.navigator.setValue(plane)

    def mark_current_slice(self) -> None:
        """Mark the slice shown as annotated, painted or empty."""
        with self.telling_errors():
            plane = self.current_slice
            if plane is None:
                raise InputError("The viewer shows no slice of the image; turn to axial, coronal or sagittal first.")
            self._checked_model().set_complete(plane)

    def detect(self) -> None:
        """Mark every slice that looks painted as annotated."""
        with self.telling_errors():
            model = self._checked_model()
            model.rescan()
            if not model.accept_proposals():
                self.message.setValue("No further painted slice was found; a slice left empty is marked by hand.")

    def propagate(self) -> None:
        """Complete the annotated slices to a preview layer, in a worker."""
        with self.telling_errors():
            planes = self._checked_model().complete
            if not planes:
                raise InputError(
                    "No slice is marked as annotated; paint one and mark it, better three orthogonal ones."
                )
            image, labels = self.image.value(), self.labels.value()
            snapshot = take_snapshot(image, labels, planes)
            self.job.start(propagation(self._load_engine, snapshot, viewer_config("quick", "cpu", {})))
            self._propagated = (image, labels)

    def cancel(self) -> None:
        """Stop the propagation."""
        self.job.stop()

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme."""
        super().apply_colours(colours)
        self.panel.setColours(colours)
        emphasise(self.propagate_button, colours)

    def _build(self) -> None:
        self.new_button = QPushButton("New labels")
        self.new_button.setToolTip("Add an empty Labels layer on exactly the image's voxels")
        self.propagate_button = QPushButton("Propagate preview")
        self.propagate_button.setToolTip("Complete the annotated slices to the whole volume, without training")
        self.cancel_button = QPushButton("Cancel")
        row = QHBoxLayout()
        row.addWidget(self.propagate_button, 1)
        row.addWidget(self.cancel_button)
        self.column.addLayout(form(Image=self.image, Labels=self.labels))
        for widget in (self.new_button, self.navigator, self.panel):
            self.column.addWidget(widget)
        self.column.addLayout(row)
        self.column.addWidget(self.progress)
        self.column.addWidget(self.message)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.new_button.clicked.connect(lambda: self.new_labels())
        self.propagate_button.clicked.connect(lambda: self.propagate())
        self.cancel_button.clicked.connect(lambda: self.cancel())
        self.image.valueChanged.connect(self._on_image_changed)
        self.labels.valueChanged.connect(self._on_labels_changed)
        self.navigator.valueChanged.connect(self.panel.set_current)
        self.panel.markRequested.connect(self.mark_current_slice)
        self.panel.detectRequested.connect(self.detect)
        self.panel.table.jumpRequested.connect(self.go_to)
        self.panel.table.completeChanged.connect(self._on_complete_changed)
        self.panel.table.removeRequested.connect(self._on_remove_requested)
        self.job.state_changed.connect(self._on_state_changed)
        self.job.event.connect(self._on_event)
        self.job.succeeded.connect(self._on_propagated)
        self.job.failed.connect(self.show_error)
        for part in (self.image, self.labels, self.navigator):
            self.on_shut(part.shut)
        self.on_shut(lambda: self.panel.set_model(None))
        self.on_shut(self.job.stop)

    def _checked_model(self) -> AnnotationModel:
        """Return the annotation of the chosen labels once they are sure to fit the image."""
        image, labels = self.image.value(), self.labels.value()
        if image is None or labels is None:
            missing = "Image" if image is None else "Labels"
            raise InputError(f"There is no {missing} layer; {'open a scan' if image is None else 'press New labels'}.")
        check_aligned(image, labels)
        return self.session.annotation(labels)

    def _on_image_changed(self, layer: Image | None) -> None:
        self.navigator.set_layer(layer)
        self.panel.set_grid(self.navigator.grid)
        self.new_button.setEnabled(layer is not None)
        self.message.setValue("")

    def _on_labels_changed(self, layer: Labels | None) -> None:
        self.panel.set_model(None if layer is None else self.session.annotation(layer))
        self.panel.set_current(self.current_slice)
        self.message.setValue("")

    def _on_complete_changed(self, plane: AnnotatedSlice, complete: bool) -> None:
        with self.telling_errors():
            self._checked_model().set_complete(plane, complete)

    def _on_remove_requested(self, plane: AnnotatedSlice) -> None:
        with self.telling_errors():
            self._checked_model().remove(plane)

    def _on_state_changed(self, state: RunState) -> None:
        running = state is not RunState.IDLE
        self.propagate_button.setEnabled(not running)
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(running and state is not RunState.STOPPING)
        if running:
            self.progress.set_data("Stopping…" if state is RunState.STOPPING else "Preparing…")
        else:
            self.progress.hide()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StageProgress) and self.job.state is not RunState.STOPPING:
            self.progress.set_data(f"{event.stage.value.capitalize()}…", event.done, event.total)
        elif isinstance(event, Notice):
            self.message.setValue(event.message, "warning")

    def _on_propagated(self, prediction: Prediction) -> None:
        assert self._propagated is not None
        image, labels = self._propagated
        with self.telling_errors():
            preview = show_preview(self.viewer, prediction, image, labels)
            self.message.setValue(f"Preview in layer '{preview.name}' ({volumes(prediction)}).")
        self._propagated = None
