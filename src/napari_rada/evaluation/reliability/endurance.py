"""Long jobs: what memory, file handles and threads do over thousands of iterations and many rounds."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psutil

from napari_rada import pipeline
from napari_rada.evaluation.reliability.scene import make_case, tiny_config
from napari_rada.events import Event, StepLogged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SAMPLES = 100
"""Samples of a long training."""
WARM_UP = 0.25
"""Share of the samples, at the start, that is left out: allocators, caches and imports fill up first."""


@dataclass(frozen=True)
class Sample:
    """What the process holds after `step` iterations or rounds: resident bytes, open file handles, threads."""

    step: int
    resident: int
    handles: int
    threads: int


@dataclass(frozen=True)
class Trend:
    """How samples change after the warm-up.

    Parameters
    ----------
    steps
        Iterations or rounds in all.
    slope
        Resident bytes per step, the straight line of least squares.
    first, last
        Resident bytes at both ends.
    handles, threads
        Smallest and largest number.
    """

    steps: int
    slope: float
    first: int
    last: int
    handles: tuple[int, int]
    threads: tuple[int, int]

    @property
    def leaks(self) -> bool:
        """True if handles or threads have become more."""
        return self.handles[1] > self.handles[0] or self.threads[1] > self.threads[0]


def train_long(folder: Path, iterations: int) -> Trend:
    """Train a tiny network for many iterations."""
    found: list[Sample] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepLogged) and event.iteration % max(1, iterations // SAMPLES) == 0:
            found.append(take_sample(event.iteration))

    config = tiny_config(
        training__iterations=str(iterations), training__validate_every="100", training__checkpoint_seconds="5"
    )
    pipeline.train([make_case()], folder / "run", config, listener=listen)
    return trend(found)


def train_and_predict(folder: Path, rounds: int) -> Trend:
    """Train a tiny network and predict with it, again and again."""
    found = []
    config = tiny_config(training__iterations="10", training__validate_every="5")
    case = make_case()
    for number in range(1, rounds + 1):
        run = pipeline.train([case], folder / f"run{number}", config)
        pipeline.predict(run.run_dir, case, device="cpu")
        found.append(take_sample(number))
    return trend(found)


def take_sample(step: int) -> Sample:
    """Look at this process."""
    gc.collect()
    process = psutil.Process()
    return Sample(step, process.memory_info().rss, _handles(process), process.num_threads())


def _handles(process: psutil.Process) -> int:
    if sys.platform == "win32":
        return process.num_handles()
    return process.num_fds()


def trend(samples: Sequence[Sample]) -> Trend:
    """Fit a line through the samples after the warm-up; at least two are needed."""
    kept = samples[int(len(samples) * WARM_UP) :]
    steps, resident = np.array([[sample.step, sample.resident] for sample in kept], dtype=np.float64).T
    slope = float(np.polyfit(steps - steps.mean(), resident, 1)[0])
    handles, threads = [sample.handles for sample in kept], [sample.threads for sample in kept]
    return Trend(
        steps=samples[-1].step,
        slope=slope,
        first=kept[0].resident,
        last=kept[-1].resident,
        handles=(min(handles), max(handles)),
        threads=(min(threads), max(threads)),
    )
