"""The batches of a run, one after the other; the next ones can be cut while a graphics card computes."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from napari_rada.training.patches import Cuts, Draws, PatchSampler

MOST_AHEAD = 4
"""Threads that cut batches ahead, one each; as a card is fed by fewer, more would only hold memory."""


class _Drawn(NamedTuple):
    """A batch that may not be cut yet, and the state of the random generator after it was drawn."""

    batch: Future[Cuts]
    draws: Draws
    state: dict[str, Any]


class Batches:
    """Batches in the order in which they are drawn, which does not depend on whether they are cut ahead.

    Parameters
    ----------
    sampler
        Has the generator that is drawn from; nobody else may use it while batches are cut ahead.
    labelled, unlabelled
        Patches in a batch.
    cut
        Cuts a batch that was drawn; several are cut at a time.
    """

    def __init__(self, sampler: PatchSampler, labelled: int, unlabelled: int, cut: Callable[[Draws], Cuts]) -> None:
        self.origins = ""
        """Case and first voxel of every patch of the batch that was taken last."""
        self._sampler = sampler
        self._draw = partial(sampler.draw, labelled, unlabelled)
        self._cut = cut
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[_Drawn] = deque()
        self._state: dict[str, Any] = {}

    @contextmanager
    def cut_ahead(self) -> Iterator[None]:
        """Cut the next batches in threads as soon as one is taken."""
        threads, before = threads_ahead(), torch.get_num_threads()
        try:
            # One thread each: torch's own would only get into each other's way.
            with ThreadPoolExecutor(threads, "batches", partial(torch.set_num_threads, 1)) as pool:
                self._pool = pool
                try:
                    yield
                finally:
                    for drawn in self._ahead:
                        drawn.batch.cancel()
        finally:
            self._pool = None
            torch.set_num_threads(before)  # what the threads have set counts for threads to come as well

    def take(self) -> Cuts:
        """Return the next batch."""
        if not self._pool and not self._ahead:
            draws = self._draw()
            self.origins = str(draws)
            return self._cut(draws)
        while self._pool and len(self._ahead) <= threads_ahead():
            draws = self._draw()
            state = dict(self._sampler.rng.bit_generator.state)
            self._ahead.append(_Drawn(self._pool.submit(self._cut, draws), draws, state))
        taken = self._ahead.popleft()
        self.origins, self._state = str(taken.draws), taken.state
        return taken.batch.result()

    @property
    def state(self) -> dict[str, Any]:
        """State of the generator from which the next batch is drawn, or was if it is cut ahead."""
        return self._state if self._ahead else dict(self._sampler.rng.bit_generator.state)


def threads_ahead() -> int:
    """Count the threads that cut batches ahead: `MOST_AHEAD`, or one less than there are processors."""
    return max(1, min(MOST_AHEAD, (os.cpu_count() or 1) - 1))
