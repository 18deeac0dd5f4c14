"""Ctrl+C, SIGTERM and, where there is one, SIGUSR1 become a stop request."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_rada.control import RunControl

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
STDERR = 2


@contextmanager
def stop_on_signals(control: RunControl, *, in_a_job: bool = False) -> Iterator[None]:
    """Let the first of the signals ask the computation to stop; a second one ends the process at once.

    Not so in a job of several processes: there a launcher repeats what a terminal or a scheduler sent to all already,
    and itself ends who does not end. Nor do they all say that they were asked.
    """
    if threading.current_thread() is not threading.main_thread():  # only there does Python let us listen
        yield
        return

    def _on_signal(number: int, frame: object) -> None:
        control.stop()
        if in_a_job:
            return
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # the handler may have interrupted a write to sys.stderr, which cannot be entered twice
        os.write(STDERR, b"\nStopping, please wait; press Ctrl+C again to quit at once.\n")

    before = {each: signal.signal(each, _on_signal) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
