"""Networks and propagation together: shares, and the size that propagation gave."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada.inference import blending
from napari_rada.inference.blending import LARGEST, blended, size_like
from napari_rada.settings import InferenceConfig

SHAPE = (8, 10, 12)


def random_probability(classes: int, seed: int, lean: float = 0.0) -> np.ndarray:
    """Probability (C, Z, Y, X), background ahead by `lean` in log-odds."""
    scores = np.random.default_rng(seed).normal(0, 1, (classes, *SHAPE))
    scores[0] += lean
    exponential = np.exp(scores)
    return (exponential / exponential.sum(axis=0)).astype(np.float32)


def sized_like(probability: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return what `size_like` makes of a copy."""
    found = probability.copy()
    size_like(found, reference)
    return found


def sizes(probability: np.ndarray) -> np.ndarray:
    return np.bincount(probability.argmax(axis=0).ravel(), minlength=len(probability))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("lean", [-1.0, 0.5, 1.0])
def test_every_class_takes_as_many_voxels_as_in_the_reference(classes: int, lean: float) -> None:
    reference = random_probability(classes, 0, 0.5)
    found = sized_like(random_probability(classes, 1, lean), reference)
    np.testing.assert_allclose(sizes(found), sizes(reference), rtol=0.02, atol=3)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, atol=1e-5)


def test_the_order_of_voxels_stays() -> None:
    before = random_probability(2, 1, 1.0)
    after = sized_like(before, random_probability(2, 0))
    assert (np.argsort(before[1], axis=None) == np.argsort(after[1], axis=None)).all()


def test_no_voxels_have_no_size() -> None:
    nothing = np.empty((2, 0), dtype=np.float32)
    assert sized_like(nothing, nothing).shape == (2, 0)


def test_the_right_size_is_left_alone() -> None:
    same = random_probability(3, 0)
    np.testing.assert_allclose(sized_like(same, same), same, atol=0.01)


def test_networks_that_say_something_else_altogether_are_not_turned_round() -> None:
    nothing = np.stack([np.full(SHAPE, 0.9999), np.full(SHAPE, 0.0001)]).astype(np.float32)
    found = sized_like(nothing, random_probability(2, 0))
    assert (found.argmax(axis=0) == 0).all()
    odds = np.log(found[1] / found[0]) - np.log(nothing[1] / nothing[0])
    assert odds.max() <= LARGEST + 1e-3


def test_a_class_that_the_reference_does_not_have_stays_as_it_is() -> None:
    reference = random_probability(3, 0)
    reference[2] = 0.0
    before = random_probability(3, 1)
    after = sized_like(before, reference)
    assert sizes(after)[2] > 0
    np.testing.assert_allclose(np.log(after[2] / after[0]), np.log(before[2] / before[0]), atol=1e-3)


def test_a_row_of_voxels_is_mixed_like_a_volume() -> None:
    networks, propagation = (random_probability(2, seed).reshape(2, -1) for seed in (1, 0))
    mixed = blended(networks.copy(), propagation, InferenceConfig(blend=0.25))
    np.testing.assert_allclose(mixed, 0.25 * networks + 0.75 * propagation, atol=1e-6)
    kept = blended(networks.copy(), propagation, InferenceConfig(blend=1.0, keep_size=True))
    assert sizes(kept)[1] == pytest.approx(sizes(propagation)[1], abs=1)
    assert kept.dtype == np.float32


def test_networks_are_taken_over_and_nothing_else_is_changed() -> None:
    given, networks, fine = (random_probability(2, seed) for seed in (0, 1, 2))
    before = given.copy(), fine.copy()
    for corrections in (False, True):
        taken = networks.copy()
        config = InferenceConfig(blend=0.25, corrections=corrections, keep_size=True)
        assert blended(taken, fine, config, given) is taken
        np.testing.assert_array_equal((given, fine), before)


