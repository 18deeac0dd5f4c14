"""The completer: a small U-Net that corrects the propagated probability of one class from its cues.

Shape legend: B batch (classes or scans), K cues, D H W voxels along (z, y, x).
"""

from __future__ import annotations

import json
from functools import cache
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from napari_rada.errors import InputError
from napari_rada.memory import is_out_of_memory
from napari_rada.models.norm import InstanceNorm3d
from napari_rada.models.vnet import Features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEIGHTS = Path(__file__).with_name("completer.safetensors")
"""The weights that come with the package."""

CUES = (
    "image",
    "contrast",
    "likelihood",
    "smooth likelihood",
    "propagation",
    "truth",
    "hull",
    "mean outline",
    "nearness",
)
"""Names of the channels, in order; `napari_rada.propagation.cues` makes them."""

LOGIT_LIMIT = 5.0
"""The cue of the propagation is its log-odds in units of this; log-odds beyond it say no more."""
FLOOR = 1.0 / (1.0 + exp(LOGIT_LIMIT))
"""The probability at that limit: propagated ones are kept this far from 0, so that they can always be overruled."""
TOGETHER = 2
"""Samples that a completer is best given at a time on a processor: one alone gets PyTorch's slow convolutions on levels
of few voxels, more make larger arrays, each new one of which the system clears first (`napari_rada.allocator`)."""


class Completer(nn.Module):
    """U-Net with instance normalisation from cues to a correction of the log-odds.

    Parameters
    ----------
    in_channels
        Number of cues.
    widths
        Filters per level; one downsampling by 2 between two levels.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (8, 24, 48, 64)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        self.stem = _Encoder(in_channels, self.widths[0])
        self.encoders = nn.ModuleList(_Encoder(a, b, stride=2) for a, b in pairs)
        self.decoders = nn.ModuleList(_Decoder(a + b, a) for a, b in reversed(pairs))
        self.head = nn.Conv3d(self.widths[0], 1, kernel_size=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.stride = 2 ** len(pairs)

    def forward(self, cues_BKDHW: Tensor) -> Tensor:
        """Return the correction (B, D, H, W) in log-odds; sides need not be multiples of `stride`."""
        size = cues_BKDHW.shape[2:]
        pad = [-side % self.stride for side in size]
        x = F.pad(cues_BKDHW, (0, pad[2], 0, pad[1], 0, pad[0]), mode="replicate") if any(pad) else cues_BKDHW
        correction: Tensor = self.head(self.features(x).decoded_BCDHW)[:, 0, : size[0], : size[1], : size[2]]
        return correction

    def features(self, x_BKDHW: Tensor) -> Features:
        """Run everything but the head; the spatial sides must be multiples of `stride`."""
        bottleneck, skips = self.encode(x_BKDHW)
        return Features(bottleneck, self.decode(bottleneck, skips))

    def encode(self, x_BKDHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the bottleneck, and the levels above it, finest first."""
        level = self.stem(x_BKDHW)
        skips = []
        for encoder in self.encoders:
            skips.append(level)
            level = encoder(level)
        return level, skips

    def decode(self, bottleneck: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return what the head reads."""
        level = bottleneck
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            level = decoder(level, skip)
        return level


class _Level(nn.Module):
    """Two convolutions, the second around a residual."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norms = nn.ModuleList(InstanceNorm3d(out_channels, affine=True) for _ in range(2))

    def after_first(self, x: Tensor) -> Tensor:
        """Go on from what the first convolution returned."""
        first = F.leaky_relu(self.norms[0](x), 0.01, inplace=True)
        return F.leaky_relu(self.norms[1](self.second(first)), 0.01, inplace=True) + first


class _Encoder(_Level):
    """A level that reads one array."""

    def forward(self, x: Tensor) -> Tensor:
        return self.after_first(self.first(x))


class _Decoder(_Level):
    """A level that reads the one below, brought to its own grid, and the skip beside it.

    The convolution of the two side by side is the sum of one convolution each: nothing is copied to lie side by side,
    and the way back is faster on a processor, most at the finest level.
    """

    def forward(self, level: Tensor, skip: Tensor) -> Tensor:
        finer = F.interpolate(level, size=skip.shape[2:], mode="trilinear", align_corners=False)
        whole = self.first.weight
        last = whole.is_contiguous(memory_format=torch.channels_last_3d)
        memory_format = torch.channels_last_3d if last else torch.contiguous_format
        both = zip((finer, skip), torch.split(whole, [finer.shape[1], skip.shape[1]], dim=1), strict=True)
        parts = [F.conv3d(x, weight.contiguous(memory_format=memory_format), padding=1) for x, weight in both]
        return self.after_first(parts[0] + parts[1])


def pack_completer(model: Completer, provenance: Mapping[str, object]) -> bytes:
    """Return the weights as the content of a safetensors file, in half precision, with what they were made by."""
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    header = {"widths": json.dumps(model.widths), "provenance": json.dumps(dict(provenance))}
    return save(tensors, header)


@cache
def load_completer(path: Path = WEIGHTS) -> Completer:
    """Read a completer for use, in evaluation mode; the same object for the same file.

    Raises
    ------
    InputError
        If the file is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            widths = json.loads(file.metadata()["widths"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        model = Completer(tensors["stem.first.weight"].shape[1], widths)
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{path} is no completer ({type(error).__name__}); make one with napari-rada pretrain."
        ) from None
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)


def read_provenance(path: Path = WEIGHTS) -> dict[str, object]:
    """Return what a completer's weights were made by, as its file says."""
    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["provenance"]))
