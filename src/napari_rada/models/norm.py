"""Instance normalisation that keeps the memory format of its input on a processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm3d(nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d`, faster on a processor in `channels_last_3d` (docs/speed.md says by how much).

    PyTorch copies its input into the other memory format there and leaves the result in it, so that the next
    convolution has to copy it back. Batch normalisation of one sample at a time computes the same and keeps the format.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every channel of every sample (B, C, D, H, W) by itself."""
        kept = input.device.type == "cpu" and input.is_contiguous(memory_format=torch.channels_last_3d)
        if not len(input):
            return super().forward(input)
        if input[0, 0].numel() == 1:  # the one voxel of a channel is its own mean
            return self._weighted(0.0 * input)
        if not kept:
            return super().forward(input)
        normalised = [self._one(sample) for sample in torch.split(input, 1)]
        return normalised[0] if len(normalised) == 1 else torch.cat(normalised)

    def _weighted(self, normalised: Tensor) -> Tensor:
        if not self.affine:
            return normalised
        return normalised * self.weight[:, None, None, None] + self.bias[:, None, None, None]

    def _one(self, sample: Tensor) -> Tensor:
        return F.batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)
