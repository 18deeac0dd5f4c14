"""The three networks together: where they lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.engine import tiny_config

from napari_rada.models.completer import CUES
from napari_rada.models.networks import NetworkInput, begun_as
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.economy import recomputed
from napari_rada.training.optimiser import make_optimiser


@pytest.mark.parametrize(
    ("architecture", "norm", "device", "memory_format"),
    [
        ("vnet", "instance", "cpu", torch.channels_last_3d),
        ("vnet", "batch", "cpu", torch.channels_last_3d),
        ("vnet", "instance", "cuda", torch.contiguous_format),
        ("vnet", "batch", "cuda", torch.channels_last_3d),
        ("completer", "instance", "cuda", torch.contiguous_format),
        ("vnet", "batch", "mps", torch.contiguous_format),
        ("completer", "instance", "mps", torch.contiguous_format),
    ],
)
def test_networks_are_placed_in_the_memory_format_that_is_fast_there(
    monkeypatch: pytest.MonkeyPatch, architecture: str, norm: str, device: str, memory_format: torch.memory_format
) -> None:
    model = TripleViewModel(2, tiny_config(model__architecture=architecture, model__norm=norm).model)
    moved: list[Any] = []

    def to(self: TripleViewModel, *where: Any, **how: Any) -> TripleViewModel:
        moved.append((where, how))
        return self

    monkeypatch.setattr(TripleViewModel, "to", to)
    assert model.place_on(torch.device(device)) is model
    assert model.memory_format is memory_format
    assert moved == [((torch.device(device),), {}), ((), {"memory_format": memory_format})]


def test_placing_changes_no_weight() -> None:
    model = TripleViewModel(2, tiny_config(model__norm="instance").model).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.place_on(torch.device("cpu"))
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    kernels = [weight for weight in model.parameters() if weight.dim() == 5 and min(weight.shape) > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in kernels)


def completers_and_input(num_classes: int = 3) -> tuple[TripleViewModel, NetworkInput]:
    """Return untrained completers, and something to complete."""
    torch.manual_seed(0)
    model = TripleViewModel(num_classes, tiny_config(model__architecture="completer", model__norm="instance").model)
    cues = torch.rand(2, len(CUES) * (num_classes - 1), 9, 12, 16)
    prior = torch.softmax(4 * torch.randn(2, num_classes, 9, 12, 16), dim=1)
    return model, NetworkInput(torch.rand(2, 9, 12, 16), prior, cues)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("training", [True, False])
def test_completers_begin_as_the_propagation_itself(training: bool, num_classes: int) -> None:
    model, inputs = completers_and_input(num_classes)
    logits = model.train(training)(inputs)
    begun = begun_as(inputs.prior_BCDHW.movedim(1, 0).numpy())
    for part in logits:
        np.testing.assert_allclose(part.softmax(dim=1).movedim(1, 0).detach().numpy(), begun, atol=1e-4)
    assert np.abs(begun - inputs.prior_BCDHW.movedim(1, 0).numpy()).max() < 0.02 * num_classes
    torch.testing.assert_close(recomputed(model, inputs), logits, rtol=0, atol=1e-4)


def test_what_they_begin_as_does_not_learn() -> None:
    model, inputs = completers_and_input()
    before = {name: weight.clone() for name, weight in model.reference.state_dict().items()}
    optimiser = make_optimiser(model, tiny_config(training__optimiser__kind="sgd", training__weight_decay=0.5))
    torch.autograd.backward((model(inputs) - 1.0).square().mean())
    optimiser.step()
    assert all(torch.equal(before[name], weight) for name, weight in model.reference.state_dict().items())
    moved = model(inputs)[0] - model.networks[0].base(inputs)
    assert moved[:, 1:].abs().max() > 1e-3


def test_a_vnet_begins_without_a_reference() -> None:
    assert TripleViewModel(2, tiny_config().model).reference is None


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
def test_building_leaves_the_global_random_state_alone(architecture: str) -> None:
    before = torch.get_rng_state()
    TripleViewModel(2, tiny_config(model__architecture=architecture, model__norm="instance").model)
    assert torch.equal(before, torch.get_rng_state())
