"""A running computation as the window sees it: one state, commands in, events out. No napari, no Qt.

The work runs in a thread that somebody else starts (`Spawn`). Its events wait in a queue until `Job.drain` is called
in the main thread; only there do state and signals change, so listeners may touch widgets and layers.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from psygnal import Signal

from napari_rada._napari.quiet import no_full_collections
from napari_rada.control import RunControl
from napari_rada.errors import RadaError, Stopped
from napari_rada.events import Event, Listener, Paused, Resumed, Stage, StageProgress, TrainingStarted


class RunState(str, Enum):
    """What a job is doing."""

    IDLE = "idle"
    PREPARING = "preparing"
    PROPAGATING = "propagating"
    TRAINING = "training"
    LABELLING = "labelling"
    PREDICTING = "predicting"
    DOWNLOADING = "downloading"
    CHECKING = "checking"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"


Work: TypeAlias = Callable[[RunControl, Listener], object]
"""A blocking computation that obeys the control and reports to the listener; returns its result."""

_STATE_OF_STAGE = {
    Stage.PREPARE: RunState.PREPARING,
    Stage.PROPAGATE: RunState.PROPAGATING,
    Stage.TRAIN: RunState.TRAINING,
    Stage.LABEL: RunState.LABELLING,
    Stage.PREDICT: RunState.PREDICTING,
    Stage.DOWNLOAD: RunState.DOWNLOADING,
    Stage.VERIFY: RunState.CHECKING,
}


@dataclass(frozen=True)
class _Succeeded:
    result: object


@dataclass(frozen=True)
class _Interrupted:
    pass


@dataclass(frozen=True)
class _Failed:
    message: str


_Outcome: TypeAlias = _Succeeded | _Interrupted | _Failed


class Task:
    """What runs in the worker thread: calls the work and posts how it ended, last of all.

    It forgets the work when it is done: napari keeps finished workers, and with them what they hold.
    """

    def __init__(self, name: str, work: Work, control: RunControl, post: Callable[[Event | _Outcome], None]) -> None:
        self.name = name
        self.control = control
        self._work: Work | None = work
        self._post = post

    def __call__(self) -> None:
        """Run to the end; errors of the user are posted, others are posted and raised."""
        work, self._work = self._work, None
        assert work is not None
        try:
            with no_full_collections():
                result = work(self.control, self._post)
        except Stopped:
            self._post(_Interrupted())
        except RadaError as error:
            self._post(_Failed(str(error)))
        except BaseException as error:
            self._post(_Failed(f"Unexpected error, please report it: {type(error).__name__}: {error}"))
            raise
        else:
            self._post(_Succeeded(result))

    def cancel(self) -> None:
        """Ask the work to stop."""
        self.control.stop()

    def __repr__(self) -> str:
        return f"napari-rada: {self.name}"


Spawn: TypeAlias = Callable[[Task], object]
"""Start a task in another thread and return at once."""


class Job:
    """One computation at a time.

    Commands (`start`, `pause`, `resume`, `stop`) may be repeated and carry no data back. What happens is told by the
    signals, all emitted by `drain` or by the command itself in the caller's thread.
    """

    state_changed = Signal(RunState)
    """The state is another one."""
    event = Signal(object)
    """The computation reported an `Event`."""
    succeeded = Signal(object)
    """The computation returned this result; the state is IDLE already."""
    interrupted = Signal()
    """The computation was stopped and has no result; the state is IDLE already."""
    failed = Signal(str)
    """The computation ended with an error, told in one sentence; the state is IDLE already."""

    def __init__(self, name: str, spawn: Spawn) -> None:
        self.name = name
        self._spawn = spawn
        self._state = RunState.IDLE
        self._control = RunControl()
        self._inbox: queue.SimpleQueue[tuple[int, Event | _Outcome]] = queue.SimpleQueue()
        self._number = 0

    @property
    def state(self) -> RunState:
        """What the job is doing."""
        return self._state

    @property
    def is_running(self) -> bool:
        """True from `start` until the computation has left its thread."""
        return self._state is not RunState.IDLE

    def start(self, work: Work) -> None:
        """Run `work` in another thread.

        Raises
        ------
        RadaError
            If the job is still running.
        """
        if self.is_running:
            raise RadaError(f"The {self.name} is still {self._state.value}; stop it first.")
        self._number += 1
        self._control = RunControl()
        number = self._number
        task = Task(self.name, work, self._control, lambda item: self._inbox.put((number, item)))
        self._spawn(task)
        self._set_state(RunState.PREPARING)

    def stop(self) -> None:
        """Ask for an end; it comes within one iteration or tile."""
        if self.is_running:
            self._control.stop()
            self._set_state(RunState.STOPPING)

    def abandon(self) -> None:
        """Ask for an end without telling anyone: the window that listened is gone."""
        self._control.stop()

    def pause(self) -> None:
        """Ask training to wait before its next iteration."""
        if self._state is RunState.TRAINING:
            self._control.pause()
            self._set_state(RunState.PAUSING)

    def resume(self) -> None:
        """Let paused training go on."""
        if self._state in (RunState.PAUSED, RunState.PAUSING):
            self._control.resume()
            self._set_state(RunState.TRAINING)

    def request_checkpoint(self) -> None:
        """Ask training to save its weights between two iterations."""
        if self.is_running:
            self._control.request_checkpoint()

    def drain(self) -> None:
        """Take in everything that was reported since the last call. Call it in the main thread, some times a second."""
        while True:
            try:
                number, item = self._inbox.get_nowait()
            except queue.Empty:
                return
            if number == self._number and self.is_running:
                self._take_in(item)

    def _take_in(self, item: Event | _Outcome) -> None:
        if isinstance(item, _Succeeded):
            self._set_state(RunState.IDLE)
            self.succeeded.emit(item.result)
        elif isinstance(item, _Interrupted):
            self._set_state(RunState.IDLE)
            self.interrupted.emit()
        elif isinstance(item, _Failed):
            self._set_state(RunState.IDLE)
            self.failed.emit(item.message)
        else:
            self._follow(item)
            self.event.emit(item)

    def _follow(self, event: Event) -> None:
        """Read the state off an event; a requested stop or pause is only ended by what it asked for."""
        if self._state is RunState.STOPPING:
            return
        if isinstance(event, Paused):
            self._set_state(RunState.PAUSED)
        elif isinstance(event, Resumed | TrainingStarted):
            self._set_state(RunState.TRAINING)
        elif isinstance(event, StageProgress) and self._state is not RunState.PAUSING:
            self._set_state(_STATE_OF_STAGE[event.stage])

    def _set_state(self, state: RunState) -> None:
        if state is not self._state:
            self._state = state
            self.state_changed.emit(state)
