"""Leaving an iteration in the middle, as if it had not begun.

An iteration of several classes takes most of a minute on a processor, longer than anyone wants to wait for a stop. Up
to its last step, which changes the weights at once, it changes nothing but random generators and running statistics;
these are put back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_rada.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import Tensor

    from napari_rada.control import RunControl


@contextmanager
def whole_or_not_at_all(model: nn.Module, rng: np.random.Generator, control: RunControl) -> Iterator[None]:
    """Look for a stop in every convolution of `model`, on its way forward and back, and put back what has changed.

    For a model on a processor: graphics cards compute later than they are told to.

    Parameters
    ----------
    rng
        The generator that is drawn from in the block; torch's own is put back, too.

    Raises
    ------
    Stopped
        If a stop was requested; the gradients are then incomplete.
    """

    def look(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        control.check()
        if output.requires_grad:
            output.register_hook(lambda _gradient: control.check())  # type: ignore[no-untyped-call]

    torch_state, rng_state = torch.get_rng_state(), rng.bit_generator.state
    statistics = [buffer.clone() for buffer in model.buffers()]
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)]
    hooks = [layer.register_forward_hook(look) for layer in convolutions]
    try:
        yield
    except Stopped:
        torch.set_rng_state(torch_state)
        rng.bit_generator.state = rng_state
        for buffer, before in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(before)
        raise
    finally:
        for hook in hooks:
            hook.remove()
