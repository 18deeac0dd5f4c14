"""The dock `Label slices`: turn the viewer, paint, mark annotated slices, preview the propagation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QPushButton

from napari_rada._napari.annotation import check_painted
from napari_rada._napari.brush_lock import BrushLock
from napari_rada._napari.edits import accept_plane, copy_nearest
from napari_rada._napari.engine import load_pipeline, propagation, suggesting
from napari_rada._napari.job import Job
from napari_rada._napari.layers import (
    check_aligned,
    full_resolution,
    is_output,
    lies_on,
    new_labels_data,
    open_images,
    shape_of,
    take_snapshot,
)
from napari_rada._napari.pairing import brushed_image, image_of, own_labels
from napari_rada._napari.planes import check_untilted, describe, viewed_axis
from napari_rada._napari.preview import add_layers, show_preview
from napari_rada._napari.windows import apply_window, shown_window
from napari_rada._qt import shortcuts
from napari_rada._qt.annotation_panel import AnnotationPanel
from napari_rada._qt.autosave import Autosaver
from napari_rada._qt.class_panel import ClassPanel
from napari_rada._qt.dock import Dock, form
from napari_rada._qt.job_row import JobRow
from napari_rada._qt.layer_combo import LayerCombo
from napari_rada._qt.message import CLASSES_TOLD, ONLY_CROSSINGS
from napari_rada._qt.navigator import SliceNavigator
from napari_rada._qt.painting_panel import PaintingPanel
from napari_rada._qt.run_settings import viewer_config
from napari_rada._qt.section import Section
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.data.first_slices import first_slices
from napari_rada.errors import InputError
from napari_rada.events import Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_rada._napari.annotation import AnnotationModel
    from napari_rada._napari.engine import LoadEngine
    from napari_rada._napari.windows import Window
    from napari_rada._qt.theme import Colours
    from napari_rada.config import RunConfig
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Event
    from napari_rada.inference.suggest import Suggestion
    from napari_rada.prediction import Prediction


AUTO_PROPAGATE_MS = 500
"""Quiet time after the annotated slices changed before the preview follows by itself."""


class _Question(NamedTuple):
    """What a propagation is asked: another question may have another answer."""

    image: Image
    labels: Labels
    slices: tuple[tuple[AnnotatedSlice, bytes], ...]
    config: RunConfig


class LabelSlicesWidget(Dock):
    """Choose image and labels, turn to a plane, paint, mark the slice as annotated, propagate a preview.

    Every button is a method: `new_labels`, `show_plane`, `go_to`, `mark_current_slice`, `detect`, `copy_nearest`,
    `copy_preview`, `propagate`, `cancel`, `suggest`. `lock.set_on` confines painting to listed slices.
    """

    def __init__(self, napari_viewer: ViewerModel, *, load_engine: LoadEngine = load_pipeline) -> None:
        super().__init__(napari_viewer)
        self._load_engine = load_engine
        self._asked: _Question | None = None
        self._then_suggest = False
        self._notices: list[str] = []
        self._preview: tuple[_Question, Prediction] | None = None
        self.job = Job("propagation", spawn)
        self._pump = JobPump(self.job, self)
        self.suggestion_job = Job("suggestion", spawn)
        self._suggestion_pump = JobPump(self.suggestion_job, self)
        self.image = LayerCombo(napari_viewer, Image, empty="no image open", first=brushed_image(napari_viewer))
        self.labels = LayerCombo(napari_viewer, Labels, empty="no labels yet", fits=self._lies_on_image)
        self.labels.setPlaceholderText("no labels of this image")
        self.navigator = SliceNavigator(napari_viewer)
        self.panel = AnnotationPanel(napari_viewer)
        self.classes = ClassPanel()
        self.painting = PaintingPanel()
        self.lock = BrushLock()
        self.autosaver = Autosaver(self.session, napari_viewer.layers, self)
        self.row = JobRow(
            self.job,
            "Propagate preview",
            shortcuts.with_key(
                "Complete the annotated slices to the whole volume, without training", shortcuts.PROPAGATE
            ),
        )
        self.auto = QCheckBox("Follow the annotated slices")
        self._follow = QTimer(self)
        self._follow.setSingleShot(True)
        self._follow.setInterval(AUTO_PROPAGATE_MS)
        self._build()
        self._connect()
        self.apply_colours(self.colours)
        self._on_image_changed(self.image.value())
        self._on_labels_changed(self.labels.value())

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
            data, earlier = new_labels_data(self.image.value()), self.autosaver.earlier(self.image.value())
            (layer,) = add_layers(self.viewer, [data])
            self.autosaver.keep_apart(self.image.value(), layer)
            self.viewer.layers.selection.active = layer
            self.labels.setValue(layer)
            if earlier is not None:
                self.message.setValue(f"An earlier annotation of this scan lies in {earlier}; open it to go on.")

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
            model, plane = self._checked_model(), self._checked_plane()
            brush = self._brush_elsewhere()
            if brush is not None:
                check_painted(self.labels.value(), brush, plane)
            model.set_complete(plane)
            if brush is not None:
                self.message.setValue(f"Marked in '{model.layer.name}'; the brush is in '{brush.name}'.", "warning")
            elif not np.any(full_resolution(model.layer)[plane.selector()]):
                self.message.setValue("Marked as empty: no structure reaches this slice. Untick it to paint there.")
            elif model.shows_only_crossings(plane):
                self.message.setValue(ONLY_CROSSINGS, "warning")
            else:
                self._tell_slips([plane])

    def suggest(self) -> None:
        """Show a slice worth annotating: on an axis that has none, then where the propagation is in doubt."""
        with self.telling_errors():
            image, labels = self.image.value(), self.labels.value()
            if image is None:
                raise InputError("There is no Image layer; open a scan first.")
            rows = () if labels is None else self._checked_model().rows
            painted = None if labels is None else full_resolution(labels)
            listed = [row.plane for row in rows]
            planes = first_slices(shape_of(image), painted, listed)
            if planes:
                hint = (
                    "it crosses your paint where that is widest" if listed else "move to where the structure is largest"
                )
                self._show_suggested(planes[0], hint)
            else:
                self._suggest_where_in_doubt()

    def copy_nearest(self) -> None:
        """Paint the nearest annotated slice of this plane into the one that is shown; Ctrl+Z takes it back."""
        with self.telling_errors():
            model, plane = self._checked_model(), self._checked_plane()
            nearest = copy_nearest(model.layer, plane)
            self.message.setValue(f"Copied slice {nearest.index}; correct it, then mark this slice as annotated.")

    def copy_preview(self) -> None:
        """Paint the latest preview into the slice that is shown; Ctrl+Z takes it back."""
        with self.telling_errors():
            model, plane = self._checked_model(), self._checked_plane()
            if self._preview is None:
                raise InputError("There is no preview of these labels yet; propagate first.")
            accept_plane(model.layer, self._preview[1].mask, plane)
            self.message.setValue("Copied the preview; correct it, then mark this slice as annotated.")

    def detect(self) -> None:
        """Mark every slice that looks painted as annotated."""
        with self.telling_errors():
            model = self._checked_model()
            if not model.can_be_scanned:
                raise InputError(f"Layer '{model.layer.name}' is read in parts; mark its annotated slices one by one.")
            model.rescan()
            accepted = model.accept_proposals()
            self._tell_slips(accepted)
            if not accepted:
                self.message.setValue("No further painted slice was found; a slice left empty is marked by hand.")

    def propagate(self) -> None:
        """Complete the annotated slices to a preview layer, in a worker."""
        with self.telling_errors():
            self._propagate(self._question(), then_suggest=False)

    def cancel(self) -> None:
        """Stop the propagation."""
        self.job.stop()

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme."""
        super().apply_colours(colours)
        self.panel.setColours(colours)
        self.row.setColours(colours)

    def _question(self) -> _Question:
        """Return what a propagation would be asked now; raises `InputError` if there is nothing to propagate."""
        planes = self._checked_model().complete
        if not planes:
            raise InputError("No slice is marked as annotated; paint one and mark it, better three orthogonal ones.")
        image, labels = self.image.value(), self.labels.value()
        painted = full_resolution(labels)
        slices = tuple((plane, np.asarray(painted[plane.selector()]).tobytes()) for plane in planes)
        return _Question(image, labels, slices, self.session.config or viewer_config("quick"))

    def _propagate(self, question: _Question, *, then_suggest: bool) -> None:
        snapshot = take_snapshot(question.image, question.labels, [plane for plane, _painted in question.slices])
        self.job.start(propagation(self._load_engine, snapshot, question.config))
        self._asked, self._then_suggest, self._notices = question, then_suggest, []

    def _suggest_where_in_doubt(self) -> None:
        """Suggest from the latest propagation, or from a new one if it would be asked something else."""
        question = self._question()
        if self.job.is_running:
            self._then_suggest = True
        elif self._preview is not None and self._preview[0] == question:
            planes = [plane for plane, _painted in question.slices]
            self.suggestion_job.start(suggesting(self._load_engine, self._preview[1], planes))
        else:
            self._propagate(question, then_suggest=True)

    def _show_suggested(self, plane: AnnotatedSlice, hint: str) -> None:
        self.navigator.setValue(plane)
        assert self.navigator.grid is not None
        self.message.setValue(f"Annotate {describe(self.navigator.grid, plane)}: {hint}.")

    def _build(self) -> None:
        self.new_button = QPushButton("New labels")
        self.new_button.setToolTip("Add an empty Labels layer on exactly the image's voxels")
        self.next_button = QPushButton("Suggest next slice")
        tip = "Show a slice worth annotating: in a direction that has none, then where the propagation is in doubt"
        self.next_button.setToolTip(shortcuts.with_key(tip, shortcuts.NEXT))
        self.auto.setToolTip("Propagate again by itself whenever an annotated slice is marked or painted in")
        self.panel.mark_button.setToolTip(shortcuts.with_key(self.panel.mark_button.toolTip(), shortcuts.MARK))
        for button, key in ((self.painting.copy, shortcuts.COPY), (self.painting.copy_preview, shortcuts.COPY_PREVIEW)):
            button.setToolTip(shortcuts.with_key(button.toolTip(), key))
        self.column.addLayout(form(Image=self.image, Labels=self.labels))
        sections = (
            Section("Classes", self.classes, tip="Several structures, each with a label, a name and a text prompt"),
            Section(
                "Painting", self.painting, tip="A start from the nearest slice or the preview, windows for CT, a lock"
            ),
        )
        actions = (self.row, self.auto, self.next_button, self.message)
        for widget in (self.new_button, self.navigator, self.panel, *sections, *actions):
            self.column.addWidget(widget)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.new_button.clicked.connect(lambda: self.new_labels())
        self.row.startRequested.connect(self.propagate)
        self.row.cancelRequested.connect(self.cancel)
        self.auto.toggled.connect(lambda _on: self._follow_soon())
        self._follow.timeout.connect(self._on_follow_due)
        self.image.valueChanged.connect(self._on_image_changed)
        self.labels.valueChanged.connect(self._on_labels_changed)
        self.navigator.valueChanged.connect(self._on_slice_changed)
        self.panel.markRequested.connect(self.mark_current_slice)
        self.panel.detectRequested.connect(self.detect)
        self.panel.table.jumpRequested.connect(self.go_to)
        self.panel.table.completeChanged.connect(self._on_complete_changed)
        self.panel.table.removeRequested.connect(self._on_remove_requested)
        self.panel.edited.connect(self._on_edited)
        self.classes.changed.connect(self.autosaver.touch)
        self.classes.refused.connect(self.show_error)
        self.next_button.clicked.connect(lambda: self.suggest())
        self.painting.copyRequested.connect(self.copy_nearest)
        self.painting.previewRequested.connect(self.copy_preview)
        self.painting.windowChosen.connect(self._on_window_chosen)
        self.painting.lockChanged.connect(self.lock.set_on)
        self.lock.held_back.connect(self._on_held_back)
        self.autosaver.saved.connect(self._on_saved)
        self.autosaver.failed.connect(self.show_error)
        self.autosaver.mended.connect(self.message.takeBack)
        self.follow(self.session.annotation_changed, self._on_annotation_changed)
        self.job.event.connect(self._on_event)
        self.job.succeeded.connect(self._on_propagated)
        self.job.failed.connect(self.show_error)
        self.suggestion_job.succeeded.connect(self._on_suggested)
        self.suggestion_job.failed.connect(self.show_error)
        for part in (self.image, self.labels, self.navigator, self.panel, self.classes):
            self.on_shut(part.shut)
        self.on_shut(lambda: self.lock.set_model(None))
        self.on_shut(self._follow.stop)
        self.on_shut(self.job.stop)
        self.on_shut(self.suggestion_job.stop)
        self.on_shut(self.autosaver.flush)
        self.on_shut(shortcuts.bind_keys(self.viewer, self._actions()))

    def _actions(self) -> dict[str, Callable[[], None]]:
        turns = {key: partial(self.show_plane, axis) for axis, key in enumerate(shortcuts.PLANES)}
        return {
            **turns,
            shortcuts.MARK: self.mark_current_slice,
            shortcuts.PROPAGATE: self.propagate,
            shortcuts.COPY: self.copy_nearest,
            shortcuts.COPY_PREVIEW: self.copy_preview,
            shortcuts.NEXT: self.suggest,
        }

    def _checked_plane(self) -> AnnotatedSlice:
        plane = self.current_slice
        if plane is None and self.navigator.grid is not None:
            check_untilted(self.image.value(), viewed_axis(self.viewer, self.image.value()))
        if plane is None:
            raise InputError("The viewer shows no slice of the image; turn to axial, coronal or sagittal first.")
        return plane

    def _checked_model(self) -> AnnotationModel:
        """Return the annotation of the chosen labels once they are sure to fit the image."""
        image, labels = self.image.value(), self.labels.value()
        if image is None:
            raise InputError("There is no Image layer; open a scan.")
        shape_of(image)  # what is no volume has no labels, and is told first
        if labels is None:
            raise InputError(f"No labels of '{image.name}' are chosen; press New labels to make some.")
        check_aligned(image, labels)
        return self.session.annotation(labels)

    def _brush_elsewhere(self) -> Labels | None:
        """Return the Labels layer that is painted in, if it is not the one that is chosen here."""
        active = self.viewer.layers.selection.active
        # A viewer that napari hands to a dock wraps the layer: it is equal to the chosen one, but not the same object.
        return active if isinstance(active, Labels) and active != self.labels.value() else None

    def _tell_slips(self, marked: Sequence[AnnotatedSlice]) -> None:
        """Say what looks like slips of painting in slices that were marked as annotated."""
        grid = self.navigator.grid
        if grid is not None and (told := self._checked_model().told_slips(marked, grid)):
            self.message.setValue(f"Marked, but {' Also, '.join(told)}", "warning")

    def _on_image_changed(self, layer: Image | None) -> None:
        self.navigator.set_layer(layer)
        self.panel.set_grid(self.navigator.grid)
        self.new_button.setEnabled(layer is not None)
        self.painting.setValue(None if layer is None else shown_window(layer))
        self._choose_labels()
        self.autosaver.set_layers(layer, self.labels.value())
        self._preview = None
        self.message.setValue("")

    def _lies_on_image(self, layer: Labels) -> bool:
        image = self.image.value()
        return image is None or lies_on(image, layer)

    def _choose_labels(self) -> None:
        """Choose labels of the image, or none if none lie on it; those that do stay while it has none of its own.

        So labels stay for another scan of the same patient, and are not taken for those of the next patient.
        """
        image, labels = self.image.value(), self.labels.value()
        if image is None:
            return
        if labels is not None and lies_on(image, labels):
            own = image_of(labels, open_images(self.viewer)) is image
            if own or image not in own_labels(self.viewer):
                return
        fitting = self.session.labels_on(self.viewer, image)
        if fitting is None:
            self.labels.setCurrentIndex(-1)
        else:
            self.labels.setValue(fitting)

    def _on_labels_changed(self, layer: Labels | None) -> None:
        model = None if layer is None else self.session.annotation(layer)
        self.panel.set_model(model)
        self.classes.set_model(None if layer is None else self.session.classes(layer))
        self.lock.set_model(model)
        self.autosaver.set_layers(self.image.value(), layer)
        self._turn_brush_to(layer)
        self._on_slice_changed(self.current_slice)
        self._preview = None
        self.message.setValue("")

    def _turn_brush_to(self, layer: Labels | None) -> None:
        """Make the chosen labels the active layer if other ones are, for strokes and marks to go to the same ones."""
        active = self.viewer.layers.selection.active
        if layer is not None and isinstance(active, Labels) and not is_output(active):
            self.viewer.layers.selection.active = layer

    def _on_slice_changed(self, plane: AnnotatedSlice | None) -> None:
        self.panel.set_current(plane)
        self.lock.set_plane(plane)

    def _on_edited(self) -> None:
        self.session.classes(self.labels.value()).refresh()  # a label painted over another one changes no row
        self._on_annotation_changed()

    def _on_annotation_changed(self) -> None:
        self.autosaver.touch()
        self._follow_soon()

    def _follow_soon(self) -> None:
        if self.auto.isChecked() and self.annotated:
            self._follow.start()

    def _on_follow_due(self) -> None:
        if self.job.is_running:
            self._follow.start()
        elif self.auto.isChecked() and self.annotated:
            with self.telling_errors(keep_message=True):
                question = self._question()
                if self._preview is None or self._preview[0] != question:
                    self._propagate(question, then_suggest=False)

    def _on_window_chosen(self, window: Window | None) -> None:
        if self.image.value() is not None:
            low, high = apply_window(self.image.value(), window)
            self.message.setValue(f"Shown from {low:.4g} to {high:.4g}.")

    def _on_held_back(self) -> None:
        self.message.setValue(
            "The brush is locked to listed slices; mark this slice as annotated, or take off the lock under Painting.",
            "warning",
        )

    def _on_saved(self, path: Path) -> None:
        self.panel.hint.setToolTip(f"Saved by itself in {path}")

    def _on_complete_changed(self, plane: AnnotatedSlice, complete: bool) -> None:
        with self.telling_errors():
            self._checked_model().set_complete(plane, complete)
            self._tell_slips([plane] if complete else [])
        self.panel.redraw()  # a tick that was refused goes back

    def _on_remove_requested(self, plane: AnnotatedSlice) -> None:
        with self.telling_errors():
            self._checked_model().remove(plane)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._notices.append(event.message)
            self.message.setValue(event.message, "warning")

    def _on_propagated(self, prediction: Prediction) -> None:
        asked, self._asked = self._asked, None
        assert asked is not None
        image, labels = asked.image, asked.labels
        if image not in self.viewer.layers:
            return
        with self.telling_errors():
            preview = show_preview(self.viewer, prediction, image, labels)
            if (image, labels) == (self.image.value(), self.labels.value()):
                told = f"Preview in layer '{preview.name}' ({prediction.sizes(CLASSES_TOLD)})."
                self.message.tellOf([preview], " ".join([told, *self._notices]), "warning" if self._notices else "info")
                # Probabilities are the largest part of a prediction; that of the likeliest class says where to go next.
                likeliest = prediction.probability.max(axis=0, keepdims=True)
                self._preview = (asked, replace(prediction, probability=likeliest))
                if self._then_suggest:
                    self._suggest_where_in_doubt()

    def _on_suggested(self, suggestion: Suggestion) -> None:
        self.after_stroke(lambda: self._turn_to(suggestion))

    def _turn_to(self, suggestion: Suggestion) -> None:
        with self.telling_errors():
            self._show_suggested(suggestion.plane, f"{suggestion.score:.0%} of what is in doubt lies around it")
