"""The optimiser over all three networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from napari_rada.config import RunConfig


def make_optimiser(model: torch.nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """Return the configured optimiser; on a CUDA graphics card one that changes all weights in a few operations."""
    settings, learning = config.training, [weights for weights in model.parameters() if weights.requires_grad]
    common: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": True if learning[0].device.type == "cuda" else None,
    }
    if settings.optimiser.kind == "sgd":
        return torch.optim.SGD(learning, momentum=settings.optimiser.momentum, **common)
    return torch.optim.AdamW(learning, **common)


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over a saved state, from whatever device it was saved on.

    Raises
    ------
    KeyError, ValueError, TypeError, RuntimeError, AttributeError
        If it is not that of such an optimiser.
    """
    fused = optimiser.param_groups[0]["fused"]
    groups = [{**group, "fused": fused} for group in state["param_groups"]]
    optimiser.load_state_dict({**state, "param_groups": groups})
    for weights, values in optimiser.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape == weights.shape:
                values[name] = torch.empty_like(weights).copy_(value)  # in the memory format of this device
