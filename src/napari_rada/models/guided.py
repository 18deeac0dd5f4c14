"""The guided head: how prompts reach a network's class scores (METHOD section 4).

Shape legend: N networks (3), B batch, C classes, K foreground classes (C - 1), S sources of prompts (region, text),
D length of a prompt's vector, F channels that guidance is added to, D H W voxels along (z, y, x).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_rada.models.vnet import Features
    from napari_rada.settings import GuidanceConfig

GROUPS = 16
"""Groups of the normalisation before the bottleneck is pooled (lineage), or as many as divide the channels."""
BUFFER = "prompts_KSD"


class Guide(NamedTuple):
    """What guides the three networks: the encoded prompts of each, (N, K, S, D), and how they are fused."""

    prompts_NKSD: Tensor
    config: GuidanceConfig


class GuidedHead(nn.Module):
    """Adapter, controller and class scores of one network.

    The prompts of a class are fused by the adapter (a bottleneck of two layers), projected, joined with the
    pooled bottleneck feature, and turned by the controller into a vector of F numbers. It is added to the decoded
    features, brought to F channels, wherever the score of that class is read off.

    The scores are added to those of the network's plain head. They are 0 before training, so that a guided network
    starts as the network without guidance. A class whose prompts are all 0 is not shifted.

    Parameters
    ----------
    prompts_KSD
        Kept with the weights, never trained.
    bottleneck, decoded
        Channels of the two features.
    """

    prompts_KSD: Tensor

    def __init__(
        self, prompts_KSD: Tensor, config: GuidanceConfig, *, bottleneck: int, decoded: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.register_buffer(BUFFER, prompts_KSD.clone())
        joined = prompts_KSD.shape[1] * prompts_KSD.shape[2]
        narrow = max(1, joined // config.reduction)
        self.adapter = nn.Sequential(nn.Linear(joined, narrow), nn.ReLU(), nn.Linear(narrow, joined), nn.ReLU())
        self.project = nn.Linear(joined, config.width)
        self.norm = nn.GroupNorm(math.gcd(GROUPS, bottleneck), bottleneck)
        self.pooled = nn.Conv3d(bottleneck, config.width, kernel_size=1)
        widths = (2 * config.width, *config.controller)
        layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.controller = nn.Sequential(*layers[:-1])
        self.reduce = nn.Conv3d(decoded, config.controller[-1], kernel_size=1, bias=False)
        self.head = nn.Conv3d(config.controller[-1], len(prompts_KSD) + 1, kernel_size=1)
        _initialise(self, generator)

    def forward(self, features: Features) -> Tensor:
        """Return what is added to the plain head's logits, (B, C, D, H, W)."""
        logits_BCDHW: Tensor = self.head(self.reduce(features.decoded_BCDHW))
        # Adding a vector to the features and reading off a class is the same as reading both off and adding.
        shift_BK = torch.einsum("bkf,kf->bk", self.shifts(features.bottleneck_BCDHW), self.head.weight[1:, :, 0, 0, 0])
        return logits_BCDHW + F.pad(shift_BK, (1, 0))[..., None, None, None]

    def shifts(self, bottleneck_BCDHW: Tensor) -> Tensor:
        """Return the vector that is added to the features for each foreground class, (B, K, F)."""
        pooled_BP = self.pooled(F.relu(self.norm(bottleneck_BCDHW)).mean((2, 3, 4), keepdim=True)).flatten(1)
        prompt_KP = self.project(self.adapter(self.prompts_KSD.flatten(1)))
        batch, classes = len(pooled_BP), len(prompt_KP)
        joined = torch.cat(
            [prompt_KP.expand(batch, -1, -1), pooled_BP[:, None].expand(-1, classes, -1).to(prompt_KP.dtype)], dim=2
        )
        known_K1 = self.prompts_KSD.flatten(1).any(dim=1)[:, None]
        shifts: Tensor = self.controller(joined) * known_K1
        return shifts


def prompts_in(weights: Mapping[str, Tensor], networks: int) -> Tensor | None:
    """Return the prompts (N, K, S, D) that lie among a model's weights, or None if it is not guided.

    N is the number of networks that take part, at most `networks`.
    """
    names = [f"networks.{network}.guided.{BUFFER}" for network in range(networks)]
    found = [weights[name] for name in names if name in weights]
    return torch.stack(found) if found else None


def _initialise(module: GuidedHead, generator: torch.Generator) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.zeros_(module.head.weight)
