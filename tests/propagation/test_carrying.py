"""What registration and optical flow share: they follow what moves, each slice as far as it is the nearest."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.propagation.scenes import TUBE_THREE, dice, ellipsoids, run, scan, tube, tube_case, working

from napari_rada.control import RunControl
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import Stopped
from napari_rada.propagation import make_propagator
from napari_rada.propagation.carrying import BEYOND, chains_of_case, chains_of_view, parallel_weights, view_weights
from napari_rada.settings import FlowConfig, RegistrationConfig

if TYPE_CHECKING:
    from napari_rada.settings import PropagationConfig

needs_ants = pytest.mark.skipif(find_spec("ants") is None, reason="antspyx is not installed: pip install antspyx")
either_way = pytest.mark.parametrize(
    "way",
    [
        pytest.param(FlowConfig(), id="flow"),
        pytest.param(RegistrationConfig(), id="registration", marks=needs_ants),
    ],
)


@either_way
def test_a_tube_that_moves_and_deforms_is_followed(way: PropagationConfig) -> None:
    case, truth = tube_case([(0, 4)]), tube() > 0
    pseudo = run(make_propagator(way), case, held_out=True)
    carried, kept_in_place = pseudo.labels[0] > 0, np.broadcast_to(truth[4], truth.shape)
    for index in (0, 8):
        assert dice(carried[index], truth[index]) > 0.9
        assert dice(kept_in_place[index], truth[index]) < 0.75
    assert pseudo.held_out == (None, None, None)
    assert not pseudo.labels[1:].any()
    np.testing.assert_array_equal(pseudo.probability.argmax(axis=0), pseudo.labels[0])


@either_way
def test_a_held_out_view_has_no_say(way: PropagationConfig) -> None:
    case = tube_case(TUBE_THREE)
    changed = np.where(case.views == 1, 1 - tube(), tube()).astype(np.uint16)
    first, second = (
        run(make_propagator(way), made, held_out=True) for made in (case, tube_case(TUBE_THREE, labels=changed))
    )
    np.testing.assert_array_equal(first.held_out[0], second.held_out[0])
    assert not np.array_equal(first.probability, second.probability)


@either_way
def test_a_stop_is_seen_after_the_slice_at_work(way: PropagationConfig) -> None:
    control = RunControl()
    told: list[tuple[int, int]] = []

    def stop_after_two(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            control.stop()

    with pytest.raises(Stopped):
        make_propagator(way).propagate(tube_case([(0, 4)]), held_out=False, control=control, on_progress=stop_after_two)
    assert told == [(0, 8), (1, 8), (2, 8)]


@either_way
def test_an_empty_annotated_slice_spreads_nothing_and_costs_nothing(way: PropagationConfig) -> None:
    """It has no say in the rest of the scan either, but where it lies."""
    told: list[tuple[int, int]] = []
    case, alone = tube_case([(0, 4), (1, 0)]), tube_case([(0, 4)])
    pseudo = make_propagator(way).propagate(
        case, held_out=False, control=RunControl(), on_progress=lambda *step: told.append(step)
    )
    assert told[-1] == (8, 8)
    assert case.empty == (AnnotatedSlice(1, 0),)
    found, without = pseudo.probability, run(make_propagator(way), alone).probability
    np.testing.assert_array_equal(found[0, :, 0], 1.0)
    np.testing.assert_array_equal(found[:, :, 1:], without[:, :, 1:])


@either_way
def test_nothing_is_carried_past_an_empty_slice_of_the_same_direction(way: PropagationConfig) -> None:
    alone, labels = tube_case([(0, 4)]), tube()
    labels[[1, 7]] = 0
    case = tube_case([(0, 1), (0, 4), (0, 7)], labels=labels)
    assert case.empty == (AnnotatedSlice(0, 1), AnnotatedSlice(0, 7))
    found, without = (run(make_propagator(way), one).probability for one in (case, alone))
    np.testing.assert_array_equal(found[0, [0, 1, 7, 8]], 1.0)
    assert dice(found[1, 2:7] > 0.5, without[1, 2:7] > 0.5) > 0.98


def test_each_slice_is_carried_as_far_as_it_is_the_nearest() -> None:
    case = working(scan(ellipsoids()), ellipsoids(), [(0, 4), (0, 11)])
    chains = chains_of_view(0, [AnnotatedSlice(0, 11), AnnotatedSlice(0, 4)], case)
    assert [(chain.start.index, list(chain.targets)) for chain in chains] == [
        (4, [5, 6, 7]),
        (4, [3, 2, 1, 0]),
        (11, list(range(12, 24))),
        (11, [10, 9, 8]),
    ]


def test_a_case_has_the_chains_of_all_its_views() -> None:
    case = working(scan(ellipsoids()), ellipsoids(), [(0, 11), (2, 15)])
    assert [(chain.view, chain.start.index) for chain in chains_of_case(case)] == [(0, 11), (0, 11), (2, 15), (2, 15)]


def test_the_nearer_view_weighs_more_and_no_weight_vanishes_far_away() -> None:
    distance = np.array([[1.0, 5000.0, np.inf], [2.0, 5001.0, 3.0]], dtype=np.float32).reshape(2, 1, 1, 3)
    weights = view_weights(distance, 0.5)[:, 0, 0]
    np.testing.assert_allclose(weights, [[2 / 3, 2 / 3, 0.0], [1 / 3, 1 / 3, 1.0]], rtol=1e-6)


def test_between_parallel_slices_the_two_around_count_and_the_nearer_more() -> None:
    case = working(scan(ellipsoids()), ellipsoids(), [(0, 4), (0, 8), (0, 12), (0, 20)])
    views = [view for view, planes in enumerate(case.slices) if planes]
    weights = parallel_weights(case, views)
    assert weights is not None
    assert weights.shape == (len(views), *case.shape)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, rtol=1e-6)
    column = {plane.index: weights[row, :, 3, 3] for row, view in enumerate(views) for plane in case.slices[view]}
    assert (column[4][4], column[8][8], column[12][12]) == (1.0, 1.0, 1.0)
    np.testing.assert_allclose((column[4][5], column[8][5]), (0.75, 0.25))
    first, second, third = (BEYOND ** (plane - 4) for plane in (4, 8, 12))
    np.testing.assert_allclose(column[4][0], first / (first + second + third), rtol=1e-5)


def test_slices_that_cross_are_not_parallel_and_one_view_needs_no_weights() -> None:
    case = working(scan(ellipsoids()), ellipsoids(), [(0, 11), (2, 15)])
    assert parallel_weights(case, [0, 2]) is None
    assert parallel_weights(case, [0]) is None


def test_between_parallel_slices_flow_follows_both() -> None:
    case = tube_case([(0, 1), (0, 4), (0, 7)])
    pseudo = run(make_propagator(FlowConfig()), case, held_out=False)
    found = pseudo.probability[1] > 0.5
    assert min(dice(found[index], tube()[index] > 0) for index in range(len(found))) > 0.9
