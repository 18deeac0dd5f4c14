"""Three networks of one architecture that start from different weights, and what goes into them.

Shape legend: B batch, C classes, N networks (3), D H W voxels along (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_rada.models.guided import BUFFER, Guide, GuidedHead, prompts_in
from napari_rada.models.vnet import VNet, initialise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_rada.config import GuidanceConfig, ModelConfig
    from napari_rada.models.vnet import Features

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
    """One V-Net, from image to logits, or as a correction of the propagation if the configuration says so.

    With prompts (K, S, D) it is guided.
    """

    def __init__(
        self,
        num_classes: int,
        config: ModelConfig,
        generator: torch.Generator,
        prompts_KSD: Tensor | None = None,
        guidance: GuidanceConfig | None = None,
    ) -> None:
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
        self.guided: GuidedHead | None = None
        if prompts_KSD is not None and guidance is not None:
            widest = config.filters * self.vnet.stride
            self.guided = GuidedHead(
                prompts_KSD, guidance, bottleneck=widest, decoded=config.filters, generator=generator
            )

    def forward(self, inputs: NetworkInput) -> Tensor:
        """Return logits (B, C, D, H, W); sides that the V-Net cannot halve are padded and cropped again."""
        return self.logits(self.features(inputs), inputs)

    def features(self, inputs: NetworkInput) -> Features:
        """Run the V-Net up to its head, on the padded input."""
        x_BCDHW = inputs.image_BDHW[:, None]
        if self.completion:
            x_BCDHW = torch.cat([x_BCDHW, inputs.prior_BCDHW, inputs.nearness_BDHW[:, None]], dim=1)
        pad = [-side % self.vnet.stride for side in x_BCDHW.shape[2:]]
        if any(pad):
            x_BCDHW = F.pad(x_BCDHW, (0, pad[2], 0, pad[1], 0, pad[0]), mode="replicate")
        return self.vnet.features(x_BCDHW)

    def logits(self, features: Features, inputs: NetworkInput) -> Tensor:
        """Turn features into logits (B, C, D, H, W) on the unpadded input."""
        logits: Tensor = self.vnet.head(features.decoded_BCDHW)
        if self.guided is not None:
            logits = logits + self.guided(features)
        depth, height, width = inputs.image_BDHW.shape[1:]
        logits = logits[:, :, :depth, :height, :width]
        return logits + prior_logits(inputs.prior_BCDHW) if self.completion else logits


class TripleViewModel(nn.Module):
    """The three networks, guided by prompts if there is a guide."""

    def __init__(self, num_classes: int, config: ModelConfig, seed: int = 0, guide: Guide | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.completion = config.completion
        generators = [torch.Generator().manual_seed(seed * NUM_VIEWS + view) for view in range(config.networks)]
        # torch draws every layer's weights once from the global generator before ours are drawn.
        with torch.random.fork_rng(devices=[]):
            self.networks = nn.ModuleList(
                ViewNetwork(num_classes, config, generator, *_part(guide, view))
                for view, generator in enumerate(generators)
            )

    def forward(self, inputs: NetworkInput, networks: Sequence[int] | None = None) -> Tensor:
        """Return the logits of the chosen networks, by default all, on the same input: (N, B, C, D, H, W)."""
        chosen = range(len(self.networks)) if networks is None else networks
        return torch.stack([self.networks[network](inputs) for network in chosen])

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over trained weights; the prompts stay those of this model's guide.

        Raises
        ------
        RuntimeError
            If the weights are those of networks that are built differently.
        """
        own = {name: values for name, values in self.state_dict().items() if name.endswith(f".{BUFFER}")}
        self.load_state_dict({**weights, **own})


def guide_in(weights: Mapping[str, Tensor], config: GuidanceConfig) -> Guide | None:
    """Return the guide that lies among a model's weights, or None if it has none."""
    prompts = prompts_in(weights, NUM_VIEWS)
    return None if prompts is None else Guide(prompts, config)


def _part(guide: Guide | None, network: int) -> tuple[Tensor | None, GuidanceConfig | None]:
    return (None, None) if guide is None else (guide.prompts_NKSD[network], guide.config)


def prior_logits(prior_BCDHW: Tensor) -> Tensor:
    """Turn the propagated probability into finite logits."""
    return prior_BCDHW.clamp(PRIOR_FLOOR, 1.0).log()
