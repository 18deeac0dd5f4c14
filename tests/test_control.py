"""Commands to a running computation."""

from __future__ import annotations

import threading

import pytest

from napari_rada.control import RunControl
from napari_rada.errors import RadaError, Stopped


def in_thread(control: RunControl) -> tuple[threading.Thread, list[str]]:
    """Start a worker that looks at the control between two pieces of work, and tells how that ended."""
    ended: list[str] = []

    def work() -> None:
        control.wait_while_paused()
        try:
            control.check()
        except Stopped:
            ended.append("stopped")
        else:
            ended.append("went on")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, ended


def test_fresh_control_lets_work_go_on() -> None:
    control = RunControl()
    control.check()
    assert not control.stop_requested
    assert not control.pause_requested


def test_stop_is_idempotent_and_final() -> None:
    control = RunControl()
    control.stop()
    control.stop()
    control.resume()
    assert control.stop_requested
    with pytest.raises(Stopped):
        control.check()


def test_pause_holds_the_worker_until_resume() -> None:
    control = RunControl()
    control.pause()
    control.pause()
    assert control.pause_requested
    thread, ended = in_thread(control)
    thread.join(0.1)
    assert thread.is_alive()
    control.resume()
    control.resume()
    thread.join(5)
    assert ended == ["went on"]
    assert not control.pause_requested


def test_stop_wakes_a_paused_worker() -> None:
    control = RunControl()
    control.pause()
    thread, ended = in_thread(control)
    control.stop()
    thread.join(5)
    assert ended == ["stopped"]


def test_pause_after_stop_does_not_hold() -> None:
    control = RunControl()
    control.stop()
    control.pause()
    assert not control.pause_requested
    thread, ended = in_thread(control)
    thread.join(5)
    assert ended == ["stopped"]


def test_stopping_is_no_user_error() -> None:
    assert not issubclass(Stopped, RadaError)


def test_a_checkpoint_asked_for_just_after_the_worker_looked_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    class AskedAfterwards(threading.Event):
        def is_set(self) -> bool:
            found = super().is_set()
            self.set()
            return found

    monkeypatch.setattr("napari_rada.control.threading.Event", AskedAfterwards)
    control = RunControl()
    assert not control.take_checkpoint_request()
    assert control.take_checkpoint_request()
