"""Which part of a batch a process computes, and layers that behave as if it computed the whole.

Shape legend: B own rows of a batch, W rows of the whole batch, C channels, D H W voxels along (z, y, x).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from napari_rada.errors import ConfigError
from napari_rada.models.norm import InstanceNorm3d

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_rada.settings import TrainingConfig
    from napari_rada.training.team import Team


@dataclass(frozen=True)
class Share:
    """The patches of one process.

    A batch is computed in parts, in each of which labelled patches come first; patch i of a part belongs to process
    i modulo the number of processes.

    Parameters
    ----------
    rank, size
        Of the process; of the team.
    labelled, unlabelled
        Patches in the whole of a part.
    parts
        Parts of a batch.
    """

    rank: int
    size: int
    labelled: int
    unlabelled: int
    parts: int = 1

    @property
    def size_of_part(self) -> int:
        """Patches of a part, labelled or not."""
        return self.labelled + self.unlabelled

    @property
    def rows(self) -> range:
        """Own rows of the whole of a part."""
        return range(self.rank, self.size_of_part, self.size)

    @property
    def own_labelled(self) -> int:
        """How many of the own rows of a part are labelled; they come first."""
        return len(range(self.rank, self.labelled, self.size))

    @property
    def unlabelled_rows(self) -> list[int]:
        """Own rows among the unlabelled ones of a part."""
        return [row - self.labelled for row in self.rows if row >= self.labelled]

    @property
    def positions(self) -> frozenset[int]:
        """Own patches of the batch as it is drawn: first all labelled ones, then all unlabelled ones."""
        first = self.labelled * self.parts
        labelled = {part * self.labelled + row for part in range(self.parts) for row in self.rows[: self.own_labelled]}
        return frozenset(
            labelled
            | {first + part * self.unlabelled + row for part in range(self.parts) for row in self.unlabelled_rows}
        )


def check_share(settings: TrainingConfig, team: Team) -> None:
    """Refuse more processes than patches.

    Raises
    ------
    ConfigError
        If a process would have nothing to do.
    """
    patches = settings.labelled_patches + settings.unlabelled_patches
    if team.size > patches:
        raise ConfigError(
            f"There are {team.size} processes for {patches} patches per batch; start at most {patches}, or raise "
            "training.labelled_patches."
        )


class Rows:
    """Which rows of a whole batch the networks see right now; set by the trainer, read by the layers below."""

    def __init__(self) -> None:
        self.own: range | list[int] = range(0)
        self.size = 0

    @contextmanager
    def seen(self, own: range | list[int], size: int) -> Iterator[None]:
        """Let the networks see these rows of `size` until the block ends."""
        before = self.own, self.size
        self.own, self.size = own, size
        try:
            yield
        finally:
            self.own, self.size = before

    def pick(self, whole: Tensor) -> Tensor:
        """Cut the own rows out of something that was made for the whole batch."""
        return whole if len(self.own) == self.size else whole[list(self.own)]


class SharedDropout3d(nn.Module):
    """`torch.nn.Dropout3d` that draws for the whole batch, so that every process uses up the same random numbers."""

    def __init__(self, probability: float, rows: Rows) -> None:
        super().__init__()
        self.probability, self.rows = probability, rows

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Drop whole channels in training."""
        if not self.training or self.probability == 0.0:
            return x_BCDHW
        kept_WC = x_BCDHW.new_empty((self.rows.size, x_BCDHW.shape[1], 1, 1, 1)).bernoulli_(1.0 - self.probability)
        return x_BCDHW * self.rows.pick(kept_WC.div_(1.0 - self.probability))


class SharedInstanceNorm3d(InstanceNorm3d):
    """`InstanceNorm3d` for processes that have no row at times."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every row by itself."""
        return super().forward(input) if len(input) else input * _wide(self.weight) + _wide(self.bias)


class SharedBatchNorm3d(nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` whose statistics in training are those of the whole batch."""

    team: Team

    def forward(self, input: Tensor) -> Tensor:
        """Normalise by the whole batch in training, by the running statistics otherwise."""
        if not self.training:
            return super().forward(input)
        x_BCDHW, voxels = input.float(), (0, 2, 3, 4)
        count = x_BCDHW.new_full((x_BCDHW.shape[1],), x_BCDHW.numel() / x_BCDHW.shape[1])
        total_C, count_C = self.team.mixed(torch.stack([x_BCDHW.sum(voxels), count]))
        mean_C = total_C / count_C
        spread_C = self.team.mixed((x_BCDHW - _wide(mean_C)).square().sum(voxels)) / count_C
        self._remember(mean_C.detach(), spread_C.detach(), count_C)
        scale_C = self.weight * torch.rsqrt(spread_C + self.eps)
        return (x_BCDHW * _wide(scale_C) + _wide(self.bias - mean_C * scale_C)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, spread_C: Tensor, count_C: Tensor) -> None:
        momentum = cast("float", self.momentum)
        cast("Tensor", self.running_mean).lerp_(mean_C, momentum)
        cast("Tensor", self.running_var).lerp_(spread_C * count_C / (count_C - 1), momentum)
        cast("Tensor", self.num_batches_tracked).add_(1)


def _wide(values_C: Tensor) -> Tensor:
    return values_C[:, None, None, None]


def share_layers(module: nn.Module, team: Team, rows: Rows) -> None:
    """Replace the layers that look at a whole batch, or choke on an empty one; weights and their names are kept."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            shared = _shared(child, team, rows)
            if shared is not None:
                setattr(parent, name, shared)


def _shared(layer: nn.Module, team: Team, rows: Rows) -> nn.Module | None:
    if isinstance(layer, nn.Dropout3d):
        return SharedDropout3d(layer.p, rows)
    made: SharedBatchNorm3d | SharedInstanceNorm3d
    if isinstance(layer, nn.BatchNorm3d):
        made = SharedBatchNorm3d(layer.num_features, eps=layer.eps, momentum=layer.momentum)
        made.team = team
    elif isinstance(layer, InstanceNorm3d):
        made = SharedInstanceNorm3d(layer.num_features, eps=layer.eps, affine=True)
    else:
        return None
    made.load_state_dict(layer.state_dict())
    return made.requires_grad_(all(weights.requires_grad for weights in layer.parameters()))
