from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
from qtpy.QtCore import QTimer

from napari_rada._qt import responsiveness, rounds, waiting
from napari_rada.evaluation.ending import status_of


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def no_window(monkeypatch, qapp):
    """Viewers are as empty as can be."""
    monkeypatch.setattr("napari.Viewer", lambda show: SimpleNamespace(close=lambda: None))


def test_ctrl_c_in_a_slot_ends_the_loop_and_is_raised_after_it(qapp):
    before = signal.getsignal(signal.SIGINT)
    QTimer.singleShot(0, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        waiting.live(60.0)
    assert signal.getsignal(signal.SIGINT) is before
    waiting.live(0.001)


def test_ctrl_c_between_two_loops_of_a_window_ends_the_next():
    with waiting.new_window():
        press_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            waiting.live(60.0)
    with pytest.raises(KeyboardInterrupt), waiting.new_window():
        press_ctrl_c()


def test_a_job_that_is_waited_for_ends_before_ctrl_c_is_raised():
    job = SimpleNamespace(is_running=True, stop=lambda: QTimer.singleShot(1, end))

    def end():
        job.is_running = False

    with pytest.raises(KeyboardInterrupt), waiting.stopped_by_ctrl_c(job):
        raise KeyboardInterrupt
    assert not job.is_running
    with waiting.stopped_by_ctrl_c(job):
        pass


@pytest.mark.parametrize("module", [rounds, responsiveness])
def test_ctrl_c_ends_a_command_in_a_word(module, monkeypatch, capsys):
    def pressed(*_):
        QTimer.singleShot(0, press_ctrl_c)
        waiting.live(60.0)

    monkeypatch.setattr(rounds, "train_and_predict", pressed)
    monkeypatch.setattr(responsiveness, "_bare", lambda config: 1.0)
    monkeypatch.setattr(responsiveness, "train_in_window", pressed)
    assert status_of(lambda: module.main([])) == 130
    assert capsys.readouterr().err == "\nstopped\n"
