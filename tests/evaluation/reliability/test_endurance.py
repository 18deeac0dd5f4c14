from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from napari_rada.evaluation.reliability.__main__ import main
from napari_rada.evaluation.reliability.endurance import Sample, take_sample, trend

if TYPE_CHECKING:
    from pathlib import Path

KIB = 2**10


def test_a_steady_process_has_no_slope_and_a_growing_one_has() -> None:
    steady = trend([Sample(step, 100 * KIB, 7, 2) for step in range(8)])
    assert steady.slope == pytest.approx(0, abs=1e-6)
    assert not steady.leaks
    growing = trend([Sample(step, (100 + 3 * step) * KIB, 7, 2) for step in range(8)])
    assert growing.slope == pytest.approx(3 * KIB)
    assert (growing.steps, growing.first, growing.last) == (7, 106 * KIB, 121 * KIB)


def test_the_warm_up_does_not_count() -> None:
    samples = [Sample(0, 1, 1, 1), *(Sample(step, 50 * KIB, 9, 3) for step in range(1, 8))]
    assert trend(samples).slope == pytest.approx(0, abs=1e-6)
    assert not trend(samples).leaks


@pytest.mark.parametrize("which", [(7, 8, 2, 2), (7, 7, 2, 3)])
def test_handles_and_threads_that_are_left_behind_are_leaks(which: tuple[int, int, int, int]) -> None:
    assert trend([Sample(0, 1, which[0], which[2]), Sample(1, 1, which[1], which[3])]).leaks


def test_open_files_and_threads_are_seen(tmp_path: Path) -> None:
    go, before = threading.Event(), take_sample(0)
    thread = threading.Thread(target=go.wait)
    thread.start()
    descriptor = os.open(tmp_path / "open", os.O_CREAT)
    during = take_sample(1)
    os.close(descriptor)
    go.set()
    thread.join()
    assert during.handles > before.handles
    assert during.threads == before.threads + 1
    assert during.resident > 10 * 2**20


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["endurance", "--iterations", "4"], "4 iterations: resident memory "),
        (["rounds", "--count", "2"], "2 rounds of training and prediction: resident memory "),
    ],
)
def test_the_commands_print_their_figures(command: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) in (0, 1)  # so short a job is all warm-up
    shown = capsys.readouterr().out
    assert shown.startswith(text)
    assert "slope" in shown


@pytest.mark.parametrize(
    "command", ["kills --count 0", "rounds --count 1", "endurance --iterations 1", "fuzz --seed -1"]
)
def test_numbers_that_show_nothing_are_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    assert "is not possible here; give a whole number from" in capsys.readouterr().err
