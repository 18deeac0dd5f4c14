"""What a run has told so far, ready to be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from napari_rada.events import Event, StepLogged, TrainingStarted, Validated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

LossKind: TypeAlias = Literal["supervised", "cross"]
Series: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"

NETWORKS = 3
MAX_POINTS = 150
"""Points per drawn curve; more cannot be told apart in a dock."""


class History:
    """The logged iterations and validations of one run."""

    def __init__(self) -> None:
        self.steps: list[StepLogged] = []
        self.validations: list[Validated] = []

    @classmethod
    def of(cls, steps: Iterable[StepLogged], validations: Iterable[Validated]) -> History:
        """Take up a history that was read from a run folder."""
        history = cls()
        history.steps, history.validations = list(steps), list(validations)
        return history

    def copy(self) -> History:
        """Return a history that goes on by itself."""
        return History.of(self.steps, self.validations)

    def add(self, event: Event) -> bool:
        """Take in an event; True if there may be something else to draw.

        Where training begins before what was told, as on from earlier networks or with less memory, that is forgotten.
        """
        if isinstance(event, StepLogged):
            self.steps.append(event)
        elif isinstance(event, Validated):
            self.validations.append(event)
        elif isinstance(event, TrainingStarted):
            self.steps = [step for step in self.steps if step.iteration < event.first_iteration]
            self.validations = [found for found in self.validations if found.iteration < event.first_iteration]
        else:
            return False
        return True

    def losses(self, kind: LossKind, network: int) -> Series:
        """Return iterations and losses of one network, averaged over neighbours if there are more than `MAX_POINTS`."""
        x = np.array([step.iteration for step in self.steps], dtype=np.float64)
        y = np.array([getattr(step, kind)[network] for step in self.steps], dtype=np.float64)
        return decimate(x, y, MAX_POINTS)

    def rate(self, kind: Literal["beta", "learning_rate"]) -> Series:
        """Return iterations and β or learning rate."""
        x = np.array([step.iteration for step in self.steps], dtype=np.float64)
        y = np.array([getattr(step, kind) for step in self.steps], dtype=np.float64)
        return decimate(x, y, MAX_POINTS)

    def dice(self) -> Series:
        """Return iterations and Dice on held-out annotated voxels."""
        x = [validation.iteration for validation in self.validations]
        y = [validation.dice for validation in self.validations]
        return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)


def decimate(x: NDArray[np.float64], y: NDArray[np.float64], max_points: int) -> Series:
    """Average runs of neighbouring points until at most `max_points` are left."""
    width = -(-len(x) // max_points)
    if width <= 1:
        return x, y
    starts = np.arange(0, len(x), width)
    sizes = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes
