"""A device that lacks layers or computes wrongly is found out before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from napari_rada.models.trial import KINDS, _tried, trial
from napari_rada.models.triple_view import TripleViewModel

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIED = torch.device("cpu", 0)
"""The processor under another name, to stand in for a graphics card."""


@pytest.fixture(autouse=True)
def _nothing_was_tried() -> Iterator[None]:
    _tried.cache_clear()
    yield
    _tried.cache_clear()


class Faulty:
    """Lets models have a fault once they were placed on the device that is tried; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
        self.placed, self.learns = 0, True
        place_on, step = TripleViewModel.place_on, torch.optim.AdamW.step

        def placed(model: TripleViewModel, device: torch.device) -> TripleViewModel:
            here = device != torch.device("cpu")
            self.placed += here
            self.learns = not (here and fault == "step")
            if here and fault == "layer":
                raise NotImplementedError("ConvTranspose 3D is not supported on MPS\nmore of it.")
            place_on(model, torch.device("cpu"))
            if here and fault in ("convolution", "nan"):
                first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv3d))
                first.register_forward_hook(
                    lambda layer, inputs, output: torch.nan * output if fault == "nan" else output.roll(1, dims=2)
                )
            if here and fault == "gradient":
                weights = max(model.networks.parameters(), key=torch.numel)
                weights.register_hook(lambda gradient: 1.5 * gradient)
            return model

        def stepped(optimiser: torch.optim.AdamW, *args: Any) -> Tensor | None:
            return step(optimiser, *args) if self.learns else None

        monkeypatch.setattr(TripleViewModel, "place_on", placed)
        monkeypatch.setattr(torch.optim.AdamW, "step", stepped)


def test_a_sound_device_passes_and_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = Faulty(monkeypatch, "none")
    assert trial(TRIED) is None
    assert trial(TRIED) is None
    assert faulty.placed == len(KINDS)


@pytest.mark.parametrize("fault", ["convolution", "nan", "gradient", "step"])
def test_wrong_results_are_found_out(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    Faulty(monkeypatch, fault)
    assert trial(TRIED) == f"PyTorch {torch.__version__} computes 3D networks wrongly on it"


def test_a_missing_layer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Faulty(monkeypatch, "layer")
    reason = "cannot train 3D networks on it (ConvTranspose 3D is not supported on MPS)"
    assert trial(TRIED) == f"PyTorch {torch.__version__} {reason}"


def test_a_fault_of_ours_is_no_answer_about_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: TripleViewModel, device: torch.device) -> TripleViewModel:
        raise TypeError("an argument of ours is missing")

    monkeypatch.setattr(TripleViewModel, "place_on", broken)
    with pytest.raises(TypeError, match="an argument of ours"):
        trial(TRIED)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an Apple GPU")
def test_a_device_that_this_pytorch_does_not_have_is_an_answer_and_no_error() -> None:
    reason = trial(torch.device("mps"))
    assert reason is not None
    assert reason.startswith(f"PyTorch {torch.__version__} cannot train 3D networks on it (")
