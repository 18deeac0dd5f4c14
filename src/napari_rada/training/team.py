"""The processes that train one run together; here, the team of one, which is the usual case and costs nothing.

Every process draws the same random numbers, computes its share of each batch and takes the same optimiser step; sums
are added up over the team. `napari_rada.training.crew` is the team of several, started by torchrun or a cluster.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from torch import Tensor


class Team:
    """One process: it leads, has the whole of everything, and nobody to talk to.

    All methods that talk must be called by every process of a team, in the same order.
    """

    rank = 0
    size = 1
    lost = False
    """True once contact with another process is lost: nobody knows what that one does now."""

    @property
    def leads(self) -> bool:
        """True in the one process that writes, logs and tells."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return this process's device for the configured one."""
        from napari_rada.models.device import resolve_device

        return resolve_device(name)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block on every process or on none.

        Where the block fails on one, the others raise too, at once or the next time they talk: the same kind of
        error for a stop or where memory ran out, else `ElsewhereError`.
        """
        yield

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on any process; also where all wait for each other."""
        return flag

    def leaders(self, number: float) -> float:
        """Return the number that the leading process has."""
        return number

    def total(self, sums: Tensor) -> Tensor:
        """Add up over the team; the gradient of what every process computes from the result flows to its own part."""
        return sums

    def mixed(self, sums: Tensor) -> Tensor:
        """Add up over the team, where each process uses the result for its own part of the loss."""
        return sums

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients over the team, in place."""


ALONE = Team()
