from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.engine import tiny_config
from torch import nn

from napari_rada.errors import ConfigError
from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.economy import ladder
from napari_rada.training.share import Rows, Share, SharedBatchNorm3d, check_share, share_layers
from napari_rada.training.team import ALONE, Team

if TYPE_CHECKING:
    from torch import Tensor

    from napari_rada.settings import Architecture


@pytest.mark.parametrize(("labelled", "unlabelled", "parts"), [(1, 1, 1), (2, 2, 1), (2, 2, 2), (3, 2, 1), (4, 2, 2)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_patch_belongs_to_one_process(labelled: int, unlabelled: int, parts: int, size: int) -> None:
    shares = [Share(rank, size, labelled // parts, unlabelled // parts, parts) for rank in range(size)]
    taken = sorted(position for share in shares for position in share.positions)
    assert taken == list(range(labelled + unlabelled))
    counts = [len(share.positions) for share in shares]
    assert max(counts) - min(counts) <= parts
    for share in shares:
        assert sum(position < labelled for position in share.positions) == share.own_labelled * parts
        assert len(share.rows) == share.own_labelled + len(share.unlabelled_rows)


def test_more_processes_than_patches_are_refused() -> None:
    team = Team()
    team.size = 3
    with pytest.raises(ConfigError, match="There are 3 processes for 2 patches per batch; start at most 2, or raise"):
        check_share(tiny_config().training, team)
    check_share(tiny_config().training, ALONE)


def test_the_steps_of_the_ladder_have_the_same_numbers_for_any_number_of_processes() -> None:
    config = tiny_config(training__labelled_patches=4, training__unlabelled_patches=4)
    alone, *others = (ladder(config, torch.device("cpu"), processes) for processes in (1, 2, 3, 4, 8))
    assert [rungs[2].economy.parts for rungs in (alone, *others)] == [4, 4, 2, 2, 1]
    assert {len(rungs) for rungs in others} == {len(alone)}
    assert others[-1][2].saves_like(others[-1][1])
    assert not alone[2].saves_like(alone[1])


def shared(layer: nn.Module, rows: Rows) -> nn.Module:
    whole = nn.Sequential(layer)
    share_layers(whole, ALONE, rows)
    return whole


def test_dropout_uses_up_the_random_numbers_of_the_whole_batch() -> None:
    x, rows = torch.rand(4, 6, 2, 2, 2), Rows()
    torch.manual_seed(3)
    expected = nn.Dropout3d(0.4)(x)
    drawn = torch.get_rng_state()
    dropout = shared(nn.Dropout3d(0.4), rows)
    for own in ([0, 2], [1, 3], []):
        torch.manual_seed(3)
        with rows.seen(own, 4):
            assert torch.equal(dropout(x[own]), expected[own])
        assert torch.equal(drawn, torch.get_rng_state())
    dropout.eval()
    assert torch.equal(dropout(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_normalisation_of_one_process_is_torch_s(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    theirs = nn.BatchNorm3d(5)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours = shared(theirs, Rows())
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    found: list[list[Tensor]] = []
    x = (3.0 + 2.0 * torch.rand(2, 5, 3, 4, 5)).to(dtype)
    for layer in (theirs, ours):
        mine = x.clone().requires_grad_()
        y = layer(mine)
        y.float().square().mean().backward()
        found.append([y, mine.grad, *(p.grad for p in layer.parameters()), *(b.float() for b in layer.buffers())])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, **tolerance)
    assert ours.eval()(x).dtype == theirs.eval()(x).dtype
    torch.testing.assert_close(ours(x), theirs(x), **tolerance)


@pytest.mark.parametrize(("architecture", "norm"), [("vnet", "batch"), ("vnet", "instance"), ("completer", "instance")])
def test_networks_keep_their_weights_and_take_a_batch_of_nothing(architecture: Architecture, norm: str) -> None:
    config = tiny_config(model__architecture=architecture, model__norm=norm, model__dropout=0.2).model
    model, rows = TripleViewModel(2, config), Rows()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    share_layers(model, ALONE, rows)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm3d)]
    assert all(isinstance(layer, SharedBatchNorm3d) for layer in norms)
    if norm == "instance":  # a whole batch of nothing has no statistics
        cues = torch.zeros(0, count_cues(architecture, 2), 8, 8, 8)
        nothing = NetworkInput(torch.zeros(0, 8, 8, 8), torch.zeros(0, 2, 8, 8, 8), cues)
        with rows.seen([], 2):
            logits = model(nothing)
        logits.sum().backward()
        assert logits.shape == (3, 0, 2, 8, 8, 8)
        gradients = [parameter.grad for parameter in model.networks.parameters()]
        assert model.reference is None or not any(weights.requires_grad for weights in model.reference.parameters())
        assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_rows_are_those_of_before_when_a_block_ends() -> None:
    rows = Rows()
    with rows.seen(range(0, 4, 2), 4):
        with rows.seen([1], 2):
            assert rows.pick(torch.arange(2)).tolist() == [1]
        assert rows.pick(torch.arange(4)).tolist() == [0, 2]
    whole = torch.from_numpy(np.arange(3))
    with rows.seen(range(3), 3):
        assert rows.pick(whole) is whole
