"""Random walker, completer and optical flow, weighed by what they say about hidden slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.propagation.scenes import CENTRE, THREE, dice, ellipsoids, redrawn, run, scan, working

from napari_rada.control import RunControl
from napari_rada.errors import Stopped
from napari_rada.models.completer import CUES, LOGIT_LIMIT, Completer, load_completer
from napari_rada.pretraining.examples import make_example
from napari_rada.propagation import combined, make_propagator
from napari_rada.propagation.combined import CombinedPropagator, _judged
from napari_rada.settings import CombinedConfig, DiffusionConfig


class Constant(torch.nn.Module):
    """Adds the same to the log-odds everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, cues_BKDHW: torch.Tensor) -> torch.Tensor:
        return torch.full_like(cues_BKDHW[:, 0], self.value)


class FirstCue(torch.nn.Module):
    """Gives its first cue back, the image, and notes how many it is given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, cues_BKDHW: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(cues_BKDHW))
        return cues_BKDHW[:, 0]


@pytest.fixture
def one_class():
    labels = (ellipsoids() > 0).astype(np.uint16)
    return working(scan(labels), labels), labels


def fixed(share: float) -> CombinedConfig:
    """Weights that no scan changes."""
    return CombinedConfig(share=share, caution=None)


def test_a_completer_that_corrects_nothing_leaves_the_random_walker(one_class):
    case, _ = one_class
    found = run(CombinedPropagator(fixed(1.0), completer=Completer(len(CUES), (4, 6))), case)
    walked = run(make_propagator(DiffusionConfig()), case)
    assert np.allclose(found.probability, walked.probability, atol=0.01)  # log-odds are limited
    assert found.disagreement is not None
    assert found.disagreement.max() < 0.01


def test_a_correction_moves_the_probability_and_the_share_says_how_far(one_class):
    case, _ = one_class
    foreground = [
        run(CombinedPropagator(fixed(share), completer=Constant(4.0)), case).probability[1].sum()
        for share in (0.0, 0.5, 1.0)
    ]
    assert foreground[0] < foreground[1] < foreground[2]


def test_where_the_opinions_differ_it_is_told(one_class):
    case, _ = one_class
    pseudo = run(CombinedPropagator(CombinedConfig(), completer=Constant(8.0)), case)
    assert pseudo.disagreement is not None
    assert pseudo.disagreement.shape == case.shape
    assert 0.1 < pseudo.disagreement.max() <= 1.0


def test_a_network_that_is_wrong_about_the_slices_is_not_believed(one_class):
    case, _ = one_class
    walked = run(make_propagator(DiffusionConfig()), case).probability[1].sum()
    believed, judged = (
        run(CombinedPropagator(config, completer=Constant(-4.0)), case).probability[1].sum()
        for config in (fixed(0.5), CombinedConfig())
    )
    assert believed < judged
    assert judged == pytest.approx(walked, rel=0.1)


def test_flow_is_believed_where_no_edge_shows_the_structure():
    shape = (25, 48, 48)
    z, y, x = np.indices(shape)
    labels = ((y - 24) ** 2 + (x - 16 - 0.7 * z) ** 2 <= 64).astype(np.uint16)
    drawn = np.random.default_rng(0).normal(size=(48, 96))
    texture = ndimage.gaussian_filter(drawn, 1.5)
    image = np.stack([ndimage.shift(texture, (0, 0.7 * step), mode="wrap")[:, :48] for step in range(shape[0])])
    case = working(image.astype(np.float32), labels, [(0, 12), (1, 24), (2, 24)])
    truth = labels > 0
    scores = [
        dice(run(make_propagator(config), case).probability[1] > 0.5, truth)
        for config in (fixed(0.5), CombinedConfig())
    ]
    assert scores[1] > scores[0] + 0.02


def test_folds_are_made_for_the_weights_and_given_only_if_asked_for(one_class):
    case, _ = one_class
    with_folds, alone = (run(CombinedPropagator(CombinedConfig()), case, held_out=held) for held in (True, False))
    assert alone.held_out == (None, None, None)
    assert all(held is not None for held in with_folds.held_out)
    assert np.array_equal(with_folds.probability, alone.probability)


def test_the_weights_of_a_fold_are_not_found_on_the_view_it_leaves_out(one_class, monkeypatch):
    case, _ = one_class
    judged, real = [], combined.fit_pool

    def fit(views, *rest):
        judged.append(tuple(views))
        return real([], *rest)

    monkeypatch.setattr(combined, "_judged", lambda case, view, opinions: view)
    monkeypatch.setattr(combined, "fit_pool", fit)
    run(CombinedPropagator(CombinedConfig()), case, held_out=True)
    assert judged == [(0, 1, 2), (1, 2), (0, 2), (0, 1)]


def test_what_another_grid_shares_is_taken_and_needs_no_folds(one_class):
    case, labels = one_class
    other = working(scan(labels).max() - scan(labels), labels)
    first, alone = (run(CombinedPropagator(CombinedConfig()), given, held_out=True) for given in (other, case))
    assert not np.allclose(first.shared.pools[None].weights_K, alone.shared.pools[None].weights_K)
    seen = FirstCue()
    run(CombinedPropagator(CombinedConfig(), shared=first.shared, completer=seen), case)
    assert sum(seen.batches) == 2  # one class without folds, in a batch of two
    for held_out in (False, True):
        found = run(CombinedPropagator(CombinedConfig(), shared=first.shared), case, held_out=held_out)
        pools = found.shared.pools
        assert all(pools[view] is first.shared.pools[view] for view in pools)
        assert set(pools) == ({None, 0, 1, 2} if held_out else {None})
        assert not np.array_equal(found.probability, alone.probability)
        assert np.allclose(found.probability.sum(axis=0), 1.0, atol=1e-5)
    again = run(CombinedPropagator(CombinedConfig(), shared=alone.shared), case, held_out=True)
    assert np.array_equal(again.probability, alone.probability)
    assert np.array_equal(again.held_out, alone.held_out)


def test_annotated_slices_stay_exact_and_probabilities_sum_to_one():
    labels = ellipsoids()
    case = working(scan(labels), labels)
    pseudo = run(CombinedPropagator(CombinedConfig(), completer=Constant(3.0)), case, held_out=True)
    for axis, index in THREE:
        assert (pseudo.labels[0].take(index, axis) == labels.take(index, axis)).all()
    for probability in (pseudo.probability, *pseudo.held_out):
        assert probability is not None
        assert np.allclose(probability.sum(axis=0), 1.0, atol=1e-5)


def test_what_is_held_out_leaves_no_trace_but_in_the_weights():
    labels = ellipsoids()
    torch.manual_seed(0)
    net = Completer(len(CUES), (4, 6))
    torch.nn.init.normal_(net.head.weight)
    folds = [
        run(CombinedPropagator(fixed(0.5), completer=net), working(scan(labels), made), held_out=True).held_out[0]
        for made in (labels, redrawn(labels, 0))
    ]
    assert folds[0] is not None
    assert np.array_equal(*folds)


def test_the_completer_sees_the_image_where_it_is(one_class):
    case, _ = one_class
    pseudo = run(CombinedPropagator(fixed(1.0), completer=FirstCue()), case)
    walked = run(make_propagator(DiffusionConfig()), case).probability[1]
    moved = pseudo.probability[1] - walked
    unsure = (walked > 0.2) & (walked < 0.8) & (case.truth < 0)
    assert (np.sign(moved) == np.sign(2 * case.image - 1))[unsure].mean() > 0.95


def test_the_packaged_completer_is_better_than_the_walk_on_synthetic_scans_it_never_saw():
    scores = []
    for number in range(10):
        example = make_example(np.random.default_rng([2026, number]), max_voxels=30_000, margin=0.25)
        cues = torch.from_numpy(example.cues.astype(np.float32))
        walked = LOGIT_LIMIT * cues[CUES.index("propagation")]
        with torch.no_grad():
            completed = walked + load_completer()(cues[None])[0]
        scores.append([dice((logits > 0).numpy(), example.share > 0.5) for logits in (walked, completed)])
    assert np.mean(scores, axis=0)[1] > np.mean(scores, axis=0)[0]


@pytest.mark.parametrize("views", [1, 2, 3])
def test_classes_and_folds_are_completed_two_at_a_time(views):
    """Whatever is beside it in a batch, the answer to each is its own."""
    case = working(scan(ellipsoids()), ellipsoids(), THREE[:views])
    completer = FirstCue()
    together = run(CombinedPropagator(fixed(1.0), completer=completer), case, held_out=True)
    assert set(completer.batches) == {2}
    folds = 1 if views == 1 else 1 + views
    assert len(completer.batches) == -(-folds * 2 // 2)
    alone = run(CombinedPropagator(fixed(1.0), completer=FirstCue()), case)
    np.testing.assert_array_equal(together.probability, alone.probability)


def test_a_class_that_a_fold_does_not_show_is_nowhere_in_it():
    labels = np.where(ellipsoids() == 2, 1, ellipsoids())  # one class in the other two slices
    labels[:, :, CENTRE[2]] = ellipsoids()[:, :, CENTRE[2]]
    case = working(scan(ellipsoids()), labels)
    held_out = run(CombinedPropagator(fixed(1.0), completer=FirstCue()), case, held_out=True).held_out[2]
    assert held_out is not None
    assert held_out[2].max() < 0.01  # no opinion may give less than a floor
    np.testing.assert_allclose(held_out.sum(axis=0), 1.0, atol=1e-5)


def test_of_a_class_that_a_fold_does_not_show_the_completer_makes_nothing(monkeypatch):
    """Nothing at all, not the floor below which no opinion goes elsewhere."""
    labels = np.where(ellipsoids() == 2, 1, ellipsoids())
    labels[:, :, CENTRE[2]] = ellipsoids()[:, :, CENTRE[2]]
    case, seen = working(scan(ellipsoids()), labels), []
    monkeypatch.setattr(combined, "pooled", lambda opinions, pool: seen.append(opinions[1]) or opinions[1])
    run(CombinedPropagator(fixed(1.0), completer=FirstCue()), case, held_out=True)
    assert [completed[2].max() > 0 for completed in seen] == [True, True, True, False]


def test_a_single_slice_judges_nobody_so_that_all_weigh_the_same():
    labels = (ellipsoids() > 0).astype(np.uint16)
    case = working(scan(labels), labels, [(0, CENTRE[0])])
    pool = run(CombinedPropagator(CombinedConfig()), case).shared.pools[None]
    np.testing.assert_allclose(pool.weights_K, 1 / 3)
    np.testing.assert_array_equal(pool.offsets_C, 0)


def test_opinions_are_not_judged_by_a_class_that_only_the_hidden_view_shows():
    labels = np.where(ellipsoids() == 2, 1, ellipsoids())
    labels[:, :, CENTRE[2]] = ellipsoids()[:, :, CENTRE[2]]
    case = working(scan(ellipsoids()), labels)
    opinions = np.random.default_rng(0).random((3, 3, *case.shape), dtype=np.float32)
    hidden, shown = (_judged(case, view, opinions) for view in (2, 0))
    assert set(hidden.truth_n) == {0, 1}
    np.testing.assert_array_equal(hidden.known_C, [True, True, False])
    np.testing.assert_array_equal(shown.known_C, True)
    assert hidden.opinions_KCn.shape == (3, 3, hidden.truth_n.size)


def test_opinions_are_judged_only_where_no_other_view_annotated(one_class):
    case, _ = one_class
    opinions = np.random.default_rng(0).random((3, 2, *case.shape), dtype=np.float32)
    for view in range(3):
        alone = case.views == 1 << view
        judged = _judged(case, view, opinions)
        np.testing.assert_array_equal(judged.truth_n, case.truth[alone])
        np.testing.assert_array_equal(judged.opinions_KCn, opinions[:, :, alone])


def test_progress_reaches_the_end_also_without_anything_to_complete(one_class):
    case, _ = one_class
    empty = replace(case, truth=np.minimum(case.truth, 0).astype(np.int16))
    told: list[tuple[int, int]] = []
    for scene in (case, empty):
        told.clear()
        CombinedPropagator(fixed(1.0), completer=FirstCue()).propagate(
            scene, held_out=False, control=RunControl(), on_progress=lambda *step: told.append(step)
        )
        assert told[-1] == (100, 100)


def test_a_stop_ends_it(one_class):
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        make_propagator(CombinedConfig()).propagate(
            one_class[0], held_out=True, control=control, on_progress=lambda done, total: None
        )


def test_progress_is_told_to_its_end(one_class):
    told: list[tuple[int, int]] = []
    make_propagator(CombinedConfig()).propagate(
        one_class[0], held_out=True, control=RunControl(), on_progress=lambda done, total: told.append((done, total))
    )
    shares = [done / total for done, total in told]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
