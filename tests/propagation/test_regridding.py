"""A propagation made on a grid of the case's own, brought to the grid of a cohort."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.propagation.scenes import CENTRE, ellipsoids, run, scan

from napari_rada.control import RunControl
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.classes import UNKNOWN
from napari_rada.data.resampling import block_mean
from napari_rada.data.working import WorkingCase, make_working_case, make_working_cases
from napari_rada.errors import Stopped
from napari_rada.propagation import make_propagator
from napari_rada.propagation.base import PseudoLabels, distance_to_slices, truth_without
from napari_rada.propagation.regridding import Made, in_box, placed, regridded
from napari_rada.propagation.stacking import pooled
from napari_rada.settings import CombinedConfig, DiffusionConfig, FlowConfig

DENSE = ellipsoids()
PADDED = np.pad(DENSE, ((6, 4), (8, 4), (4, 4)))
PLACED = tuple((axis, CENTRE[axis] + before) for axis, before in enumerate((6, 8, 4)))


def grids() -> tuple[WorkingCase, WorkingCase]:
    """Return the cropped grid at full resolution, and the coarse one of the whole scan."""
    case = Case.create(scan(PADDED), PADDED, slices=list(PLACED))
    classes = check_trainable([case])
    return make_working_case(case, classes, crop_margin=0.0), make_working_case(case, classes, max_voxels=6000)


def exact(case: WorkingCase) -> PseudoLabels:
    """Return pseudo-labels that are the truth."""
    z, y, x = (slice(first, end) for first, end in zip(*case.box, strict=True))
    dense = PADDED[z, y, x]
    probability = np.stack([dense == index for index in range(3)]).astype(np.float32)
    held_out = (probability, None, probability)
    return PseudoLabels("exact", probability, dense[None].astype(np.int16), distance_to_slices(case), held_out)


def test_a_voxel_gets_the_share_that_its_part_of_the_scan_has() -> None:
    own, whole = grids()
    assert own.shape != whole.shape
    found = regridded([Made(exact(own), own)], whole, RunControl())
    share = np.stack([block_mean((PADDED == index).astype(np.float32), whole.factors) for index in range(3)])
    unknown = whole.truth == UNKNOWN
    np.testing.assert_allclose(found.probability[:, unknown], share[:, unknown], atol=1e-6)
    assert (found.probability.argmax(axis=0)[~unknown] == whole.truth[~unknown]).all()
    np.testing.assert_allclose(found.probability.sum(axis=0), 1.0, atol=1e-6)
    np.testing.assert_array_equal(found.distance, distance_to_slices(whole))
    assert found.labels.shape == (1, *whole.shape)


def test_a_view_that_was_left_out_stays_unseen() -> None:
    own, whole = grids()
    found = regridded([Made(exact(own), own)], whole, RunControl())
    assert found.held_out[1] is None
    left_out = found.held_out[0]
    assert left_out is not None
    known = truth_without(whole, 0) != UNKNOWN
    assert (left_out.argmax(axis=0)[known] == whole.truth[known]).all()
    share = np.stack([block_mean((PADDED == index).astype(np.float32), whole.factors) for index in range(3)])
    np.testing.assert_allclose(left_out[:, ~known], share[:, ~known], atol=1e-6)


@pytest.mark.parametrize(("config", "views"), [(DiffusionConfig(), 1), (FlowConfig(), 3)])
def test_ways_that_tell_views_apart_still_do(config: DiffusionConfig | FlowConfig, views: int) -> None:
    own, whole = grids()
    found = regridded([Made(run(make_propagator(config), own, held_out=True), own)], whole, RunControl())
    assert found.labels.shape == (views, *whole.shape)
    assert set(np.unique(found.labels)) <= {0, 1, 2}
    dense = (PADDED > 0)[:: whole.factors[0], :: whole.factors[1], :: whole.factors[2]]
    overlap = found.probability.argmax(axis=0) > 0
    assert (overlap & dense).sum() > 0.6 * dense.sum()
    assert (found.disagreement is None) or found.disagreement.shape == whole.shape


def test_grids_in_two_alignments_are_brought_together() -> None:
    case = Case.create(scan(PADDED), PADDED, slices=list(PLACED))
    classes = check_trainable([case])
    pair = make_working_cases(case, classes, aligned=True, max_voxels=6000)
    whole = make_working_case(case, classes)
    propagator = make_propagator(CombinedConfig())
    made = [Made(run(propagator, part, held_out=True), part) for part in pair]
    assert len(made) == 2
    both = regridded(made, whole, RunControl())
    first, second = (regridded([one], whole, RunControl()) for one in made)
    inside = made[0].case.box_to_full(in_box(made, RunControl()))
    share = np.stack([block_mean(values, whole.factors) for values in inside])
    unknown = whole.truth == UNKNOWN
    np.testing.assert_allclose(both.probability[:, unknown], share[:, unknown], atol=1e-6)
    for view in range(3):
        folds = [found.held_out[view] for found in (both, first, second)]
        assert all(fold is not None for fold in folds)
        np.testing.assert_allclose(folds[0], (folds[1] + folds[2]) / 2, atol=1e-6)  # type: ignore[operator]
    assert both.disagreement is not None
    assert first.disagreement is not None
    assert second.disagreement is not None
    np.testing.assert_allclose(both.disagreement, (first.disagreement + second.disagreement) / 2, atol=1e-6)
    np.testing.assert_array_equal(both.labels[0], both.probability.argmax(axis=0))


def test_a_view_that_was_held_out_on_one_grid_only_is_that_of_this_grid() -> None:
    case = Case.create(scan(PADDED), PADDED, slices=list(PLACED))
    classes = check_trainable([case])
    pair = make_working_cases(case, classes, aligned=True, max_voxels=6000)
    whole = make_working_case(case, classes)
    first, second = (Made(run(make_propagator(DiffusionConfig()), part, held_out=True), part) for part in pair)
    _, *others = second.pseudo.held_out
    second = second._replace(pseudo=replace(second.pseudo, held_out=(None, *others)))
    alone = regridded([first], whole, RunControl()).held_out[0]
    for order in ([first, second], [second, first]):
        found = regridded(order, whole, RunControl())
        assert all(fold is not None for fold in found.held_out)
        np.testing.assert_array_equal(found.held_out[0], alone)


@pytest.mark.parametrize(("margin", "wanted_margin"), [(0.0, None), (None, 0.0), (0.1, 0.25)])
def test_a_part_at_a_time_is_as_all_at_once(
    margin: float | None, wanted_margin: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case.create(scan(PADDED), PADDED, slices=list(PLACED))
    classes = check_trainable([case])
    own = make_working_cases(case, classes, aligned=True, max_voxels=6000, crop_margin=margin)
    wanted = make_working_cases(case, classes, aligned=True, max_voxels=4000, crop_margin=wanted_margin)[1]
    assert any(wanted.padding)
    made = [Made(run(make_propagator(CombinedConfig()), part, held_out=True), part) for part in own]
    whole = regridded(made, wanted, RunControl())
    monkeypatch.setattr("napari_rada.data.resampling.SLAB", 1)
    parts = regridded(made, wanted, RunControl())
    box = tuple(slice(*ends) for ends in zip(*wanted.box, strict=True))
    inside = made[0].case.box_to_full(in_box(made, RunControl()))[(slice(None), *box)]
    expected = np.stack([block_mean(values, wanted.factors, wanted.padding) for values in inside])
    unknown = wanted.truth == UNKNOWN
    np.testing.assert_allclose(parts.probability[:, unknown], expected[:, unknown], atol=1e-6)
    for one, other in zip((whole.probability, *whole.held_out), (parts.probability, *parts.held_out), strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert parts.disagreement is not None
    np.testing.assert_allclose(parts.disagreement, whole.disagreement, atol=1e-6)  # type: ignore[arg-type]


def test_a_stop_ends_it() -> None:
    own, whole = grids()
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        regridded([Made(exact(own), own)], whole, control)


def made_in_pair(config: CombinedConfig | DiffusionConfig) -> list[Made]:
    """Propagate in both alignments, as the preparation does: the second takes over what the first shares."""
    case = Case.create(scan(PADDED), PADDED, slices=list(PLACED))
    pair = make_working_cases(
        case, check_trainable([case]), aligned=True, max_voxels=6000, crop_margin=0.0, finer_voxels=20_000
    )
    first = run(make_propagator(config), pair[0])
    return [Made(first, pair[0]), Made(run(make_propagator(config, shared=first.shared), pair[1]), pair[1])]


def test_opinions_of_all_grids_are_pooled_in_the_box() -> None:
    made = made_in_pair(CombinedConfig())
    walks, completed = (
        np.mean([case.to_box(pseudo.opinions[number].probability) for pseudo, case in made], axis=0)
        for number in range(2)
    )
    carried = made[0].pseudo.opinions[2]
    assert carried.case.factors != made[0].case.factors
    shared = made[0].pseudo.shared
    assert shared is not None
    expected = pooled([walks, completed, carried.case.to_box(carried.probability)], shared.pools[None])
    found = in_box(made, RunControl())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, atol=1e-5)
    np.testing.assert_array_equal(in_box(made, RunControl()), found)  # nothing that was made is changed


def test_one_opinion_is_averaged_in_the_box() -> None:
    made = made_in_pair(DiffusionConfig())
    expected = np.mean([case.to_box(pseudo.probability) for pseudo, case in made], axis=0)
    np.testing.assert_allclose(in_box(made, RunControl()), expected, atol=1e-6)


def test_a_stop_ends_pooling_in_the_box() -> None:
    control = RunControl()
    made = made_in_pair(DiffusionConfig())
    control.stop()
    with pytest.raises(Stopped):
        in_box(made, control)


def test_what_is_in_one_box_is_placed_in_another() -> None:
    own, whole = grids()
    inside = exact(own).probability
    assert placed(inside, own, own) is inside
    np.testing.assert_array_equal(placed(inside, own, whole), own.box_to_full(inside))
    np.testing.assert_array_equal(placed(own.box_to_full(inside), whole, own), inside)
