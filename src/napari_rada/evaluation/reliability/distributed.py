"""Train in two processes, kill one, stop and resume with another number, and compare with what one process does.

Everything runs in real processes, as a user starts them: one by itself, two by torchrun, on the processor. A tiny
cohort of two labelled scans and one without labels is trained. Losses and weights at the end are compared with those
of the run by one process.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from napari_rada import io
from napari_rada.errors import RadaError
from napari_rada.evaluation.reliability.scene import make_case, tiny_settings
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 300.0
SUPERVISED_TOLERANCE, CROSS_TOLERANCE = 1e-4, 5e-3
"""Largest difference of a loss between runs that count as the same.

A teacher's voxel counts or does not: rounding moves single voxels over that threshold, each of which is 1/8192 of the
mean over the two unlabelled patches of 16 voxels a side. Supervised losses have no such steps.
"""
SETTINGS = {
    "training.labelled_patches": "2",
    "training.unlabelled_patches": "2",
    "training.log_every": "1",
    "training.validate_every": "10",
    "training.checkpoint_seconds": "0.2",
    "training.augment": "deform",
    "training.cross.noisy_passes": "2",
    "training.cross.schedule": "constant",
    "model.norm": "instance",
    "model.dropout": "0.2",
    "propagation.method": "diffusion",
    "guidance.source": "none",
}
KINDS: dict[str, dict[str, str]] = {
    "SGD": {"training.optimiser.kind": "sgd", "training.learning_rate": "0.05"},
    "AdamW": {"training.optimiser.kind": "adamw", "training.learning_rate": "0.001"},
    "SGD, batch normalisation": {
        "training.optimiser.kind": "sgd",
        "training.learning_rate": "0.05",
        "model.norm": "batch",
    },
}


@dataclass(frozen=True)
class Difference:
    """Largest difference from one process, over all logged losses of a kind, and over the weights at the end."""

    run: str
    supervised: float
    cross: float
    weight: float

    @property
    def is_rounding(self) -> bool:
        """True if the losses are those of the same run."""
        return self.supervised < SUPERVISED_TOLERANCE and self.cross < CROSS_TOLERANCE


@dataclass(frozen=True)
class DistributedReport:
    """What came of all runs.

    Parameters
    ----------
    iterations
        Of every run.
    differences
        One entry per run of two processes, or of one and two after each other.
    ended_s
        Seconds after which the other process had ended when one was killed.
    said
        What it said.
    """

    iterations: int
    differences: tuple[Difference, ...]
    ended_s: float
    said: str

    @property
    def holds(self) -> bool:
        """True if all runs are the same and the killed job ended with one sentence."""
        same = all(difference.is_rounding for difference in self.differences)
        return same and "lost contact" in self.said and "\n" not in self.said


def compare(
    folder: Path, *, iterations: int = 40, seed: int = 0, tell: Callable[[str], None] = lambda run: None
) -> DistributedReport:
    """Train with one process and with two, kill one of two, and resume with another number.

    Parameters
    ----------
    folder
        Empty; everything is written there.
    iterations
        Of each run.
    tell
        Called with a word about each run before it starts.
    """
    runs = _Runs(folder, _write_cohort(folder), iterations, tell)
    found = []
    for kind in KINDS:
        runs.train(1, folder / f"{kind} 1", kind)
        runs.train(2, folder / f"{kind} 2", kind)
        found.append(_difference(f"two processes, {kind}", folder / f"{kind} 1", folder / f"{kind} 2"))
    whole = folder / "SGD 1"
    ended_s, said = runs.kill(folder / "killed", np.random.default_rng(seed))
    runs.train(2, folder / "killed", "SGD")
    found.append(_difference("one of two killed, resumed with two", whole, folder / "killed"))
    for first, second in ((1, 2), (2, 1)):
        path = folder / f"{first} then {second}"
        runs.stop(first, path)
        runs.train(second, path, "SGD")
        words = {1: "one", 2: "two"}
        found.append(_difference(f"{words[first]} stopped, resumed with {words[second]}", whole, path))
    return DistributedReport(iterations, tuple(found), ended_s, said)


@dataclass(frozen=True)
class _Runs:
    """Starts the processes of runs."""

    folder: Path
    cases: tuple[str, ...]
    iterations: int
    tell: Callable[[str], None]

    def train(self, processes: int, run_dir: Path, kind: str) -> None:
        """Train to the end; go on if the run has begun."""
        with self._started(processes, run_dir, kind) as child:
            _, stderr = child.communicate(timeout=PATIENCE_S)
        if child.returncode != 0:
            raise RadaError(f"{run_dir.name} ended with status {child.returncode}: {stderr.strip()[-500:]}")

    def stop(self, processes: int, run_dir: Path) -> None:
        """Train and send SIGTERM, as a scheduler does, after half of the iterations."""
        with self._started(processes, run_dir, "SGD") as child:
            self._wait(child, run_dir, self.iterations // 2)
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=PATIENCE_S)
        state = load_checkpoint(RunFolder(run_dir).last_checkpoint).state
        if not 0 < state.iteration < self.iterations:
            raise RadaError(f"{run_dir.name} was not stopped in its midst but at iteration {state.iteration}.")

    def kill(self, run_dir: Path, rng: np.random.Generator) -> tuple[float, str]:
        """Kill one of two processes with SIGKILL; returns when the other had ended (s), and its last words."""
        with self._started(2, run_dir, "SGD") as child:
            self._wait(child, run_dir, int(rng.integers(self.iterations // 4, self.iterations // 2)))
            workers = {int(worker.environ()["RANK"]): worker for worker in psutil.Process(child.pid).children()}
            victim = int(rng.integers(2))
            workers[victim].kill()
            killed = time.monotonic()
            workers[1 - victim].wait(PATIENCE_S)
            ended = time.monotonic() - killed
            _, stderr = child.communicate(timeout=PATIENCE_S)
        said = [line for line in stderr.splitlines() if line.startswith("napari-rada: error")]
        return ended, "\n".join(said)

    def _wait(self, child: subprocess.Popen[str], run_dir: Path, iteration: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while len(_losses(run_dir)) < iteration:
            if child.poll() is not None or time.monotonic() > until:
                child.kill()
                _, stderr = child.communicate()
                raise RadaError(f"{run_dir.name} ended or hung before iteration {iteration}: {stderr.strip()[-500:]}")
            time.sleep(0.01)

    @contextmanager
    def _started(self, processes: int, run_dir: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
        """Start a run, and end it when the block ends."""
        self.tell(f"{run_dir.name}, {processes} process{'es' if processes > 1 else ''}")
        launcher = [sys.executable, "-m"]
        if processes > 1:
            launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        if (run_dir / "cases.json").exists():
            arguments = ["-o", str(run_dir), "--resume"]
        else:
            settings = tiny_settings() | SETTINGS | {"training.iterations": str(self.iterations)} | KINDS[kind]
            flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
            # Not the presets whose cohorts use bfloat16 where a processor has it: that rounds far more.
            arguments = [*self.cases, "-o", str(run_dir), "--preset", "paper", *flags]
        command = [*launcher, "napari_rada", "train", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        ) as child:
            try:
                yield child
            finally:
                child.terminate()


def _write_cohort(folder: Path) -> tuple[str, ...]:
    """Write two labelled scans and a bare one; returns them as the command line takes them."""
    cases = []
    for seed in range(3):
        case = make_case(seed)
        image, labels = folder / f"ball{seed}.nii.gz", folder / f"ball{seed}_labels.nii.gz"
        io.write_volume(image, case.image, case.grid)
        if seed < 2:
            io.save_labels(case, labels)
        cases.append(f"{image},{labels}" if seed < 2 else str(image))
    return tuple(cases)


def _difference(name: str, one: Path, other: Path) -> Difference:
    losses, others = (torch.tensor(_losses(path)) for path in (one, other))
    if losses.shape != others.shape:
        raise RadaError(f"{name}: {len(others)} iterations are logged instead of {len(losses)}.")
    models = [load_checkpoint(RunFolder(path).last_checkpoint).model for path in (one, other)]
    weights = [(values.double() - models[1][key].double()).abs().max().item() for key, values in models[0].items()]
    apart = (losses - others).abs().amax(dim=0)
    return Difference(name, apart[:3].max().item(), apart[3:].max().item(), max(weights))


def _losses(run_dir: Path) -> list[list[float]]:
    """Read the logged losses, supervised and cross; none if there are none yet."""
    try:
        with RunFolder(run_dir).losses_file.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
    except FileNotFoundError:
        return []
    return [[float(cell) for cell in row[1:7]] for row in rows if len(row) == 10]
