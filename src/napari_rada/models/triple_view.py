"""Three networks of one architecture that start from different weights, and what goes into them.

Shape legend: B batch, C classes, N networks (3), D H W voxels along (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_rada.models.vnet import VNet, initialise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.config import ModelConfig

NUM_VIEWS = 3
PRIOR_FLOOR = 0.01
"""Probabilities of the propagation are kept this far from 0 and 1, so that a network can always overrule them."""


class NetworkInput(NamedTuple):
    """What a network sees.

    `image_BDHW` holds intensities in 0..1, `prior_BCDHW` the propagated probability (uniform where nothing is known),
    and `nearness_BDHW` falls from 1 in an annotated slice to 0 far from all. Networks that work from the image alone
    ignore the latter two.
    """

    image_BDHW: Tensor
    prior_BCDHW: Tensor
    nearness_BDHW: Tensor


class ViewNetwork(nn.Module):
    """One V-Net, from image to logits, or as a correction of the propagation if the configuration says so."""

    def __init__(self, num_classes: int, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.completion = config.completion
        in_channels = 2 + num_classes if self.completion else 1
        self.vnet = VNet(
            in_channels,
            num_classes,
            filters=config.filters,
            blocks=config.blocks,
            norm=config.norm,
            dropout=config.dropout,
        )
        initialise(self.vnet, generator)
        if self.completion:
            nn.init.zeros_(self.vnet.head.weight)

    def forward(self, inputs: NetworkInput) -> Tensor:
        """Return logits (B, C, D, H, W); sides that the V-Net cannot halve are padded and cropped again."""
        image_B1DHW = inputs.image_BDHW[:, None]
        if not self.completion:
            return self._padded(image_B1DHW)
        stacked = torch.cat([image_B1DHW, inputs.prior_BCDHW, inputs.nearness_BDHW[:, None]], dim=1)
        return self._padded(stacked) + prior_logits(inputs.prior_BCDHW)

    def _padded(self, x_BCDHW: Tensor) -> Tensor:
        size = x_BCDHW.shape[2:]
        pad = [-side % self.vnet.stride for side in size]
        if any(pad):
            x_BCDHW = F.pad(x_BCDHW, (0, pad[2], 0, pad[1], 0, pad[0]), mode="replicate")
        logits: Tensor = self.vnet(x_BCDHW)
        return logits[:, :, : size[0], : size[1], : size[2]]


class TripleViewModel(nn.Module):
    """The three networks."""

    def __init__(self, num_classes: int, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.completion = config.completion
        generators = [torch.Generator().manual_seed(seed * NUM_VIEWS + view) for view in range(config.networks)]
        # torch draws every layer's weights once from the global generator before ours are drawn.
        with torch.random.fork_rng(devices=[]):
            self.networks = nn.ModuleList(ViewNetwork(num_classes, config, generator) for generator in generators)

    def forward(self, inputs: NetworkInput, networks: Sequence[int] | None = None) -> Tensor:
        """Return the logits of the chosen networks, by default all, on the same input: (N, B, C, D, H, W)."""
        chosen = range(len(self.networks)) if networks is None else networks
        return torch.stack([self.networks[network](inputs) for network in chosen])


def prior_logits(prior_BCDHW: Tensor) -> Tensor:
    """Turn the propagated probability into finite logits."""
    return prior_BCDHW.clamp(PRIOR_FLOOR, 1.0).log()
