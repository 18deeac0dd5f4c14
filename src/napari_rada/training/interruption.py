"""Leaving an iteration in the middle, as if it had not begun.

An iteration of several classes takes most of a minute on a processor, longer than anyone wants to wait for a stop. Up
to its last step, which changes the weights at once, it changes nothing but random generators and running statistics;
these are put back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from napari_rada.errors import Stopped
from napari_rada.models import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import nn

    from napari_rada.control import RunControl


@contextmanager
def whole_or_not_at_all(model: nn.Module, rng: np.random.Generator, control: RunControl) -> Iterator[None]:
    """Look for a stop throughout the passes through `model`, on a processor, and put back what has changed.

    Parameters
    ----------
    rng
        The generator that is drawn from in the block; torch's own is put back, too.

    Raises
    ------
    Stopped
        If a stop was requested; the gradients are then incomplete.
    """
    torch_state, rng_state = torch.get_rng_state(), rng.bit_generator.state
    statistics = [buffer.clone() for buffer in model.buffers()]
    try:
        with stopping.looked_for(model, control, torch.device("cpu")):
            yield
    except Stopped:
        torch.set_rng_state(torch_state)
        rng.bit_generator.state = rng_state
        for buffer, before in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(before)
        raise
