"""What a running pipeline reports: frozen scalars, no arrays, no references to live objects.

A `Listener` is called in the thread that computes. It must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path


class Stage(str, Enum):
    """The parts of a run, in order; then what is done outside of runs."""

    PREPARE = "prepare"
    PROPAGATE = "propagate"
    TRAIN = "train"
    LABEL = "label"
    PREDICT = "predict"
    DOWNLOAD = "download"
    VERIFY = "verify"
    BENCHMARK = "benchmark"


class FinishReason(str, Enum):
    """Why training ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class StageProgress:
    """`done` of `total` pieces of a stage are finished. Fires at least at 0 and at `total`."""

    stage: Stage
    done: int
    total: int
    message: str = ""


@dataclass(frozen=True)
class TrainingStarted:
    """Fires before iteration `first_iteration`: 1, or more when resumed, with less memory, or in a second half.

    `total_iterations` is None as long as a time budget was not turned into a number of them.
    """

    first_iteration: int
    total_iterations: int | None
    device: str


@dataclass(frozen=True)
class StepLogged:
    """The losses of one iteration, one entry per network, NaN for those that take no part.

    Fires every `training.log_every` iterations. `estimated` if `total_iterations` is what seems to fit into a time
    budget that was not turned into a number of them yet.
    """

    iteration: int
    total_iterations: int
    supervised: tuple[float, ...]
    cross: tuple[float, ...]
    beta: float
    learning_rate: float
    elapsed_s: float
    remaining_s: float
    estimated: bool = False


@dataclass(frozen=True)
class Validated:
    """Dice on annotated voxels that the judged network was not taught, in 0..1.

    `best` if these networks predict from now on: none had a higher Dice, or they are those of the end of self-training
    and hardly behind.
    """

    iteration: int
    dice: float
    propagation_dice: float
    best: bool


@dataclass(frozen=True)
class CheckpointSaved:
    """A complete checkpoint lies at `path`."""

    iteration: int
    path: Path


@dataclass(frozen=True)
class Paused:
    """Training waits before the next iteration."""

    iteration: int


@dataclass(frozen=True)
class Resumed:
    """Training goes on after a pause."""

    iteration: int


@dataclass(frozen=True)
class RunFinished:
    """Fires once, last, also after a stop. Not after an error: that is raised."""

    reason: FinishReason
    iteration: int


@dataclass(frozen=True)
class Notice:
    """One sentence that the user should read once: a fallback taken, a conflict resolved."""

    message: str


Event: TypeAlias = (
    StageProgress | TrainingStarted | StepLogged | Validated | CheckpointSaved | Paused | Resumed | RunFinished | Notice
)
Listener: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Take an event and do nothing: the default listener."""


def tell(listener: Listener, *sentences: str | None) -> None:
    """Tell each sentence that there is as a notice."""
    for sentence in sentences:
        if sentence:
            listener(Notice(sentence))
