"""Slice-by-slice optical flow: several classes, coarse grids, thin scans; more in test_carrying."""

from __future__ import annotations

import numpy as np
import pytest
from tests.propagation.scenes import TUBE_THREE, dice, ellipsoids, run, scan, tube, tube_case, working

from napari_rada.data.classes import UNKNOWN
from napari_rada.propagation import flow, make_propagator
from napari_rada.propagation.motion import motion
from napari_rada.settings import FlowConfig


def test_views_are_fused_and_the_annotation_is_exact() -> None:
    case = tube_case(TUBE_THREE, spacing=(2.0, 1.0, 1.0))
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


def test_an_empty_slice_costs_no_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[int] = []

    def counted(slices: np.ndarray, *, window: float, warps: int) -> np.ndarray:
        pairs.append(len(slices) - 1)
        return motion(slices, window=window, warps=warps)

    monkeypatch.setattr(flow, "motion", counted)
    run(make_propagator(FlowConfig()), tube_case([(0, 4)]))
    needed = len(pairs)
    run(make_propagator(FlowConfig()), tube_case([(0, 4), (1, 0)]))
    assert len(pairs) == 2 * needed > 0


@pytest.mark.parametrize("together", [1, 2, 3])
def test_it_hardly_matters_how_many_slices_go_together(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tube that moves by 1.5 pixels a slice, annotated in the middle and carried both ways."""
    case, truth = tube_case([(0, 4)]), tube() > 0
    whole = run(make_propagator(FlowConfig()), case).probability[1]
    monkeypatch.setattr(flow, "BATCH_PIXELS", 1)
    monkeypatch.setattr(flow, "BATCH_SLICES", together)
    parts = run(make_propagator(FlowConfig()), case).probability[1]
    for half in (slice(0, 4), slice(5, None)):
        assert dice(whole[half] > 0.5, truth[half]) > 0.9
        assert dice(parts[half] > 0.5, truth[half]) > 0.9
        assert np.abs(parts[half] - whole[half]).mean() < 0.01
