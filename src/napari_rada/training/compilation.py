"""The networks compiled by `torch.compile`, for whoever asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_rada.errors import ConfigError
from napari_rada.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_rada.models.networks import NetworkInput
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.settings import Compilation


def compiled(model: TripleViewModel, mode: Compilation, processes: int = 1) -> Callable[[NetworkInput], Tensor]:
    """Return what computes the logits (N, B, C, D, H, W): the model, or what it was compiled to, with its weights.

    It is compiled when it is first called, and again for every other shape.

    Raises
    ------
    ConfigError
        If several processes are to share it, now; or, when it is called, if this machine cannot compile.
    """
    if mode == "none":
        return model
    if processes > 1:
        raise ConfigError("training.compile works in one process only; set it to none, or train in one process.")
    from torch._dynamo.exc import TorchDynamoException  # slow to import

    call: Callable[[NetworkInput], Tensor] = torch.compile(model, mode=mode)

    def run(inputs: NetworkInput) -> Tensor:
        try:
            return call(inputs)
        except TorchDynamoException as error:
            if is_out_of_memory(error):
                raise
            why = getattr(error, "inner_exception", error)
            line = str(why).strip().partition("\n")[0] or type(why).__name__
            text = f"The networks cannot be compiled here ({line}); set training.compile to none."
            raise ConfigError(text) from error

    return run
