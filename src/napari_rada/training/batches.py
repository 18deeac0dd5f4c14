"""The batches of a run, one after the other; the next one can be cut while a graphics card computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_rada.training.patches import Batch, PatchSampler


class _Drawn(NamedTuple):
    """A batch, where its patches were cut, and the state of the random generator after that."""

    batch: Batch
    origins: str
    state: dict[str, Any]


class Batches:
    """Draws batches in order, which does not depend on whether they are drawn ahead.

    Parameters
    ----------
    sampler
        Has the generator that is drawn from; nobody else may use it while batches are drawn ahead.
    draw
        Draws a batch with it.
    """

    def __init__(self, sampler: PatchSampler, draw: Callable[[], Batch]) -> None:
        self.origins = ""
        """Case and first voxel of every patch of the batch that was taken last."""
        self._sampler = sampler
        self._draw_batch = draw
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: Future[_Drawn] | None = None
        self._taken: _Drawn | None = None

    @contextmanager
    def drawn_ahead(self) -> Iterator[None]:
        """Draw the next batch in a thread as soon as one is taken."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            self._pool = pool
            try:
                yield
            finally:
                self._pool = None

    def take(self) -> Batch:
        """Return the next batch."""
        self._taken = self._ahead.result() if self._ahead else self._draw()
        self._ahead = self._pool.submit(self._draw) if self._pool else None
        self.origins = self._taken.origins
        return self._taken.batch

    @property
    def state(self) -> dict[str, Any]:
        """State of the generator from which the next batch is drawn, or was if it has been drawn ahead."""
        return self._taken.state if self._ahead and self._taken else dict(self._sampler.rng.bit_generator.state)

    def _draw(self) -> _Drawn:
        batch = self._draw_batch()
        return _Drawn(batch, self._sampler.last_batch(), dict(self._sampler.rng.bit_generator.state))
