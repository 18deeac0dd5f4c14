"""Commands that go to a running computation: stop, pause, resume, save.

Commands carry no data and are idempotent. What the computation *does* is told by events, never by these flags.
"""

from __future__ import annotations

import threading

from napari_rada.errors import Stopped


class RunControl:
    """Thread-safe stop and pause requests, read by the worker between two pieces of work."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._order = threading.Lock()
        self._save = threading.Event()

    def stop(self) -> None:
        """Ask the computation to end; also wakes it from a pause."""
        with self._order:
            self._stop.set()
            self._go.set()

    def pause(self) -> None:
        """Ask the computation to wait before its next piece of work; after `stop` this does nothing."""
        with self._order:
            if not self._stop.is_set():
                self._go.clear()

    def resume(self) -> None:
        """Let a paused computation go on."""
        self._go.set()

    def request_checkpoint(self) -> None:
        """Ask training for a checkpoint between two iterations; a `CheckpointSaved` event answers."""
        self._save.set()

    def take_checkpoint_request(self) -> bool:
        """Tell whether a checkpoint was asked for since the last call."""
        asked = self._save.is_set()
        if asked:  # one that comes from now on must stay
            self._save.clear()
        return asked

    @property
    def stop_requested(self) -> bool:
        """True once `stop` was called."""
        return self._stop.is_set()

    @property
    def pause_requested(self) -> bool:
        """True between `pause` and `resume` or `stop`."""
        return not self._go.is_set()

    def wait_while_paused(self) -> None:
        """Block until `resume` or `stop`."""
        self._go.wait()

    def check(self) -> None:
        """Raise `Stopped` if a stop was requested; a pause is left to whoever can wait without holding others up."""
        if self._stop.is_set():
            raise Stopped
