"""The completer as one of the three networks: what it starts from, what it sees, and where gradients go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.propagation.scenes import ellipsoids, run, scan, working

from napari_rada.models import networks
from napari_rada.models.completer import CUES, FLOOR, load_completer
from napari_rada.models.guided import Guide
from napari_rada.models.networks import (
    IMAGE,
    CompleterNetwork,
    NetworkInput,
    VNetNetwork,
    count_cues,
    parted,
)
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.propagation import make_propagator
from napari_rada.propagation.combined import CombinedPropagator
from napari_rada.propagation.cues import CueMaker
from napari_rada.settings import CombinedConfig, DiffusionConfig, GuidanceConfig, ModelConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.working import WorkingCase

COMPLETERS = ModelConfig(architecture="completer", completion=True)
SMALL = GuidanceConfig(width=16, controller=(12, 8))
EVEN, ODD = (24, 32, 32), (21, 27, 30)


def network(num_classes: int = 3, guide: Guide | None = None) -> CompleterNetwork:
    prompts = (None, None) if guide is None else (guide.prompts_NKSD[0], guide.config)
    return CompleterNetwork(num_classes, torch.Generator().manual_seed(5), *prompts)


def guide(num_classes: int = 3) -> Guide:
    return Guide(torch.randn(3, num_classes - 1, 2, 12, generator=torch.Generator().manual_seed(0)), SMALL)


def inputs(num_classes: int = 3, size: tuple[int, int, int] = (16, 8, 24), batch: int = 2) -> NetworkInput:
    """Return numbers without meaning, in the range of real ones."""
    generator = torch.Generator().manual_seed(1)
    prior = torch.softmax(torch.randn(batch, num_classes, *size, generator=generator), dim=1)
    cues = 2.0 * torch.rand(batch, count_cues("completer", num_classes), *size, generator=generator) - 1.0
    return NetworkInput(torch.rand(batch, *size, generator=generator), prior, cues)


def scene(num_classes: int, shape: tuple[int, int, int]) -> WorkingCase:
    labels = np.minimum(ellipsoids(shape), num_classes - 1).astype(np.uint16)
    return working(scan(labels), labels)


def walk_and_cues(case: WorkingCase) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the walk (C, Z, Y, X), and the cues (K, Q, Z, Y, X) of all foreground classes that it gives."""
    walked = run(make_propagator(DiffusionConfig()), case).probability
    maker = CueMaker(case, case.truth, case.slices)
    return walked, np.stack([maker.of_class(index, walked[index]) for index in range(1, case.num_classes)])


