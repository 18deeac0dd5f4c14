"""Instance normalisation computes what PyTorch's does, and keeps the memory format."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_rada.models.norm import InstanceNorm3d

FORMATS = [torch.channels_last_3d, torch.contiguous_format]


def both() -> tuple[InstanceNorm3d, nn.InstanceNorm3d]:
    """Return ours and PyTorch's with the same weights."""
    torch.manual_seed(0)
    ours, theirs = InstanceNorm3d(5, affine=True), nn.InstanceNorm3d(5, affine=True)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_values_and_gradients_are_those_of_pytorch(
    memory_format: torch.memory_format, samples: int, training: bool
) -> None:
    torch.manual_seed(1)
    image = (3.0 * torch.rand(samples, 5, 4, 6, 7) + 2.0).contiguous(memory_format=memory_format)
    weighting, found = torch.rand(samples, 5, 4, 6, 7), []
    for layer in both():
        own = image.clone(memory_format=torch.preserve_format).requires_grad_()
        out = layer.train(training)(own)
        (out * weighting).sum().backward()
        found.append((out.detach(), own.grad, layer.weight.grad, layer.bias.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_memory_format_stays(memory_format: torch.memory_format, samples: int) -> None:
    image = torch.rand(samples, 5, 4, 6, 7).contiguous(memory_format=memory_format)
    assert both()[0](image).is_contiguous(memory_format=memory_format)


def test_mixed_precision_is_close() -> None:
    ours, theirs = both()
    image = torch.rand(2, 5, 4, 6, 7).contiguous(memory_format=torch.channels_last_3d)
    found = ours(image.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), theirs(image), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("affine", [True, False])
def test_a_single_voxel_is_its_own_mean(memory_format: torch.memory_format, affine: bool) -> None:
    layer = InstanceNorm3d(5, affine=affine)
    if affine:
        nn.init.normal_(layer.bias)
    image = torch.rand(2, 5, 1, 1, 1).contiguous(memory_format=memory_format).requires_grad_()
    out = layer(image)
    expected = layer.bias if affine else torch.zeros(5)
    torch.testing.assert_close(out, expected[None, :, None, None, None].expand(out.shape))
    out.sum().backward()
    assert not image.grad.any()