@pytest.mark.parametrize("classes", [2, 4])
def test_what_networks_change_is_done_to_another_propagation(classes: int) -> None:
    given, networks, fine = (random_probability(classes, seed) for seed in (0, 1, 2))
    config = InferenceConfig(blend=0.25, corrections=True)
    found = blended(networks.copy(), fine, config, given)
    odds = [np.log(each[1:] / each[0]) for each in (found, fine, networks, given)]
    np.testing.assert_allclose(odds[0], odds[1] + 0.25 * (odds[2] - odds[3]), atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_networks_that_change_nothing_leave_the_propagation() -> None:
    given, fine = random_probability(3, 0), random_probability(3, 1)
    config = InferenceConfig(blend=0.5, corrections=True, keep_size=True)
    np.testing.assert_allclose(blended(given.copy(), fine, config, given), fine, atol=0.01)


def test_corrections_keep_sizes_if_asked() -> None:
    given, networks, fine = (random_probability(3, seed, lean) for seed, lean in ((0, 0.5), (1, -0.5), (2, 0.5)))
    free, kept = (InferenceConfig(blend=0.5, corrections=True, keep_size=keep) for keep in (False, True))
    assert sizes(blended(networks.copy(), fine, free, given))[0] < 0.9 * sizes(fine)[0]
    np.testing.assert_allclose(sizes(blended(networks.copy(), fine, kept, given)), sizes(fine), rtol=0.02, atol=3)


def test_networks_that_were_given_nothing_are_mixed() -> None:
    networks, fine = random_probability(2, 1), random_probability(2, 0)
    mixed = blended(networks.copy(), fine, InferenceConfig(blend=0.5, corrections=True))
    np.testing.assert_allclose(mixed, (networks + fine) / 2, atol=1e-6)


def test_a_mix_keeps_sizes_if_asked() -> None:
    networks, fine = random_probability(2, 1, -1.0), random_probability(2, 0, 1.0)
    free, kept = (blended(networks.copy(), fine, InferenceConfig(blend=0.4, keep_size=keep)) for keep in (False, True))
    assert sizes(free)[1] > 1.1 * sizes(fine)[1]
    np.testing.assert_allclose(sizes(kept), sizes(fine), rtol=0.02, atol=3)
    np.testing.assert_allclose(kept, sized_like(free, fine), atol=1e-6)


def test_sizes_of_many_voxels_are_told_from_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    foreground = rng.beta(1, 3, 100_000).astype(np.float32)
    reference = (rng.random(100_000) < 0.3).astype(np.float32)
    lean, wanted = (np.stack([1 - values, values]) for values in (foreground, reference))
    seen = []
    found = blending.size_offsets
    monkeypatch.setattr(blending, "SAMPLE", 20_000)
    monkeypatch.setattr(blending, "size_offsets", lambda *given: seen.append(given[0].size) or found(*given))
    sized = sized_like(lean, wanted)
    assert 10_000 < seen.pop() <= 20_000
    assert (sized.argmax(axis=0) == 1).mean() == pytest.approx(0.3, abs=0.01)
    assert (lean.argmax(axis=0) == 1).mean() < 0.2


def test_no_structure_hides_between_the_voxels_that_sizes_are_told_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 16th voxel of rows of 16 would be one column."""
    classes = 8
    reference = np.zeros((classes, 32, 32, 16), dtype=np.float32)
    reference[0] = 1.0
    for index in range(1, classes):  # a rod along z
        reference[:, :, 4 * index : 4 * index + 4, 3:9] = 0.0
        reference[index, :, 4 * index : 4 * index + 4, 3:9] = 1.0
    lean = 0.4 * reference + 0.6 / classes
    lean[0] += 0.4
    lean /= lean.sum(axis=0)
    assert not lean.argmax(axis=0).any()
    monkeypatch.setattr(blending, "SAMPLE", reference.size // 16)
    sizes = np.bincount(sized_like(lean, reference).argmax(axis=0).ravel(), minlength=classes)
    np.testing.assert_allclose(sizes[1:], 32 * 4 * 6, rtol=0.1)
