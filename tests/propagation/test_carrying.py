"""Where annotated slices are carried to, and how views are weighed."""

from __future__ import annotations

import numpy as np
from tests.propagation.scenes import ellipsoids, scan, working

from napari_rada.data.slices import AnnotatedSlice
from napari_rada.propagation.carrying import chains_of_case, chains_of_view, view_weights


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