@pytest.mark.parametrize("shape", [EVEN, ODD], ids=["multiples of the stride", "no multiples"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_an_untouched_one_corrects_as_the_propagation_does_in_both_orientations(
    num_classes: int, shape: tuple[int, int, int]
) -> None:
    case = scene(num_classes, shape)
    stride = load_completer().stride
    assert any(side % stride for side in case.shape) == (shape is ODD)
    walked, cues_KQZYX = walk_and_cues(case)
    propagator = CombinedPropagator(CombinedConfig())
    corrections = [np.zeros(case.shape, np.float32)]
    for cues in cues_KQZYX:
        upright, mirrored = propagator._correction(np.stack([cues, np.flip(cues, (1, 2, 3))]))
        corrections.append(0.5 * (upright + np.flip(mirrored)))
    wanted = torch.from_numpy(np.log(np.maximum(walked, FLOOR)) + np.stack(corrections))
    seen = NetworkInput(
        torch.from_numpy(case.image)[None],
        torch.from_numpy(walked)[None],
        torch.from_numpy(cues_KQZYX).flatten(0, 1)[None],
    )
    with torch.no_grad():
        logits = network(num_classes).eval()(seen)
    assert np.abs(corrections).max() > 0.1
    torch.testing.assert_close(logits[0], wanted.float(), rtol=1e-4, atol=1e-3)


def test_all_three_start_from_the_weights_in_the_package() -> None:
    for made in TripleViewModel(2, COMPLETERS, seed=3).networks:
        for name, values in load_completer().state_dict().items():
            assert torch.equal(made.completer.state_dict()[name], values)


def test_training_it_leaves_the_completer_in_the_package_alone() -> None:
    before = {name: values.clone() for name, values in load_completer().state_dict().items()}
    made = network()
    optimiser = torch.optim.SGD(made.parameters(), lr=0.1)
    torch.autograd.backward(made(inputs()).square().mean())
    optimiser.step()
    assert not torch.equal(made.completer.head.weight, before["head.weight"])
    assert all(torch.equal(values, before[name]) for name, values in load_completer().state_dict().items())
    assert not any(parameter.requires_grad for parameter in load_completer().parameters())


@pytest.mark.parametrize("size", [(16, 8, 24), (13, 9, 22)])
def test_in_use_a_mirrored_scan_is_a_mirrored_answer(size: tuple[int, int, int]) -> None:
    made, seen = network(), inputs(size=size)
    mirrored = NetworkInput(*(part.flip(-3, -2, -1) for part in seen))
    with torch.no_grad():
        made.eval()
        torch.testing.assert_close(made(mirrored), made(seen).flip(-3, -2, -1), rtol=1e-4, atol=1e-4)
        made.train()
        assert (made(mirrored) - made(seen).flip(-3, -2, -1)).abs().max() > 1e-2  # of itself it is not symmetric


def test_in_use_it_is_the_mean_of_both_orientations() -> None:
    made, seen = network(), inputs()
    mirrored = NetworkInput(*(part.flip(-3, -2, -1) for part in seen))
    with torch.no_grad():
        wanted = 0.5 * (made(seen) + made(mirrored).flip(-3, -2, -1))
        torch.testing.assert_close(made.eval()(seen), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (5, [2, 3]), (8, [2, 2, 2, 2])]
)
def test_a_processor_computes_two_samples_at_a_time_and_never_one_of_several(samples: int, sizes: list[int]) -> None:
    whole = torch.arange(samples)

    parts = parted(whole)

    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_graphics_card_computes_all_samples_at_once(kind: str) -> None:
    class OnCard(torch.Tensor):
        device = torch.device(kind)

    assert [len(part) for part in parted(torch.zeros(8, 1).as_subclass(OnCard))] == [8]


@pytest.mark.parametrize(("num_classes", "batch"), [(3, 2), (6, 1), (4, 3)])
def test_in_parts_it_computes_and_learns_what_it_does_at_once(
    monkeypatch: pytest.MonkeyPatch, num_classes: int, batch: int
) -> None:
    given = inputs(num_classes, batch=batch)

    def learned() -> tuple[torch.Tensor, list[torch.Tensor]]:
        made = network(num_classes)
        with torch.no_grad():
            made.completer.head.weight.normal_(generator=torch.Generator().manual_seed(2))
        logits = made(given)
        torch.autograd.backward(logits.square().mean())
        return logits.detach(), [weight.grad for weight in made.completer.parameters() if weight.grad is not None]

    logits, gradients = learned()
    monkeypatch.setattr(networks, "parted", lambda samples: [samples])
    logits_at_once, gradients_at_once = learned()

    torch.testing.assert_close(logits, logits_at_once, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients, gradients_at_once, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("guided", [False, True])
def test_gradients_reach_all_weights(guided: bool) -> None:
    made = network(guide=guide() if guided else None)
    torch.autograd.backward(made(inputs()).square().mean())
    for name, parameter in made.completer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    if guided:
        assert made.guided is not None
        assert made.guided.head.weight.grad is not None
        assert made.guided.head.weight.grad.any()


def test_there_is_a_gradient_by_the_bottleneck_that_the_head_s_features_come_from() -> None:
    made, seen = network(), inputs()
    features = made.features(seen)
    widths = load_completer().widths
    assert features.bottleneck_BCDHW.shape == (2, 2 * widths[-1], 2, 1, 3)
    assert features.decoded_BCDHW.shape == (2, 2 * widths[0], 16, 8, 24)
    (gradient,) = torch.autograd.grad(made.logits(features, seen)[:, 2].sum(), features.bottleneck_BCDHW)
    assert not gradient[:, : widths[-1]].any()  # one class has no part in the score of the other
    assert gradient[:, widths[-1] :].any()


def test_an_untrained_guided_one_is_the_one_without_guidance() -> None:
    seen = inputs()
    for train in (True, False):
        with torch.no_grad():
            assert torch.equal(network(guide=guide()).train(train)(seen), network().train(train)(seen))


def test_guidance_that_has_learned_moves_the_scores() -> None:
    made, seen = network(guide=guide()), inputs()
    assert made.guided is not None
    with torch.no_grad():
        before = made(seen)
        made.guided.head.weight.normal_(generator=torch.Generator().manual_seed(2))
        assert not torch.allclose(before, made(seen))


def test_noise_on_the_image_reaches_it_as_the_cue_of_the_image() -> None:
    made, seen = network(), inputs()
    noise = 0.1 * torch.randn(seen.image_BDHW.shape, generator=torch.Generator().manual_seed(3))
    noisy = seen._replace(image_BDHW=seen.image_BDHW + noise)
    with torch.no_grad():
        before, after = made(seen), made(noisy)
        assert not torch.allclose(before, after)
        own = noisy.cues_BJDHW.unflatten(1, (2, len(CUES))).clone()
        own[:, :, IMAGE] = 2.0 * noisy.image_BDHW[:, None] - 1.0
        correction = made.completer(own.flatten(0, 1)).unflatten(0, (2, 2))
    begun = seen.prior_BCDHW.clamp(min=FLOOR).log()
    torch.testing.assert_close(after[:, 1:], begun[:, 1:] + correction, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 0], begun[:, 0])


def test_what_it_is_given_is_left_as_it_was() -> None:
    seen = inputs()
    before = NetworkInput(*(part.clone() for part in seen))
    network()(seen)
    assert all(torch.equal(part, old) for part, old in zip(seen, before, strict=True))


@pytest.mark.parametrize(
    ("architecture", "num_classes", "count"),
    [("vnet", 2, 1), ("vnet", 5, 1), ("completer", 2, len(CUES)), ("completer", 4, 3 * len(CUES))],
)
def test_cues_are_counted(architecture: str, num_classes: int, count: int) -> None:
    assert count_cues(architecture, num_classes) == count


def test_the_architecture_decides_what_is_built() -> None:
    plain = ModelConfig(filters=2, blocks=(1, 1), completion=True)
    assert all(isinstance(made, VNetNetwork) for made in TripleViewModel(2, plain).networks)
    model = TripleViewModel(4, COMPLETERS)
    assert all(isinstance(made, CompleterNetwork) for made in model.networks)
    assert model(inputs(4)).shape == (3, 2, 4, 16, 8, 24)
