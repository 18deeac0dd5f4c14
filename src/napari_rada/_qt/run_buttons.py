"""The buttons that start, hold, end and continue a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_rada._napari.job import RunState
from napari_rada._qt.menu_button import MenuButton
from napari_rada._qt.theme import emphasise

if TYPE_CHECKING:
    from napari_rada._qt.theme import Colours


LOAD = "Load run…"


class RunButtons(QWidget):
    """Asks; what is pressed next follows the state that comes back."""

    startRequested = Signal()
    pauseRequested = Signal()
    resumeRequested = Signal()
    stopRequested = Signal()
    continueRequested = Signal()
    loadRequested = Signal()
    checkRequested = Signal()
    logRequested = Signal()
    copyRequested = Signal(str)
    """What Start would do is wanted as a `command` or as a `script`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = RunState.IDLE
        self.start = self._button("Start", "Train new networks on a copy of the layers as they are now", 0, 0)
        self.pause = self._button("Pause", "Wait after the present iteration", 0, 1)
        self.stop = self._button(
            "Stop", "End at once, on a graphics card after the present iteration; a checkpoint is saved", 0, 2
        )
        self.proceed = self._button("Continue training", "", 1, 0)
        self.check = self._button(
            "Check", "Can it start, how much memory will it take, and how long? Nothing is trained", 1, 1
        )
        self.more = MenuButton(
            "More",
            "Load a run, show the log, copy these settings as a command or as a script",
            {
                LOAD: lambda: self.loadRequested.emit(),
                "Show the log": lambda: self.logRequested.emit(),
                "Copy as command": lambda: self.copyRequested.emit("command"),
                "Copy as script": lambda: self.copyRequested.emit("script"),
            },
        )
        layout = self.layout()
        assert isinstance(layout, QGridLayout)
        layout.addWidget(self.more, 1, 2)
        self.start.clicked.connect(lambda: self.startRequested.emit())
        self.pause.clicked.connect(self._on_pause_clicked)
        self.stop.clicked.connect(lambda: self.stopRequested.emit())
        self.check.clicked.connect(lambda: self.checkRequested.emit())
        self.proceed.clicked.connect(lambda: self.continueRequested.emit())

    def set_data(self, state: RunState, run: str | None, *, loading: bool = False) -> None:
        """Show a state; `run` names the run that can be continued, if there is one; none begins while one is loaded."""
        self._state = state
        began_here = self.start.hasFocus() or self.proceed.hasFocus()
        idle = state is RunState.IDLE
        free = idle and not loading
        waiting = state in (RunState.PAUSED, RunState.PAUSING)
        self.start.setEnabled(free)
        self.check.setEnabled(free)
        self.pause.setText("Resume" if waiting else "Pause")
        self.pause.setEnabled(waiting or state is RunState.TRAINING)
        self.stop.setEnabled(not idle and state is not RunState.STOPPING)
        self.proceed.setEnabled(free and run is not None)
        if began_here and not free and self.stop.isEnabled():
            self.stop.setFocus()  # else it would go to a button that has nothing to do with the run
        self.more.entries[LOAD].setEnabled(free)
        self.proceed.setToolTip(
            f"Train on from {run} with the annotation as it is now; that run is kept"
            if run
            else "Train on from a run that was finished, stopped or loaded"
        )

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        emphasise(self.start, colours)

    def _button(self, text: str, tip: str, row: int, column: int) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        layout = self.layout()
        if layout is None:
            layout = QGridLayout(self)
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(4)
        assert isinstance(layout, QGridLayout)
        layout.addWidget(button, row, column)
        return button

    def _on_pause_clicked(self) -> None:
        waiting = self._state in (RunState.PAUSED, RunState.PAUSING)
        (self.resumeRequested if waiting else self.pauseRequested).emit()
