"""Commands in a job of several processes; how these compute together is tested with the engine."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from napari_rada.cli import main
from napari_rada.cli.jobs import leads, processes
from napari_rada.cli.signals import SIGNALS, stop_on_signals
from napari_rada.control import RunControl
from napari_rada.errors import ElsewhereError, LostContactError, RadaError, Stopped
from napari_rada.training import crew
from napari_rada.training.team import Team

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Be one process of two."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(request.param))
    return int(request.param)


def meet(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the processes meet and one of them fail at once."""

    @contextmanager
    def joined(_control: RunControl) -> Iterator[Team]:
        yield Team()
        raise error

    monkeypatch.setattr(crew, "joined", joined)
    monkeypatch.setattr("napari_rada.cli.commands.train", lambda args, console, control: True)


def test_a_process_by_itself_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (processes(), leads()) == (1, True)
    monkeypatch.setenv("RANK", "3")  # left over from something else
    assert leads()
    monkeypatch.setenv("WORLD_SIZE", "many")
    assert (processes(), leads()) == (1, True)


@pytest.mark.parametrize("rank", [0], indirect=True)
def test_only_training_runs_in_several_processes(capsys: pytest.CaptureFixture[str], rank: int) -> None:
    assert main(["info"]) == 2
    assert capsys.readouterr().err == (
        "napari-rada: error: 2 processes were started (WORLD_SIZE), but only training runs in several; start this "
        "command without torchrun.\n"
    )


@pytest.mark.parametrize("rank", [0, 1], indirect=True)
def test_a_wrong_command_line_is_told_once(capsys: pytest.CaptureFixture[str], rank: int) -> None:
    assert main(["train", "--nonsense"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 - rank


@pytest.mark.parametrize("rank", [0, 1], indirect=True)
@pytest.mark.parametrize(
    ("error", "status", "lines"),
    [
        (ElsewhereError("the disk is full"), 2, (0, 0)),
        (RadaError("the disk is full"), 2, (1, 1)),
        (LostContactError("gone"), 2, (1, 1)),
        (Stopped(), 3, (1, 0)),
        (Stopped("while it waited"), 3, (1, 1)),
    ],
)
def test_who_fails_says_so_and_nobody_else(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    error: Exception,
    status: int,
    lines: tuple[int, int],
) -> None:
    meet(monkeypatch, error)
    assert main(["train", "scan.nii.gz", "-o", "run"]) == status
    assert capsys.readouterr().err.count("\n") == lines[rank]


@pytest.mark.parametrize("rank", [0], indirect=True)
def test_processes_that_do_not_find_each_other_are_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rank: int, tmp_path: Path
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert main(["train", "scan.nii.gz", "-o", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("napari-rada: error: The 2 processes of this job did not find each other (")
    assert told.endswith("); start them with torchrun, see docs/cluster.md.\n")
    assert told.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to one process")
def test_in_a_job_repeated_signals_are_one_request(capfd: pytest.CaptureFixture[str]) -> None:
    control = RunControl()
    with stop_on_signals(control, in_a_job=True):
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(os.getpid(), number)
    assert control.stop_requested
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")
def test_sigusr1_is_a_stop_request() -> None:
    assert signal.SIGUSR1 in SIGNALS


def test_the_package_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["napari_rada", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("napari_rada", run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("napari-rada ")
