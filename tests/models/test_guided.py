"""The guided head: what it adds, where gradients go, and that it starts as nothing."""

import pytest
import torch

from napari_rada.models.guided import Guide
from napari_rada.models.networks import NetworkInput
from napari_rada.models.triple_view import TripleViewModel, guide_in
from napari_rada.settings import GuidanceConfig, ModelConfig

K, S, D = 2, 2, 12
SMALL = GuidanceConfig(width=16, controller=(12, 8))


def guide(seed=0, classes=K):
    return Guide(torch.randn(3, classes, S, D, generator=torch.Generator().manual_seed(seed)), SMALL)


def inputs(batch=2, size=(8, 8, 8), seed=1):
    generator = torch.Generator().manual_seed(seed)
    prior = torch.softmax(torch.randn(batch, K + 1, *size, generator=generator), dim=1)
    return NetworkInput(torch.rand(batch, *size, generator=generator), prior, torch.rand(batch, 1, *size))


def model(completion=False, guided=True, **config):
    settings = ModelConfig(filters=4, blocks=(1, 1), norm="instance", dropout=0.0, completion=completion, **config)
    return TripleViewModel(K + 1, settings, 5, guide() if guided else None)


def train(network, steps=3):
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(steps):
        optimiser.zero_grad()
        network(inputs(seed=step))[:, :, 1].sum().sigmoid().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        optimiser.step()
    return network


@pytest.mark.parametrize("completion", [False, True])
def test_an_untrained_guided_network_is_the_network_without_guidance(completion):
    with torch.no_grad():
        assert torch.equal(model(completion)(inputs()), model(completion, guided=False)(inputs()))


def test_the_weights_shared_with_an_unguided_network_are_the_same():
    plain, guided = model(guided=False).state_dict(), model().state_dict()
    assert all(torch.equal(values, guided[name]) for name, values in plain.items())
    assert all(".guided." in name for name in set(guided) - set(plain))


def test_the_shift_is_that_of_adding_to_the_features():
    """The sum that METHOD describes, written out: head(features + vector of the class)."""
    network = train(model()).networks[0]
    head = network.guided
    features = network.features(inputs())
    shifts = head.shifts(features.bottleneck_BCDHW)
    reduced = head.reduce(features.decoded_BCDHW)
    wanted = [head.head(reduced)[:, 0]]
    wanted += [head.head(reduced + shifts[:, k, :, None, None, None])[:, k + 1] for k in range(K)]
    torch.testing.assert_close(head(features), torch.stack(wanted, dim=1), rtol=1e-4, atol=1e-5)


def test_shuffled_prompts_change_a_trained_network_and_zeroed_ones_silence_it():
    trained = train(model())
    weights = trained.state_dict()
    shuffled = TripleViewModel(
        K + 1,
        ModelConfig(filters=4, blocks=(1, 1), norm="instance", dropout=0.0),
        5,
        Guide(guide().prompts_NKSD.flip(1), SMALL),
    )
    shuffled.load(weights)
    with torch.no_grad():
        assert not torch.allclose(trained(inputs()), shuffled(inputs()))
        for network in trained.networks:
            network.guided.prompts_KSD.zero_()
            assert not network.guided.shifts(torch.rand(1, 8, 2, 2, 2)).any()


def test_a_class_without_prompts_is_not_shifted():
    network = train(model()).networks[0].guided
    with torch.no_grad():
        network.prompts_KSD[0] = 0
        shifts = network.shifts(torch.rand(1, 8, 2, 2, 2))
    assert not shifts[:, 0].any()
    assert shifts[:, 1].any()


def test_gradients_reach_adapter_controller_and_networks_but_no_prompt():
    network = train(model())
    network(inputs()).square().mean().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
    names = {name for name, parameter in network.named_parameters() if parameter.grad.abs().sum() > 0}
    for part in ("adapter.0.weight", "project.weight", "pooled.weight", "controller.0.weight", "reduce.weight"):
        assert f"networks.0.guided.{part}" in names
    assert not any(buffer.requires_grad for buffer in network.buffers())
    assert "networks.0.guided.prompts_KSD" not in dict(network.named_parameters())


def test_layers_are_those_of_the_paper():
    prompts = Guide(torch.randn(3, 1, 2, 512), GuidanceConfig())
    head = TripleViewModel(2, ModelConfig(), 0, prompts).networks[0].guided
    adapter, controller = (
        [layer for layer in part if hasattr(layer, "weight")] for part in (head.adapter, head.controller)
    )
    assert [layer.weight.shape for layer in adapter] == [(256, 1024), (1024, 256)]
    assert head.project.weight.shape == (256, 1024)
    assert (head.norm.num_groups, head.norm.num_channels, head.pooled.out_channels) == (16, 256, 256)
    assert [tuple(layer.weight.shape) for layer in controller] == [(256, 512), (128, 256), (64, 128), (8, 64)]
    assert (head.reduce.in_channels, head.reduce.out_channels, head.head.in_channels) == (16, 8, 8)


def test_the_guide_lies_among_the_weights():
    weights = model().state_dict()
    found = guide_in(weights, SMALL)
    assert torch.equal(found.prompts_NKSD, guide().prompts_NKSD)
    assert guide_in(model(guided=False).state_dict(), SMALL) is None


def test_loading_keeps_the_models_own_prompts():
    other = TripleViewModel(K + 1, ModelConfig(filters=4, blocks=(1, 1), norm="instance", dropout=0.0), 9, guide(7))
    other.load(model().state_dict())
    assert torch.equal(guide_in(other.state_dict(), SMALL).prompts_NKSD, guide(7).prompts_NKSD)
    assert torch.equal(other.networks[1].vnet.head.weight, model().networks[1].vnet.head.weight)
