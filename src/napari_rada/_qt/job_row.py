"""A button that starts a job, a Cancel beside it while it runs, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_rada._napari.job import Job, RunState
from napari_rada._qt.progress import ProgressLine
from napari_rada._qt.theme import emphasise
from napari_rada.events import Event, Stage, StageProgress

if TYPE_CHECKING:
    from napari_rada._qt.theme import Colours


class JobRow(QWidget):
    """Follows a job; asks, but starts and stops nothing itself."""

    startRequested = Signal()
    cancelRequested = Signal()

    def __init__(self, job: Job, text: str, tip: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job = job
        self.button = QPushButton(text)
        self.button.setToolTip(tip)
        self.cancel = QPushButton("Cancel")
        self.progress = ProgressLine()
        row = QHBoxLayout()
        row.addWidget(self.button, 1)
        row.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(row)
        layout.addWidget(self.progress)
        self.button.clicked.connect(lambda: self.startRequested.emit())
        self.cancel.clicked.connect(lambda: self.cancelRequested.emit())
        job.state_changed.connect(self._on_state_changed)
        job.event.connect(self._on_event)
        self._on_state_changed(job.state)

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        emphasise(self.button, colours)

    def _on_state_changed(self, state: RunState) -> None:
        running = state is not RunState.IDLE
        self.button.setEnabled(not running)
        self.cancel.setVisible(running)
        self.cancel.setEnabled(running and state is not RunState.STOPPING)
        if running:
            self.progress.set_data("Stopping…" if state is RunState.STOPPING else "Preparing…")
        else:
            self.progress.hide()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StageProgress) and self._job.state is not RunState.STOPPING:
            counted = f" {event.done} of {event.total}" if event.stage is Stage.PREDICT else ""
            shown = event.stage in (Stage.PREDICT, Stage.PROPAGATE) and event.message
            text = f"{event.stage.value.capitalize()}…{f' {event.message}{counted}' if shown else ''}"
            self.progress.set_data(text, event.done, event.total)
