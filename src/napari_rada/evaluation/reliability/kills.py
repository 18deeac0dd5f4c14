"""Kill real processes at random moments and see whether anything is lost.

A run is trained once undisturbed. Then the same run is killed (SIGKILL; on Windows TerminateProcess) again and again:
while it starts, during its iterations, during the write of a checkpoint; after each kill every file under a final name
must be whole, and the run is resumed. At its end the weights must equal those of the undisturbed run bit for bit.
Predictions are killed too; their output must be missing or whole. A kill does not empty the system's disk cache as a
power cut does: that files are flushed before they are renamed is tested elsewhere (`tests/test_durable.py`).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from napari_rada import io
from napari_rada.config import load_config
from napari_rada.durable import PREFIX
from napari_rada.errors import RadaError
from napari_rada.evaluation.reliability.scene import SceneFiles, tiny_settings, write_scene
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.run_folder import LOSS_COLUMNS, RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Kind: TypeAlias = Literal["start", "step", "checkpoint", "predict"]
KINDS: tuple[Kind, ...] = ("step", "checkpoint", "predict", "step", "checkpoint", "start")
"""In turn; iterations and writes are where most can be lost."""
INTERVAL_S = 0.1
"""Seconds between two checkpoints of the runs that are killed."""
STEP_S, WRITE_S, PREDICT_S = 2.0, 0.004, 0.3
"""Longest random delay after an iteration or a validation, after a write was seen, and after the first tile."""
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Kill:
    """One kill: when, at which saved iteration, how much work was not saved (s), and what was wrong, if anything."""

    kind: Kind
    iteration: int
    lost_s: float
    complaint: str = ""


@dataclass(frozen=True)
class Report:
    """All kills, and for every finished run what was wrong with it, if anything."""

    kills: tuple[Kill, ...]
    runs: tuple[str, ...]
    interval_s: float = INTERVAL_S

    @property
    def survived(self) -> int:
        """Kills after which nothing was wrong; none of a run whose end was wrong."""
        return 0 if any(self.runs) else sum(not kill.complaint for kill in self.kills)


@dataclass(frozen=True)
class Place:
    """Where everything lies."""

    folder: Path
    scene: SceneFiles
    iterations: int

    @property
    def whole(self) -> Path:
        """The run folder that is not disturbed."""
        return self.folder / "whole"

    def train(self, run_dir: Path) -> list[str]:
        """Command that trains, or goes on if the run has begun."""
        if (run_dir / "cases.json").exists():
            return _command("train", "-o", run_dir, "--resume")
        settings = tiny_settings(
            training__iterations=str(self.iterations),
            training__validate_every="40",
            training__checkpoint_seconds=str(INTERVAL_S),
        )
        flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
        return _command("train", self.scene.case, "-o", run_dir, *flags)

    def predict(self, out: Path) -> list[str]:
        """Command that predicts with the undisturbed run."""
        probability = out.with_name("probability.nii.gz")
        return _command("predict", self.whole, self.scene.image, "-o", out, "--probability", probability)


def kill_often(
    count: int, folder: Path, *, iterations: int = 200, seed: int = 0, tell: Callable[[Kill], None] = lambda kill: None
) -> Report:
    """Kill `count` processes and report.

    Parameters
    ----------
    folder
        Empty; everything is written there.
    iterations
        Of the run that is killed.
    tell
        Called after each kill.
    """
    place = Place(folder, write_scene(folder), iterations)
    started = time.monotonic()
    _finish(place.train(place.whole))
    startup = min(5.0, time.monotonic() - started)
    rng = np.random.default_rng(seed)
    kills: list[Kill] = []
    runs: list[str] = []
    run_dir = folder / "run0"
    while len(kills) < count:
        kind = KINDS[len(kills) % len(KINDS)]
        made = _kill_predict(place, rng) if kind == "predict" else _kill_train(place, run_dir, kind, startup, rng)
        if made is None:  # it had ended before it was to be killed
            if kind != "predict":
                runs.append(_compare(place.whole, run_dir))
                run_dir = folder / f"run{len(runs)}"
            continue
        kills.append(made)
        tell(made)
    _finish(place.train(run_dir))
    return Report(tuple(kills), (*runs, _compare(place.whole, run_dir)))


def _kill_train(place: Place, run_dir: Path, kind: Kind, startup: float, rng: np.random.Generator) -> Kill | None:
    with _started(place.train(run_dir)) as child:
        if kind == "start":
            time.sleep(rng.uniform(0, startup))
        else:
            # The first validation takes seconds, in which most kills would fall; half of them come after it.
            _wait_for_word(child, ": Dice" if rng.random() < 0.5 else "iteration ")
            time.sleep(rng.uniform(0, STEP_S))
        if kind == "checkpoint":
            _wait_for(child, lambda: any((run_dir / "checkpoints").glob(f"{PREFIX}-*")))
            time.sleep(rng.uniform(0, WRITE_S))
        if _ended_before(child):
            return None
    try:
        iteration, lost = _check_run(run_dir)
    except RadaError as error:
        return Kill(kind, 0, 0.0, str(error))
    return Kill(kind, iteration, lost)


def _kill_predict(place: Place, rng: np.random.Generator) -> Kill | None:
    if not (place.folder / "whole.nii.gz").exists():
        _finish(place.predict(place.folder / "whole.nii.gz"))
    out = place.folder / "killed" / "mask.nii.gz"
    out.parent.mkdir(exist_ok=True)
    for old in out.parent.iterdir():
        old.unlink()
    with _started(place.predict(out)) as child:
        _wait_for_word(child, "predicting")
        time.sleep(rng.uniform(0, PREDICT_S))
        if _ended_before(child):
            return None
    try:
        if out.exists():
            whole = io.read_volume(place.folder / "whole.nii.gz")
            if not np.array_equal(whole.array, io.read_volume(out).array):
                return Kill("predict", 0, 0.0, f"{out} is another mask than that of the undisturbed prediction")
        if out.with_name("probability.nii.gz").exists():
            io.read_volume(out.with_name("probability.nii.gz"))
    except RadaError as error:
        return Kill("predict", 0, 0.0, str(error))
    return Kill("predict", 0, 0.0)


def _check_run(run_dir: Path) -> tuple[int, float]:
    """Read everything that has a final name; returns the saved iteration and the logged time (s) after it."""
    folder = RunFolder(run_dir)
    if folder.config_file.exists():
        load_config(folder.config_file)
    for path in (folder.cases_file, folder.environment_file):
        if path.exists():
            json.loads(path.read_text(encoding="utf-8"))
    for path in folder.annotations.glob("*.nii*"):
        io.read_volume(path)
    if folder.best_checkpoint.exists():
        load_checkpoint(folder.best_checkpoint)
    if not folder.last_checkpoint.exists():
        return 0, 0.0
    state = load_checkpoint(folder.last_checkpoint).state
    elapsed = [float(row[-1]) for row in _whole_rows(folder.losses_file)]
    return state.iteration, max(0.0, elapsed[-1] - state.elapsed_s) if elapsed else 0.0


def _compare(whole: Path, run_dir: Path) -> str:
    """Say what tells the end of a run from that of the undisturbed one; empty if nothing does."""
    try:
        one, other = (load_checkpoint(RunFolder(path).last_checkpoint) for path in (whole, run_dir))
        _check_run(run_dir)
    except RadaError as error:
        return str(error)
    if one.state.iteration != other.state.iteration:
        return f"{run_dir} ended at iteration {other.state.iteration} instead of {one.state.iteration}"
    if not all(torch.equal(values, other.model[name]) for name, values in one.model.items()):
        return f"{run_dir} ended with other weights than the undisturbed run"
    rows = [[row[:-1] for row in _whole_rows(RunFolder(path).losses_file)] for path in (whole, run_dir)]
    return "" if rows[0] == rows[1] else f"{run_dir} logged other losses than the undisturbed run"


def _whole_rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if len(row) == len(LOSS_COLUMNS)][1:]


def _command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-u", "-m", "napari_rada.cli", name, *map(str, arguments)]


def _finish(command: list[str]) -> None:
    """Run a command to its end."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RadaError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process of our own, and kill it when the block ends."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:  # noqa: S603
        try:
            yield child
        finally:
            child.kill()


def _ended_before(child: subprocess.Popen[str]) -> bool:
    """Kill a process now; True if it had ended by itself."""
    ended = child.poll() is not None
    child.kill()
    child.wait()
    return ended or (os.name != "nt" and child.returncode >= 0)


def _wait_for_word(child: subprocess.Popen[str], word: str) -> None:
    assert child.stderr is not None
    for line in child.stderr:
        if word in line:
            return


def _wait_for(child: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while child.poll() is None and not happened() and time.monotonic() < until:
        time.sleep(0.0005)
