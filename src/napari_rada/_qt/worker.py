"""Running a job in one of napari's workers and taking in its events in the main thread."""

from __future__ import annotations

import sys

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject, QThreadPool, QTimer
from superqt.utils import FunctionWorker

from napari_rada._napari.job import Job, RunState, Task
from napari_rada._qt.deletion import when_deleted

DRAIN_MS = 100
THREADS = 8
"""Threads that are enough for all docks together."""
STACK_BYTES = 16 * 2**20
"""Stack of a thread, as Python's own have it on macOS, where Qt's have half a megabyte: too little for algebra."""


class _TaskWorker(FunctionWorker[None]):
    """A worker whose `quit`, called by napari when a window closes or the program ends, reaches the computation."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._task = task

    def quit(self) -> None:
        """Ask the computation to stop."""
        super().quit()
        self._task.cancel()


def spawn(task: Task) -> None:
    """Run a task in a worker that napari knows: it asks before a window with a running task closes."""
    prepare_threads()
    worker = create_worker(task, _worker_class=_TaskWorker, _start_thread=False, _ignore_errors=True)
    worker.errored.connect(lambda error: report_crash(error))
    worker.start()


def prepare_threads() -> None:
    """Let Qt have as many threads as docks can ask for at a time, with room for deep computations (numpy#11551).

    By itself it has one for every processor, so that on a machine with one a preview would wait for training to end.
    """
    pool = QThreadPool.globalInstance()
    if pool is None:
        return
    pool.setMaxThreadCount(max(THREADS, pool.maxThreadCount()))
    if sys.platform == "darwin":
        pool.setStackSize(STACK_BYTES)


def report_crash(error: Exception) -> None:
    """Show a bug of ours with its traceback; what a user can mend is told by the widget."""
    notification_manager.receive_error(type(error), error, error.__traceback__)


class JobPump(QObject):
    """Drains a job's events in the main thread while it runs, and stops the job when its widget is destroyed."""

    def __init__(self, job: Job, parent: QObject) -> None:
        super().__init__(parent)
        when_deleted(self, job.abandon)
        self._job = job
        self._timer = QTimer(self)
        self._timer.setInterval(DRAIN_MS)
        self._timer.timeout.connect(job.drain)
        job.state_changed.connect(self._on_state_changed)

    def _on_state_changed(self, state: RunState) -> None:
        if state is RunState.IDLE:
            self._timer.stop()
        elif not self._timer.isActive():
            self._timer.start()
