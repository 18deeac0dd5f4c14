"""Marking slices as annotated: the button, the table, and the look-out for painted slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_rada._napari.annotation import watch_strokes
from napari_rada._napari.job import Job
from napari_rada._qt.slice_table import SliceTable
from napari_rada._qt.worker import JobPump, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from napari_rada._napari.annotation import AnnotationModel, Found
    from napari_rada._qt.theme import Colours
    from napari_rada.data.grid import Grid
    from napari_rada.data.slices import AnnotatedSlice

RESCAN_MS = 300
"""Quiet time after the last stroke before the labels are looked at again."""
MOST_TOLD = 3
"""So many slices are named in a sentence."""
MEANING_OF_ZERO = "In an annotated slice 0 means background; elsewhere it means unknown."


class AnnotationPanel(QWidget):
    """Shows an `AnnotationModel` and the slice the viewer is in; asks, but writes nothing itself."""

    markRequested = Signal()
    """The user says that the current slice is annotated."""
    detectRequested = Signal()
    """The user wants every painted slice marked."""
    edited = Signal()
    """The labels were painted, filled, undone or replaced, and then left alone for a moment."""

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._model: AnnotationModel | None = None
        self._grid: Grid | None = None
        self._current: AnnotatedSlice | None = None
        self._unwatch: Callable[[], None] | None = None
        self.job = Job("look at the labels", spawn)
        self._pump = JobPump(self.job, self)
        self._looking: AnnotationModel | None = None
        self.mark_button = QPushButton("Mark current slice as annotated")
        self.mark_button.setToolTip("Say that this slice is complete, also if nothing had to be painted in it")
        self.table = SliceTable()
        self.detect_button = QPushButton("Mark all painted slices")
        self.detect_button.setToolTip("Find the slices that look painted and tick them all")
        self.hint = QLabel(MEANING_OF_ZERO)
        self.hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (self.mark_button, self.table, self.detect_button, self.hint):
            layout.addWidget(widget)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(RESCAN_MS)
        self._timer.timeout.connect(self._on_rescan_due)
        self.job.succeeded.connect(self._on_looked)
        self.mark_button.clicked.connect(lambda: self.markRequested.emit())
        self.detect_button.clicked.connect(lambda: self.detectRequested.emit())

    def set_model(self, model: AnnotationModel | None) -> None:
        """Show another model and watch its layer for edits."""
        self.shut()
        self._model = model
        if model is not None:
            model.rescan()
            model.changed.connect(self.redraw)
            self._unwatch = watch_strokes(self._viewer, model.layer, self._timer.start)
        self.redraw()

    def shut(self) -> None:
        """Let go of the layer; what is shown stays, as widgets that are being deleted bear no change."""
        if self._unwatch is not None:
            self._unwatch()
        if self._model is not None:
            self._model.changed.disconnect(self.redraw)
        self._timer.stop()
        self._model, self._unwatch = None, None

    def set_grid(self, grid: Grid | None) -> None:
        """Take the grid that names the planes."""
        self._grid = grid
        self.redraw()

    def set_current(self, plane: AnnotatedSlice | None) -> None:
        """Highlight the slice that the viewer shows, if it is listed."""
        self._current = plane
        self._draw_current()

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        self.hint.setStyleSheet(f"color: {colours.muted}")

    def redraw(self) -> None:
        """Show the model as it is."""
        self.table.set_data(self._model.rows if self._model else (), self._grid)
        self.table.setEnabled(self._model is not None)
        self.detect_button.setEnabled(self._model is not None)
        self.hint.setText(self._meaning())
        self._draw_current()

    def _meaning(self) -> str:
        """Say what 0 means, and name slices that are ticked and empty: they were, or became so by undoing."""
        rows = self._model.rows if self._model and self._model.can_be_scanned else ()
        empty = [row.plane for row in rows if row.complete and not row.voxels]
        if self._grid is None or not empty:
            return MEANING_OF_ZERO
        named = [f"{self._grid.plane_name(plane.axis)} {plane.index}" for plane in empty]
        listed = ", ".join(named[:MOST_TOLD]) + (f" and {len(named) - MOST_TOLD} more" if named[MOST_TOLD:] else "")
        return f"{MEANING_OF_ZERO} Ticked and empty, so without any structure: {listed}."

    def _draw_current(self) -> None:
        self.table.setValue(self._current)
        complete = self._model.complete if self._model else ()
        self.mark_button.setEnabled(
            self._model is not None and self._current is not None and self._current not in complete
        )

    def _on_rescan_due(self) -> None:
        if self._model is None:
            return
        if self.job.is_running:
            self._timer.start()
            return
        self._looking, look = self._model, self._model.look()
        self.job.start(lambda _control, _listener: look())
        self.edited.emit()

    def _on_looked(self, found: Found) -> None:
        """List what was found, unless other labels are shown by now or these were painted in since: it is stale."""
        model, self._looking = self._looking, None
        if model is not None and model is self._model and not self._timer.isActive():
            model.take_in(found)
