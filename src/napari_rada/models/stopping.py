"""A stop is looked for in every convolution: a pass through networks can take seconds on a processor."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from napari_rada.control import RunControl


@contextmanager
def looked_for(model: nn.Module, control: RunControl, device: torch.device) -> Iterator[None]:
    """Leave a pass through `model` on its way forward or back, by raising `Stopped`, once a stop was requested.

    On a processor only: other devices compute later than they are told to.
    """

    def look(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        control.check()
        if output.requires_grad:
            output.register_hook(lambda _gradient: control.check())  # type: ignore[no-untyped-call]

    layers = model.modules() if device.type == "cpu" else ()
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)]
    hooks = [layer.register_forward_hook(look) for layer in convolutions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
