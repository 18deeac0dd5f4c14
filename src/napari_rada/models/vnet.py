"""The V-Net of the barely-supervised lineage (Milletari 2016, as published with UA-MT, DeSCO, SGTC and RADA).

Shape legend: B batch, C channels or classes, D H W voxels along (z, y, x).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from napari_rada.models.norm import InstanceNorm3d

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Features(NamedTuple):
    """What the head and, later, guidance work on."""

    bottleneck_BCDHW: Tensor
    decoded_BCDHW: Tensor


class VNet(nn.Module):
    """Encoder and decoder with additive skips and a 1x1x1 class head.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the input, classes of the output (background included).
    filters
        Filters of the first level; doubled at each level down.
    blocks
        Convolutions per level; ``len(blocks) - 1`` downsamplings by 2 along every axis.
    norm
        ``batch`` or ``instance``.
    dropout
        Probability at the bottleneck and before the head.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        filters: int = 16,
        blocks: Sequence[int] = (1, 2, 3, 3, 3),
        norm: str = "batch",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(len(blocks))]
        inner = list(itertools.pairwise(widths))
        self.stem = _convolutions(in_channels, widths[0], blocks[0], norm)
        self.downs = nn.ModuleList(_resample(nn.Conv3d, a, b, norm) for a, b in inner)
        self.encoders = nn.ModuleList(_convolutions(w, w, n, norm) for w, n in zip(widths[1:], blocks[1:], strict=True))
        self.ups = nn.ModuleList(_resample(nn.ConvTranspose3d, b, a, norm) for a, b in reversed(inner))
        self.decoders = nn.ModuleList(
            _convolutions(w, w, n, norm) for w, n in zip(reversed(widths[:-1]), reversed(blocks[:-1]), strict=True)
        )
        self.dropout = nn.Dropout3d(dropout)
        self.head = nn.Conv3d(widths[0], num_classes, kernel_size=1)
        self.stride = 2 ** (len(blocks) - 1)

    def features(self, x_BCDHW: Tensor) -> Features:
        """Run everything but the head; the spatial sides must be multiples of `stride`."""
        level = self.stem(x_BCDHW)
        skips = []
        for down, encoder in zip(self.downs, self.encoders, strict=True):
            skips.append(level)
            level = encoder(down(level))
        bottleneck = self.dropout(level)
        level = bottleneck
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            level = decoder(up(level) + skip)
        return Features(bottleneck, self.dropout(level))

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Return logits (B, C, D, H, W)."""
        logits: Tensor = self.head(self.features(x_BCDHW).decoded_BCDHW)
        return logits


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    return InstanceNorm3d(channels, affine=True)


def _convolutions(in_channels: int, out_channels: int, count: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for position in range(count):
        layers += [
            nn.Conv3d(in_channels if position == 0 else out_channels, out_channels, kernel_size=3, padding=1),
            _norm(norm, out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _resample(
    layer: type[nn.Conv3d] | type[nn.ConvTranspose3d], in_channels: int, out_channels: int, norm: str
) -> nn.Sequential:
    return nn.Sequential(
        layer(in_channels, out_channels, kernel_size=2, stride=2), _norm(norm, out_channels), nn.ReLU(inplace=True)
    )


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every convolution's weights from `generator` (Kaiming normal), biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
