"""The command as a process: quick to start, stoppable, and honest about both in its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.engine import ball_case

from napari_rada.cli import console, main
from napari_rada.cli.console import Console
from napari_rada.cli.signals import SIGNALS, stop_on_signals
from napari_rada.control import RunControl
from napari_rada.events import Notice, Stage, StageProgress, StepLogged, TrainingStarted
from napari_rada.io import save_labels, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMAND = [sys.executable, "-m", "napari_rada.cli"]
HEAVY = ("torch", "numpy", "pydantic", "nibabel", "monai", "scipy", "napari", "qtpy")
PATIENCE_S = 120
ENDLESS = "training.iterations=100000"


def finished(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter


def test_a_number_of_iterations_that_a_time_budget_has_yet_to_set_is_told_as_such() -> None:
    began = console.describe(TrainingStarted(1, None, "cpu"))
    assert began is not None
    assert began.text == "training on cpu, from iteration 1 on as many as fit into the time"
    step = StepLogged(3, 23, (0.5,) * 3, (0.1,) * 3, 0.0, 0.01, 1.0, 61.0, estimated=True)
    for event, told in ((step, "iteration 3 of about 23, loss "), (replace(step, estimated=False), "iteration 3/23,")):
        line = console.describe(event)
        assert line is not None
        assert line.text.startswith(told)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from napari_rada.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = finished([sys.executable, "-c", code])
    assert "Label three slices" in done.stdout
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(("command", "resumes"), [("train", True), ("pretrain", True), ("evaluate", False)])
def test_help_tells_every_status_and_offers_resuming_where_it_can_be(
    capsys: pytest.CaptureFixture[str], command: str, resumes: bool
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split()).partition("Exit status: ")[2]
    assert told.startswith("0 done, 2 bad input, 3 stopped early, 141 if the reader of a pipe went away.")
    assert ("--resume" in told) == resumes


def test_a_bad_path_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from napari_rada.cli import main\n"
        f"status = main(['propagate', 'no.nii.gz', 'no.nii.gz', '-o', {str(tmp_path / 'm.nii.gz')!r}])\n"
        "print(status, 'torch' in sys.modules)"
    )
    done = finished([sys.executable, "-c", code])
    assert done.stdout == "2 False\n"
    assert done.stderr.count("\n") == 1


def test_version() -> None:
    done = finished([*COMMAND, "--version"])
    assert done.stdout.startswith("napari-rada ")


def wait_for(path: Path, lines: int) -> None:
    """Wait until a run has logged so many iterations."""
    deadline = time.monotonic() + PATIENCE_S
    while not (path.is_file() and len(path.read_text().splitlines()) > lines):
        assert time.monotonic() < deadline, f"{path} did not grow"
        time.sleep(0.05)


def iterations(run: Path) -> int:
    return int((run / "losses.csv").read_text().splitlines()[-1].split(",")[0])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGINT or SIGTERM to one process")
def test_signals_stop_training_with_a_checkpoint_and_it_resumes(scan: Any, tmp_path: Path, tiny: list[str]) -> None:
    run = tmp_path / "run"
    start = [*COMMAND, "train", f"{scan.image},{scan.labels}", "-o", str(run), *tiny, "--set", ENDLESS]
    go_on = [*COMMAND, "train", "-o", str(run), "--resume"]
    reached = 0
    for command, number in ((start, signal.SIGINT), (go_on, signal.SIGTERM)):
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)  # noqa: S603 - our own interpreter
        wait_for(run / "losses.csv", reached + 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 3, err
        assert f"{run}: stopped after {iterations(run)} iterations" in out
        assert "Stopping, please wait" in err
        assert err.endswith("napari-rada: stopped\n")
        assert "Traceback" not in err
        assert (run / "checkpoints" / "last.pt").is_file()
        assert iterations(run) > reached
        reached = iterations(run)


def interrupted(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """Send this process a SIGINT when a stage reports progress."""
    shown = Console.__call__

    def listener(self: Console, event: Any) -> None:
        shown(self, event)
        if isinstance(event, StageProgress) and event.stage is stage:
            monkeypatch.setattr(Console, "__call__", shown)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Console, "__call__", listener)


def test_a_second_signal_is_not_caught(capfd: pytest.CaptureFixture[str]) -> None:
    control = RunControl()
    with stop_on_signals(control):
        assert not control.stop_requested
        signal.raise_signal(signal.SIGTERM)
        assert control.stop_requested
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_DFL}
    assert "press Ctrl+C again to quit at once" in capfd.readouterr().err


def test_stopped_propagation_writes_nothing(
    run_cli: Callable[..., Any], scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, Stage.PROPAGATE)
    before = signal.getsignal(signal.SIGINT)
    ran = run_cli("propagate", scan.image, scan.labels, "-o", tmp_path / "mask.nii.gz")
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.endswith("napari-rada: stopped\n")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_stopped_prediction_writes_nothing(
    run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, Stage.PREDICT)
    ran = run_cli("predict", run_dir, scan.image, "-o", tmp_path / "mask.nii.gz")
    assert (ran.status, ran.out) == (3, "")
    assert list(tmp_path.iterdir()) == []


def test_stopped_demo(
    run_cli: Callable[..., Any], tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, Stage.PREPARE)
    ran = run_cli("demo", "--out", tmp_path / "demo", *tiny)
    assert (ran.status, ran.out) == (3, "")


def test_resume_says_what_it_does_not_look_at(run_cli: Callable[..., Any], scan: Any, run_dir: Path) -> None:
    ran = run_cli("train", f"{scan.image},{scan.labels}", "-o", run_dir, "--resume", "--preset", "quick")
    assert ran.status == 0
    assert "nothing is left to train, 2 iterations are done" in ran.err
    assert "note: A resumed run keeps its cases and settings; the cases, --preset made no difference." in ran.err
    assert "completed after 2 iterations" in ran.out


def test_an_error_of_the_system_is_one_line(
    scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "run/losses.csv")

    monkeypatch.setattr("napari_rada.io.load_case", full)
    assert main(["propagate", scan.image, scan.labels, "-o", str(tmp_path / "mask.nii.gz")]) == 2
    assert capsys.readouterr().err == "napari-rada: error: run/losses.csv: No space left on device.\n"


def test_a_terminal_gets_one_updating_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = Console()
    for done in range(3):
        shown(StageProgress(Stage.PREDICT, done, 2))
    shown(Notice("found something"))
    shown.close()
    erase = console.ERASE_LINE
    assert capsys.readouterr().err == (
        f"{erase}predicting 0/2{erase}predicting 1/2{erase}predicting 2/2\nnote: found something\n"
    )


def test_a_log_file_gets_few_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = Console()
    for done in range(40):
        now[0] += 0.3
        shown(StageProgress(Stage.PREDICT, done, 40))
    assert capsys.readouterr().err == "predicting 0/40\npredicting 34/40\n"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3700, "1:01:40")])
def test_durations(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_a_path_that_the_output_cannot_spell_is_printed_all_the_same(tmp_path: Path) -> None:
    case, folder = ball_case(), tmp_path / "扫描"
    folder.mkdir()
    write_volume(folder / "scan.nii.gz", case.image, case.grid)
    save_labels(case, folder / "labels.nii.gz")
    command = [*COMMAND, "propagate", str(folder / "scan.nii.gz"), str(folder / "labels.nii.gz"), "-o"]
    command += [str(folder / "mask.nii.gz"), "--set", "propagation.method=diffusion"]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert "\\u626b\\u63cf" in done.stdout
    assert (folder / "mask.nii.gz").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="it is a shell of Unix that closes streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    command = f"{sys.executable} -m napari_rada.cli hyperparameters --preset quick {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - our own words
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) is (closed == "2>&-")


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
SHORT = ["hyperparameters --preset quick", "--help", "--version", "weights --help"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize("arguments", SHORT)
def test_a_reader_that_goes_away_is_no_error(arguments: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, *arguments.split()]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
@pytest.mark.parametrize("arguments", SHORT)
def test_an_output_that_cannot_be_written_is_told_once(arguments: str) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [*COMMAND, *arguments.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED
        )
    assert done.returncode == 2
    assert done.stderr == "napari-rada: error: No space left on device.\n"
