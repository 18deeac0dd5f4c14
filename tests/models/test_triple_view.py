"""The three networks together: where they lie in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.engine import tiny_config

from napari_rada.models.triple_view import TripleViewModel


@pytest.mark.parametrize(
    ("architecture", "norm", "device", "memory_format"),
    [
        ("vnet", "instance", "cpu", torch.channels_last_3d),
        ("vnet", "batch", "cpu", torch.channels_last_3d),
        ("vnet", "instance", "cuda", torch.contiguous_format),
        ("vnet", "batch", "cuda", torch.channels_last_3d),
        ("completer", "instance", "cuda", torch.contiguous_format),
        ("vnet", "instance", "mps", torch.channels_last_3d),
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
