"""Weights of opinions: who is right about slices that were hidden counts more, and little evidence changes little."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada.propagation.stacking import LARGEST, Judged, Pool, fit_pool, pooled

USUAL = (0.5, 0.5)
RNG = np.random.default_rng(0)


def weights(views: list[Judged], caution: float | None, classes: int = 2) -> np.ndarray:
    return fit_pool(views, USUAL, classes, caution).weights_K


def opinion(truth: np.ndarray, right: float, classes: int, sure: float = 0.9) -> np.ndarray:
    """Probability (C, n) of someone who is right so often."""
    said = np.where(RNG.random(truth.size) < right, truth, (truth + 1) % classes)
    other = (1.0 - sure) / (classes - 1)
    return np.where(np.arange(classes)[:, None] == said, sure, other).astype(np.float32)


def judged(rights: tuple[float, ...], classes: int = 2, voxels: int = 4000) -> Judged:
    truth = RNG.integers(classes, size=voxels).astype(np.int16)
    return Judged(np.stack([opinion(truth, right, classes) for right in rights]), truth, np.ones(classes, dtype=bool))


@pytest.mark.parametrize("classes", [2, 4])
def test_who_knows_better_weighs_more(classes: int) -> None:
    good, bad = weights([judged((0.95, 0.6), classes)], 0.01, classes)
    assert good > 0.8
    assert bad < 0.4


def test_who_misleads_is_not_believed_the_other_way_round() -> None:
    assert weights([judged((0.9, 0.1))], 0.0)[1] == 0.0


def test_weights_are_bounded_where_everything_is_right() -> None:
    pool = fit_pool([judged((1.0, 1.0))], USUAL, 2, 0.0)
    assert (pool.weights_K <= LARGEST).all()
    assert np.isfinite(pool.weights_K).all()
    assert np.isfinite(pool.offsets_C).all()


def test_caution_keeps_weights_near_the_usual_ones() -> None:
    views = [judged((0.95, 0.6))]
    away = [np.linalg.norm(weights(views, caution) - USUAL) for caution in (0.001, 0.1, 10.0)]
    assert away[0] > away[1] > away[2]
    assert away[2] < 0.05


def only(view: Judged, *classes: int) -> Judged:
    """Keep the voxels of some classes."""
    kept = np.isin(view.truth_n, classes)
    return Judged(view.opinions_KCn[..., kept], view.truth_n[kept], view.known_C)


SOME = judged((0.9, 0.6, 0.8), classes=3)


@pytest.mark.parametrize(
    ("views", "wanted"), [([], None), ([only(SOME)], None), ([only(SOME, 0)], None), ([only(SOME, 0, 1)], 2)]
)
def test_without_evidence_all_weigh_the_same(views: list[Judged], wanted: int | None) -> None:
    pool = fit_pool(views, (0.5, 0.5, 0.0), 3, 0.01, wanted)
    np.testing.assert_allclose(pool.weights_K, 1 / 3)
    np.testing.assert_array_equal(pool.offsets_C, np.zeros(3))


@pytest.mark.parametrize(("view", "wanted"), [(SOME, None), (only(SOME, 0, 1), None), (only(SOME, 0, 1), 1)])
def test_with_evidence_of_what_is_wanted_they_do_not(view: Judged, wanted: int | None) -> None:
    assert np.ptp(fit_pool([view], (0.5, 0.5, 0.0), 3, 0.01, wanted).weights_K) > 0.1


def test_without_a_caution_the_weights_are_the_usual_ones() -> None:
    np.testing.assert_array_equal(weights([judged((0.95, 0.6))], None), USUAL)


@pytest.mark.parametrize("classes", [2, 3])
def test_what_all_take_for_too_large_is_made_smaller(classes: int) -> None:
    truth = RNG.integers(classes, size=6000).astype(np.int16)
    wrong = np.where((truth == 0) & (RNG.random(truth.size) < 0.4), 1, truth)
    said = np.where(np.arange(classes)[:, None] == wrong, 0.8, 0.2 / (classes - 1)).astype(np.float32)
    view = Judged(np.stack([said, said]), truth, np.ones(classes, dtype=bool))
    offsets = [fit_pool([view], USUAL, classes, caution).offsets_C for caution in (0.0, 0.01, 10.0)]
    assert all(found[0] == 0.0 for found in offsets)
    assert offsets[0][1] < offsets[1][1] < offsets[2][1] < 0.0
    assert offsets[2][1] > -0.1


def test_a_class_that_nothing_is_known_of_changes_nothing() -> None:
    two = judged((0.8, 0.7))
    beside = np.concatenate([two.opinions_KCn, np.zeros((2, 2, two.truth_n.size), dtype=np.float32)], axis=1)
    four = Judged(beside, two.truth_n, np.array([True, True, False, False]))
    expected, found = fit_pool([two], USUAL, 2, 0.01), fit_pool([four], USUAL, 4, 0.01)
    np.testing.assert_allclose(found.weights_K, expected.weights_K, atol=1e-5)
    np.testing.assert_allclose(found.offsets_C, [*expected.offsets_C, 0.0, 0.0], atol=1e-5)


def test_a_class_that_is_true_nowhere_keeps_its_size() -> None:
    offsets = fit_pool([only(judged((0.8, 0.7), classes=3), 0, 1)], USUAL, 3, 0.0).offsets_C
    assert offsets[2] == 0.0
    assert offsets[1] != 0.0


def test_an_offset_moves_its_class_everywhere() -> None:
    said = opinion(RNG.integers(3, size=50).astype(np.int16), 0.8, 3)
    plain, moved = (pooled([said], Pool(np.ones(1), np.array(offsets))) for offsets in ([0, 0, 0.0], [0, 1.0, 0]))
    assert (moved[1] > plain[1]).all()
    np.testing.assert_allclose(moved[2] / moved[0], plain[2] / plain[0], rtol=1e-4)


def test_every_view_counts_the_same_whatever_its_size() -> None:
    small, large = judged((0.95, 0.6), voxels=1000), judged((0.6, 0.95), voxels=20000)
    first, second = weights([small, large], 0.01)
    assert first == pytest.approx(second, abs=0.15)


def test_a_pool_of_equals_is_what_each_says() -> None:
    said = opinion(RNG.integers(3, size=50).astype(np.int16), 0.8, 3)
    np.testing.assert_allclose(pooled([said, said], Pool(np.array(USUAL), np.zeros(3))), said, atol=1e-6)


def test_a_pool_sums_to_one_and_excludes_what_all_exclude_and_no_more() -> None:
    said = ([0.2, 0.8, 0.0, 0.0], [0.5, 0.1, 0.0, 0.4])
    first, second = (np.array(values, dtype=np.float32)[:, None] for values in said)
    pool = pooled([first, second], Pool(np.array([1.0, 0.3]), np.zeros(4)))
    assert pool.sum() == pytest.approx(1.0)
    assert pool[2] == 0.0
    assert pool[1] > pool[0] > pool[3] > 0.0
