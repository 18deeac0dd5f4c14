"""Slice-by-slice optical flow: it follows what moves, fuses the views and can be stopped."""

from __future__ import annotations

import numpy as np
import pytest
from tests.propagation.scenes import dice, ellipsoids, run, scan, working
from tests.propagation.test_registration import THREE, tube, tube_case

from napari_rada.config import FlowConfig
from napari_rada.control import RunControl
from napari_rada.data.classes import UNKNOWN
from napari_rada.errors import Stopped
from napari_rada.propagation import make_propagator
from napari_rada.propagation.flow import FlowPropagator


def test_a_tube_that_moves_and_deforms_is_followed() -> None:
    case, truth = tube_case([(0, 4)]), tube() > 0
    pseudo = run(make_propagator(FlowConfig()), case, held_out=True)
    carried, kept_in_place = pseudo.labels[0] > 0, np.broadcast_to(truth[4], truth.shape)
    for index in (0, 8):
        assert dice(carried[index], truth[index]) > 0.9
        assert dice(kept_in_place[index], truth[index]) < 0.75
    assert pseudo.held_out == (None, None, None)
    assert not pseudo.labels[1:].any()
    np.testing.assert_array_equal(pseudo.probability.argmax(axis=0), pseudo.labels[0])


def test_views_are_fused_and_the_annotation_is_exact() -> None:
    case = tube_case(THREE, spacing=(2.0, 1.0, 1.0))
    pseudo = run(make_propagator(FlowConfig()), case, held_out=True)
    known = case.truth != UNKNOWN
    np.testing.assert_array_equal(pseudo.probability[:, known], np.eye(2, dtype=np.float32)[case.truth[known]].T)
    for probability in (pseudo.probability, *pseudo.held_out):
        assert probability is not None
        np.testing.assert_allclose(probability.sum(axis=0), 1.0, atol=1e-5)
    assert dice(pseudo.probability[1] > 0.5, tube() > 0) > 0.9
    for view, planes in enumerate(case.slices):
        for plane in planes:
            np.testing.assert_array_equal(pseudo.labels[view][plane.selector()], case.truth[plane.selector()])


def test_a_held_out_view_has_no_say() -> None:
    case = tube_case(THREE)
    changed = np.where(case.views == 1, 1 - tube(), tube()).astype(np.uint16)
    first, second = (
        run(make_propagator(FlowConfig()), made, held_out=True) for made in (case, tube_case(THREE, labels=changed))
    )
    np.testing.assert_array_equal(first.held_out[0], second.held_out[0])
    assert not np.array_equal(first.probability, second.probability)


def test_several_classes_are_carried_together() -> None:
    labels = ellipsoids()
    pseudo = run(make_propagator(FlowConfig()), working(scan(labels), labels))
    found = pseudo.probability.argmax(axis=0)
    for value in (1, 2):
        assert dice(found == value, labels == value) > 0.85


def test_a_large_scan_is_carried_on_a_coarse_grid_and_brought_back() -> None:
    labels = (ellipsoids() > 0).astype(np.uint16)
    case = working(scan(labels), labels)
    pseudo = run(make_propagator(FlowConfig(max_voxels=4096)), case, held_out=True)
    assert pseudo.probability.shape == (2, *case.shape)
    assert pseudo.labels.shape == (3, *case.shape)
    assert dice(pseudo.probability[1] > 0.5, labels > 0) > 0.85


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_a_scan_of_two_slices_is_carried(thin: int) -> None:
    labels = np.zeros((12, 12, 12), dtype=np.uint16)
    labels[3:9, 3:9, 3:9] = 1
    labels = labels.take([5, 6], thin)
    other = (thin + 1) % 3
    pseudo = run(make_propagator(FlowConfig()), working(scan(labels), labels, [(other, 5)]))
    assert dice(pseudo.probability[1] > 0.5, labels > 0) > 0.5


def test_a_line_of_pixels_shows_no_motion() -> None:
    line = np.arange(5, dtype=np.float32)[None]
    np.testing.assert_array_equal(FlowPropagator(FlowConfig()).origins(line, line[:, ::-1]), np.indices((1, 5)))


def test_an_empty_annotated_slice_spreads_nothing_and_costs_nothing() -> None:
    told: list[tuple[int, int]] = []
    case = tube_case([(0, 4), (1, 0)])
    pseudo = make_propagator(FlowConfig()).propagate(
        case, held_out=False, control=RunControl(), on_progress=lambda *step: told.append(step)
    )
    assert not pseudo.labels[1].any()
    assert told[-1] == (8 + 47, 8 + 47)
    assert len(told) == 1 + 8 + 1


def test_a_stop_is_seen_after_the_slice_at_work() -> None:
    control = RunControl()
    told: list[tuple[int, int]] = []

    def stop_after_two(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            control.stop()

    with pytest.raises(Stopped):
        make_propagator(FlowConfig()).propagate(
            tube_case([(0, 4)]), held_out=False, control=control, on_progress=stop_after_two
        )
    assert told == [(0, 8), (1, 8), (2, 8)]
