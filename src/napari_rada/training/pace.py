"""How fast a run trains, and how many iterations fit into a time budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from napari_rada.training.checkpoint import TrainState

BUDGET_SHARE = 0.9
"""Share of a time budget that is planned for iterations; validation and checkpoints take the rest."""

SHORTEST_S = 1e-3
"""An iteration counts as no shorter: some clocks count in steps of hundredths of a second."""


class ToCome(NamedTuple):
    """What a run does after the iterations of a trainer, for what is told.

    Parameters
    ----------
    iterations
        How many; with a time budget as many as seem to fit, 0 as long as nobody knows.
    cost
        How long one takes, in iterations of the trainer.
    minutes
        The time budget.
    """

    iterations: int = 0
    cost: float = 1.0
    minutes: float = 0.0

    def seconds(self, each: float) -> float:
        """Return how long it takes, from the time of an iteration of the trainer."""
        return 60.0 * self.minutes if self.minutes else self.iterations * self.cost * each

    def fitted(self, each: float) -> ToCome:
        """Return this with as many iterations as seem to fit into its time budget, if it has one."""
        if not self.minutes:
            return self
        return self._replace(iterations=int(BUDGET_SHARE * 60.0 * self.minutes / (self.cost * each)))


NOTHING = ToCome()


class Pace:
    """Seconds per iteration, without the first ones of this process: they load and compile what the others find.

    Parameters
    ----------
    loading
        How many these are.
    """

    def __init__(self, loading: int = 1) -> None:
        self._loading = loading
        self._since: tuple[int, float] | None = None

    def went_on(self, state: TrainState) -> None:
        """Take note of an iteration that is done."""
        self._loading -= 1
        if self._loading == 0:
            self._since = state.iteration, state.elapsed_s

    def seconds(self, state: TrainState) -> float:
        """Return the mean time of an iteration; before others are done that of all of this run."""
        iteration, elapsed_s = self._since or (state.first, state.first_elapsed_s)
        if iteration == state.iteration:
            iteration, elapsed_s = state.first, state.first_elapsed_s
        return max(SHORTEST_S, (state.elapsed_s - elapsed_s) / max(1, state.iteration - iteration))

    def fitting(self, state: TrainState, minutes: float) -> int:
        """Return how many iterations the run can have in all, those done included, if it has so many minutes."""
        left_s = BUDGET_SHARE * 60.0 * minutes - (state.elapsed_s - state.first_elapsed_s)
        return state.iteration + int(max(0.0, left_s) / self.seconds(state))
