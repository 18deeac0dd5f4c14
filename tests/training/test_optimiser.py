"""The optimiser, and its state on another device than it was saved on."""

from __future__ import annotations

import pytest
import torch
from tests.engine import tiny_config

from napari_rada.models.networks import NetworkInput
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.optimiser import make_optimiser, restore_optimiser


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_state_is_taken_over_from_another_memory_format_and_way_of_computing(optimiser: str) -> None:
    config = tiny_config(training__optimiser__kind=optimiser)
    before, after = (
        TripleViewModel(2, config.model).to(memory_format=memory_format)
        for memory_format in (torch.channels_last_3d, torch.contiguous_format)
    )
    after.load_state_dict(before.state_dict())
    first, second = make_optimiser(before, config), make_optimiser(after, config)
    shape = (1, 16, 16, 16)
    inputs = NetworkInput(torch.rand(shape), torch.full((1, 2, *shape[1:]), 0.5), torch.rand(1, *shape))

    def step(model: TripleViewModel, stepping: torch.optim.Optimizer) -> torch.Tensor:
        stepping.zero_grad()
        torch.autograd.backward(model(inputs).square().mean())
        stepping.step()
        return torch.cat([weights.detach().flatten() for weights in model.parameters()])

    step(before, first)
    after.load_state_dict(before.state_dict())
    state = first.state_dict()
    state["param_groups"] = [{**group, "fused": True} for group in state["param_groups"]]
    restore_optimiser(second, state)
    assert not second.param_groups[0]["fused"]
    moments = 0
    for weights, saved in zip(after.parameters(), first.state.values(), strict=True):
        for name, value in second.state[weights].items():
            if isinstance(value, torch.Tensor) and value.dim():
                assert value.stride() == weights.stride()
                torch.testing.assert_close(value, saved[name])
                moments += 1
    assert moments
    assert torch.isfinite(step(after, second)).all()
