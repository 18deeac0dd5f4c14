"""A trial of a device: whether networks learn there what they learn on the processor.

PyTorch's backend for Apple's graphics cards lacks layers of 3D networks in some versions (pytorch#130256), and with
others, or with some versions of macOS, it returned wrong convolutions without a word, in either memory format
(pytorch#141471, pytorch#197114). So before such a card is used, one small network of every kind learns for one step
there and on the processor, and both have to agree.

Shape legend: B batch, C classes, D H W voxels.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.settings import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

KINDS = (  # with the numbers of channels that the presets have, on which kernels depend
    ModelConfig(blocks=(1, 1, 1), networks=1, norm="batch", dropout=0.0),
    ModelConfig(blocks=(1, 1, 1), networks=1, norm="instance", dropout=0.0, completion=True),
    ModelConfig(architecture="completer", networks=1, dropout=0.0, completion=True),
)
CLASSES, SHAPE = 2, (2, 12, 16, 14)
TOLERANCE = 0.01
"""Difference to the processor, relative to what is compared, that rounding may make; wrong kernels are off by 1."""
LEARNED_TOLERANCE = 0.2
"""The same after one step, whose direction hangs on the sign of gradients that are nearly 0."""


class Learned(NamedTuple):
    """Logits before the step, the gradient in one row, and how much the step changed the logits; on the processor."""

    logits_BCDHW: Tensor
    gradient_n: Tensor
    change_BCDHW: Tensor


_ONE_AT_A_TIME = Lock()


def trial(device: torch.device) -> str | None:
    """Say in a few words why networks cannot be trained on a device, or None if they can.

    It is tried once, and by one thread: Apple's GPUs do not bear two at the same time (pytorch#197805).
    """
    with _ONE_AT_A_TIME:
        return _tried(device)


@cache
def _tried(device: torch.device) -> str | None:
    for config in KINDS:
        wanted = learn(config, torch.device("cpu"))  # before, so that a fault of ours is no answer about the device
        try:
            found = learn(config, device)
        except (RuntimeError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            return f"PyTorch {torch.__version__} cannot train 3D networks on it ({reason})"
        for values, right, tolerance in zip(found, wanted, (TOLERANCE, TOLERANCE, LEARNED_TOLERANCE), strict=True):
            if not (values - right).norm() <= tolerance * right.norm():  # also if it is not a number
                return f"PyTorch {torch.__version__} computes 3D networks wrongly on it"
    return None


def learn(config: ModelConfig, device: torch.device) -> Learned:
    """Let one network learn one step on a device, always from the same weights and data."""
    generator = torch.Generator().manual_seed(0)
    model = TripleViewModel(CLASSES, config).place_on(device)
    with torch.no_grad():
        for weights in model.parameters():  # completers begin with nothing to say
            weights.add_(0.02 * torch.randn(weights.shape, generator=generator).to(device))
    image_BDHW = torch.rand(SHAPE, generator=generator)
    prior_BDHW = torch.rand(SHAPE, generator=generator)
    cues = count_cues(config.architecture, CLASSES)
    cues_BJDHW = torch.rand((SHAPE[0], cues, *SHAPE[1:]), generator=generator)
    inputs = NetworkInput(
        image_BDHW.to(device),
        torch.stack([1.0 - prior_BDHW, prior_BDHW], dim=1).to(device, memory_format=model.memory_format),
        cues_BJDHW.to(device, memory_format=model.memory_format),
    )
    truth_BDHW = (image_BDHW > image_BDHW.mean()).long().to(device)
    taught = [weights for weights in model.parameters() if weights.requires_grad]
    optimiser = torch.optim.AdamW(taught, lr=1e-3)
    before_BCDHW = model(inputs)[0]
    torch.autograd.backward(F.cross_entropy(before_BCDHW, truth_BDHW))
    gradients = [weights.grad.cpu().flatten() for weights in taught if weights.grad is not None]
    optimiser.step()
    with torch.no_grad():
        change_BCDHW = model(inputs)[0] - before_BCDHW
    return Learned(before_BCDHW.detach().cpu(), torch.cat(gradients), change_BCDHW.cpu())
