import pytest
import torch

from napari_rada.models.networks import NetworkInput
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.models.vnet import VNet
from napari_rada.settings import ModelConfig


def blank_input(image: torch.Tensor, num_classes: int = 2) -> NetworkInput:
    prior = torch.full((len(image), num_classes, *image.shape[1:]), 1 / num_classes)
    return NetworkInput(image, prior, torch.zeros_like(image[:, None]))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_logits_have_the_shape_of_the_input(norm):
    network = VNet(1, 3, filters=2, blocks=(1, 2, 2), norm=norm, dropout=0.1)
    assert network(torch.rand(2, 1, 8, 12, 16)).shape == (2, 3, 8, 12, 16)
    assert network.stride == 4


def test_the_lineage_network_has_its_published_layers():
    network = VNet(1, 2)
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv3d)]
    # 12 in the encoder's blocks, 7 + 2 in the decoder's, 4 downsamplings, 1 head.
    assert len(convolutions) == (1 + 2 + 3 + 3 + 3) + (3 + 3 + 2 + 1) + 4 + 1
    assert network.stride == 16
    assert max(layer.out_channels for layer in convolutions) == 256


def test_sides_that_cannot_be_halved_are_padded_and_cropped():
    model = TripleViewModel(2, ModelConfig(filters=2, blocks=(1, 1, 1)))
    assert model(blank_input(torch.rand(1, 7, 10, 9))).shape == (3, 1, 2, 7, 10, 9)


def test_networks_start_differently_and_repeatably():
    first, again, other = (TripleViewModel(2, ModelConfig(filters=2, blocks=(1, 1)), seed) for seed in (0, 0, 1))
    weights = [network.vnet.stem[0].weight for network in first.networks]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(weights[0], other.networks[0].vnet.stem[0].weight)


def test_an_untrained_completing_network_returns_the_propagation():
    model = TripleViewModel(3, ModelConfig(filters=2, blocks=(1, 1), completion=True, norm="instance")).eval()
    image = torch.rand(1, 8, 8, 8)
    prior = torch.softmax(torch.randn(1, 3, 8, 8, 8), dim=1).clamp_min(0.02)
    prior = prior / prior.sum(dim=1, keepdim=True)
    logits = model(NetworkInput(image, prior, torch.zeros_like(image[:, None])))
    torch.testing.assert_close(torch.softmax(logits, dim=2)[1], prior)


def test_only_the_chosen_networks_are_asked():
    model = TripleViewModel(2, ModelConfig(filters=2, blocks=(1, 1), norm="instance")).eval()
    inputs = blank_input(torch.rand(1, 8, 8, 8))
    torch.testing.assert_close(model(inputs, networks=(2,))[0], model(inputs)[2])
