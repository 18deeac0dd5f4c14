"""Windows and event loops for commands that drive a window.

An exception in a slot does not end an event loop of Qt, so that Ctrl+C is remembered and raised after the loop.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from qtpy.QtCore import QEventLoop, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import napari

    from napari_rada._napari.job import Job

LOOK_S = 0.02
"""Between two looks at whether a job has ended."""

_pressed = Event()


@contextmanager
def new_window() -> Iterator[napari.Viewer]:
    """Open a window, and close it at the end.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl+C, from the loop that runs then or the next one (`run_loop`), or at the end.
    """
    import napari

    _pressed.clear()
    with _on_ctrl_c(lambda: None):
        viewer = napari.Viewer(show=True)
        try:
            yield viewer
        finally:
            viewer.close()
    _raise_if_pressed()


def run_loop(loop: QEventLoop) -> None:
    """Run a loop of the main thread to its end.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl+C.
    """
    _raise_if_pressed()
    with _on_ctrl_c(loop.quit):
        loop.exec()
    _raise_if_pressed()


def live(seconds: float) -> None:
    """Let the window live for a while, in an event loop: only there does Qt delete what is to be deleted later."""
    loop = QEventLoop()
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    run_loop(loop)


@contextmanager
def stopped_by_ctrl_c(job: Job) -> Iterator[None]:
    """While a job is waited for: after Ctrl+C it is stopped, and has ended when the exception goes on."""
    try:
        yield
    except KeyboardInterrupt:
        job.stop()
        while job.is_running:
            live(LOOK_S)
        raise


@contextmanager
def _on_ctrl_c(react: Callable[[], None]) -> Iterator[None]:
    def remember(_number: int, _frame: object) -> None:
        _pressed.set()
        react()

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _raise_if_pressed() -> None:
    if _pressed.is_set():
        _pressed.clear()
        raise KeyboardInterrupt
