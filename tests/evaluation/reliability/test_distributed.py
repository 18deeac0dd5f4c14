"""The command that compares two processes with one; that they agree is tested with the engine, in fewer seconds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_rada import pipeline
from napari_rada.errors import RadaError
from napari_rada.evaluation.reliability import distributed
from napari_rada.evaluation.reliability.__main__ import main
from napari_rada.evaluation.reliability.distributed import Difference, DistributedReport
from napari_rada.evaluation.reliability.scene import make_case, tiny_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

SAME = Difference("two processes", 1e-6, 1e-4, 1e-5)
GOOD = DistributedReport(4, (SAME,), 0.4, "napari-rada: error: Process 0 of 2 lost contact with another one")


@pytest.mark.parametrize(
    ("report", "holds"),
    [
        (GOOD, True),
        (replace(GOOD, differences=(SAME, replace(SAME, supervised=1e-3))), False),
        (replace(GOOD, differences=(replace(SAME, cross=0.1),)), False),
        (replace(GOOD, said=""), False),
        (replace(GOOD, said=f"{GOOD.said}\n{GOOD.said}"), False),
    ],
)
def test_the_command_tells_the_figures_and_whether_they_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, report: DistributedReport, holds: bool
) -> None:
    monkeypatch.setattr(distributed, "compare", lambda *_, **__: report)
    assert main(["distributed", "--iterations", "4"]) == (0 if holds else 1)
    printed = capsys.readouterr().out
    assert "| two processes | 1.0e-06 |" in printed
    assert "4 iterations each. The other process ended 0.4 s after the kill:" in printed


def test_equal_runs_differ_by_nothing_and_others_by_something(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        config = tiny_config(training__iterations="2", training__validate_every="2").with_settings({"seed": seed})
        pipeline.train([make_case()], tmp_path / name, config)
    same = distributed._difference("same", tmp_path / "one", tmp_path / "same")
    assert (same.supervised, same.cross, same.weight) == (0.0, 0.0, 0.0)
    other = distributed._difference("other", tmp_path / "one", tmp_path / "other")
    assert other.supervised > 0
    assert other.weight > 0
    losses = tmp_path / "other" / "losses.csv"
    losses.write_text("\n".join(losses.read_text().splitlines()[:2]) + "\n")
    with pytest.raises(RadaError, match="other: 1 iterations are logged instead of 2"):
        distributed._difference("other", tmp_path / "one", tmp_path / "other")


def test_a_run_that_fails_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = distributed._Runs(tmp_path, ("no.nii.gz",), 2, lambda run: None)
    with pytest.raises(RadaError, match=r"run ended with status 2: .*no\.nii\.gz"):
        runs.train(1, tmp_path / "run", "SGD")

    def at_once(*_: object) -> AbstractContextManager[subprocess.Popen[str]]:
        return _ended()

    monkeypatch.setattr(distributed._Runs, "_started", at_once)
    with pytest.raises(RadaError, match="run ended or hung before iteration 1: gone"):
        runs.stop(1, tmp_path / "run")


def _ended() -> AbstractContextManager[subprocess.Popen[str]]:
    from contextlib import contextmanager

    @contextmanager
    def ended() -> Iterator[subprocess.Popen[str]]:
        code = "import sys; sys.stderr.write('gone')"
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as child:  # noqa: S603
            yield child

    return ended()
