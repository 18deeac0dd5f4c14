"""Progress of a job: a bar, what is going on, how long it will take, and what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_rada._napari.job import RunState
from napari_rada.events import StageProgress, StepLogged, TrainingStarted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.events import Event

STATE_TEXTS = {
    RunState.IDLE: "Ready",
    RunState.PREPARING: "Preparing",
    RunState.PROPAGATING: "Propagating the annotated slices",
    RunState.TRAINING: "Training",
    RunState.LABELLING: "Labelling scans that nobody annotated",
    RunState.PREDICTING: "Predicting",
    RunState.PAUSING: "Pausing after this iteration",
    RunState.PAUSED: "Paused",
    RunState.STOPPING: "Stopping",
}


class ProgressLine(QWidget):
    """A thin bar with a line of text; the bar runs to and fro while the share is unknown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setBuddy(self.bar)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.label)
        layout.addWidget(self.bar)
        self.hide()

    def set_data(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Show `text` and `done` of `total`; without them the bar only says that something is going on."""
        self.label.setText(text)
        self.bar.setRange(0, total or 0)
        if done is not None and total:
            self.bar.setValue(done)
        self.show()

    def take_in(self, event: Event, state: RunState, steps: Sequence[StepLogged]) -> None:
        """Follow a run in a state; the last of the steps that it has logged counts until it starts anew."""
        if isinstance(event, StageProgress):
            self.set_stage(state, event.done, event.total)
        elif isinstance(event, TrainingStarted):
            self.set_stage(state)
        elif isinstance(event, StepLogged):
            self.set_steps(state, steps)

    def set_stage(self, state: RunState, done: int | None = None, total: int | None = None) -> None:
        """Say what a run is doing, and how much of that is done."""
        self.set_data(f"{STATE_TEXTS[state]}…", done, total)

    def set_steps(self, state: RunState, steps: Sequence[StepLogged]) -> None:
        """Say what a run is doing, and how far the training is that logged these steps."""
        if not steps:
            self.set_stage(state)
            return
        last = steps[-1]
        left = f" · {duration(last.remaining_s)} left" if state is RunState.TRAINING else ""
        about = "about " if last.estimated else ""
        sentence = f"{STATE_TEXTS[state]} · iteration {last.iteration} of {about}{last.total_iterations}{left}"
        self.set_data(sentence, last.iteration, last.total_iterations)


def duration(seconds: float) -> str:
    """Say how long something takes: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
