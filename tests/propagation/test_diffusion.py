"""The random walker: exact on the annotation, honest when a view is held out, quick to stop."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.propagation.scenes import CENTRE, THREE, dice, ellipsoids, run, scan, working

from napari_rada.control import RunControl
from napari_rada.data.classes import UNKNOWN
from napari_rada.errors import Stopped
from napari_rada.propagation import make_propagator
from napari_rada.propagation.base import distance_to_slices
from napari_rada.propagation.diffusion import WEIGHT_FLOOR, Graph, _complete, solve, usual_step
from napari_rada.settings import DiffusionConfig

if TYPE_CHECKING:
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import PseudoLabels

LABELS = ellipsoids()
CASE = working(scan(LABELS), LABELS)


def diffuse(case: WorkingCase, *, held_out: bool = False, threads: int = 2, **settings: object) -> PseudoLabels:
    config = DiffusionConfig.model_validate(settings)
    return run(make_propagator(config, threads), case, held_out=held_out)


def test_every_class_is_found() -> None:
    pseudo = diffuse(CASE)
    found = pseudo.probability.argmax(axis=0)
    assert dice(found == 1, LABELS == 1) > 0.97
    assert dice(found == 2, LABELS == 2) > 0.97
    np.testing.assert_array_equal(pseudo.labels, found[None])
    assert pseudo.held_out == (None, None, None)


@pytest.mark.parametrize("max_voxels", [150_000, 4096])
def test_the_annotation_stays_exact_and_the_classes_sum_to_one(max_voxels: int) -> None:
    pseudo = diffuse(CASE, held_out=True, max_voxels=max_voxels)
    known = CASE.truth != UNKNOWN
    expected = np.eye(3, dtype=np.float32)[CASE.truth[known]].T
    np.testing.assert_array_equal(pseudo.probability[:, known], expected)
    for probability in (pseudo.probability, *pseudo.held_out):
        assert probability is not None
        assert probability.shape == (3, *CASE.shape)
        assert probability.dtype == np.float32
        assert probability.min() >= 0
        np.testing.assert_allclose(probability.sum(axis=0), 1.0, atol=1e-5)


def test_a_coarse_solution_comes_back_on_the_working_grid() -> None:
    found = diffuse(CASE, max_voxels=4096).probability.argmax(axis=0)
    assert found.shape == CASE.shape
    assert dice(found > 0, LABELS > 0) > 0.9


@pytest.mark.parametrize("max_voxels", [150_000, 4096])
@pytest.mark.parametrize("view", [0, 1, 2])
def test_a_held_out_view_has_no_say(view: int, max_voxels: int) -> None:
    changed = LABELS.copy()
    plane = changed.take(CENTRE[view], axis=view)
    index = [slice(None)] * 3
    index[view] = CENTRE[view]
    changed[tuple(index)] = np.random.default_rng(0).permutation(plane.ravel()).reshape(plane.shape)
    before = diffuse(CASE, held_out=True, max_voxels=max_voxels).held_out[view]
    other = working(scan(LABELS), changed)
    after = diffuse(other, held_out=True, max_voxels=max_voxels)
    np.testing.assert_array_equal(before, after.held_out[view])
    assert not np.array_equal(after.probability, diffuse(CASE, max_voxels=max_voxels).probability)


def test_a_held_out_view_is_predicted_by_the_others() -> None:
    held_out = diffuse(CASE, held_out=True).held_out[0]
    assert held_out is not None
    found = held_out[:, CENTRE[0]].argmax(axis=0)
    assert dice(found > 0, LABELS[CENTRE[0]] > 0) > 0.95


def test_a_single_slice_is_enough_but_cannot_be_held_out() -> None:
    pseudo = diffuse(working(scan(LABELS), LABELS, slices=[(0, CENTRE[0])]), held_out=True)
    assert dice(pseudo.probability.argmax(axis=0) > 0, LABELS > 0) > 0.5
    assert pseudo.held_out == (None, None, None)
    assert np.isfinite(pseudo.distance).any(axis=(1, 2, 3)).tolist() == [True, False, False]


def test_slices_of_one_axis_are_held_out_one_by_one() -> None:
    case = working(scan(LABELS), LABELS, slices=[(0, 6), (0, 11), (0, 16)])
    assert all(probability is not None for probability in diffuse(case, held_out=True).held_out)


def test_an_empty_annotated_slice_says_background() -> None:
    empty = 1
    case = working(scan(LABELS), LABELS, slices=[*THREE, (0, empty)])
    probability = diffuse(case).probability
    np.testing.assert_array_equal(probability[0, empty], 1.0)
    assert probability[0, 0].min() > 0.9


def test_only_background_annotated_gives_background_everywhere() -> None:
    case = working(scan(LABELS), LABELS)
    nothing = np.where(case.truth == UNKNOWN, UNKNOWN, 0).astype(np.int16)
    object.__setattr__(case, "truth", nothing)
    np.testing.assert_array_equal(diffuse(case).probability[0], 1.0)


def test_without_background_the_annotated_classes_share_everything() -> None:
    labels = LABELS + np.uint16(1)
    image = scan(labels)
    image[0, 0, 0] = 50.0
    case = working(image, labels)
    probability = diffuse(case).probability
    np.testing.assert_array_equal(probability[0], 0.0)
    np.testing.assert_allclose(probability.sum(axis=0), 1.0, atol=1e-5)
    assert dice(probability.argmax(axis=0) == 2, LABELS == 1) > 0.97


def test_where_no_walk_arrives_all_classes_with_seeds_are_equally_likely() -> None:
    probability = np.array([[0, 0], [0.3, 0], [0.1, 0], [0, 0]], dtype=np.float32)
    _complete(probability, np.array([1, 2], dtype=np.int16))
    np.testing.assert_allclose(probability, [[0, 0], [0.75, 0.5], [0.25, 0.5], [0, 0]])


def test_a_region_hardly_connected_counts_as_background() -> None:
    labels = np.zeros((16, 16, 16), dtype=np.uint16)
    labels[4:12, 4:12, 4:12] = 1
    image = scan(labels, noise=0.02)
    image[13:15, 13:15, 13:15] = 9.0
    case = working(image, labels, slices=[(0, 8), (1, 8), (2, 8)])
    assert diffuse(case, absorption=0.01).probability[0, 13:15, 13:15, 13:15].min() > 0.9


def test_millimetres_count_not_voxels() -> None:
    size = 15
    labels = np.zeros((size, 4, size), dtype=np.uint16)
    labels[0] = 1
    labels[:, :, 0] = 0
    image = np.full(labels.shape, 0.5, dtype=np.float32)
    image[-1, -1, -1], image[-1, 0, -1] = 0.51, 0.49
    slices = [(0, 0), (2, 0)]
    middle = [
        float(diffuse(working(image, labels, slices, spacing)).probability[1, 5, 2, 5])
        for spacing in ((4.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 4.0))
    ]
    assert middle[0] < 0.4 < middle[1] < 0.55 < 0.6 < middle[2]


def test_an_edge_conducts_less_the_longer_and_the_sharper_it_is() -> None:
    image = np.zeros((2, 3, 4), dtype=np.float32)
    image[:, :, 2:] = 1.0
    graph = Graph.of_image(image, (2.0, 1.0, 1.0), scale=0.5)
    conductance = graph.conductance_nn.toarray()
    across, along_x, along_z = conductance[[1, 0, 0], [2, 1, 12]]
    assert along_x == pytest.approx(1.0, abs=1e-3)
    assert along_z == pytest.approx(0.5, abs=1e-3)
    assert across < 0.01
    assert conductance[3, 4] == 0  # the end of a row does not touch the start of the next
    np.testing.assert_allclose(graph.degree_n, conductance.sum(axis=1), rtol=1e-6)


def test_how_sharp_an_edge_is_counts_against_the_usual_step_of_both_its_ends() -> None:
    image = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    usual = usual_step(image)
    kappa = 0.8 * (usual[0, 0, 0] + usual[0, 0, 1]) / 2
    expected = (1 + ((image[0, 0, 0] - image[0, 0, 1]) / kappa) ** 2) ** -2 + WEIGHT_FLOOR
    found = Graph.of_image(image, (1.0, 1.0, 1.0), scale=0.8).conductance_nn.toarray()[0, 1]
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_graph_is_made_in_little_more_memory_than_it_keeps() -> None:
    image = np.random.default_rng(0).random((32, 40, 48), dtype=np.float32)
    tracemalloc.start()
    try:
        graph = Graph.of_image(image, (2.0, 1.0, 1.0), scale=0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert graph.conductance_nn.data.nbytes == 6 * image.nbytes
    assert peak < 12 * image.nbytes


def test_what_is_usual_around_is_no_edge() -> None:
    image = np.zeros((8, 8, 64), dtype=np.float32)
    image[:, :, 32:] = np.random.default_rng(0).normal(0, 0.2, (8, 8, 32))
    image[:, :, 16:24] = 0.2
    usual = usual_step(image)
    assert usual[4, 4, 4] < 0.5 * usual[4, 4, 56]
    assert usual.min() > 0.0
    calm = Graph.of_image(image, (1.0, 1.0, 1.0), scale=0.5).degree_n.reshape(image.shape)[4, 4, 16]
    noisy = image.copy()
    noisy[:, :, :32] += np.random.default_rng(1).normal(0, 0.2, (8, 8, 32)).astype(np.float32)
    noisy[3:6, 3:6, 14:18] = image[3:6, 3:6, 14:18]
    assert Graph.of_image(noisy, (1.0, 1.0, 1.0), scale=0.5).degree_n.reshape(image.shape)[4, 4, 16] > calm


def test_the_result_depends_neither_on_chance_nor_on_threads() -> None:
    runs = [diffuse(CASE, held_out=True, threads=threads) for threads in (1, 2, 2)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].probability, other.probability)
        for mine, theirs in zip(runs[0].held_out, other.held_out, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_solution_is_that_of_the_equations() -> None:
    exact = diffuse(CASE, tolerance=1e-6).probability
    assert np.abs(diffuse(CASE).probability - exact).max() < 0.02


@pytest.mark.parametrize("absorption", [0.0, 0.2])
def test_the_solution_is_that_of_the_dense_equations_absorption_included(absorption: float) -> None:
    image = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    seeds = np.full(image.size, UNKNOWN, dtype=np.int16)
    seeds[[0, 7, 33]], seeds[[20, 59]] = 1, 0
    graph = Graph.of_image(image, (2.0, 1.0, 1.0), scale=0.8)
    step = (1.0 - absorption) * graph.conductance_nn.toarray().astype(float) / graph.degree_n[:, None]
    free, expected = seeds == UNKNOWN, (seeds == 1).astype(float)
    expected[free] = np.linalg.solve(
        np.eye(free.sum()) - step[np.ix_(free, free)], step[np.ix_(free, ~free)] @ expected[~free]
    )
    config = DiffusionConfig(absorption=absorption, tolerance=1e-7)
    found = solve(graph, seeds, 1, np.zeros(image.size, np.float32), config, RunControl())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_stop_ends_it_at_once() -> None:
    big = working(scan(ellipsoids((60, 60, 60))), ellipsoids((60, 60, 60)))
    control = RunControl()
    propagator = make_propagator(DiffusionConfig(max_voxels=300_000, tolerance=1e-12), 2)
    stopped_at = 0.0

    def stop(done: int, total: int) -> None:
        nonlocal stopped_at
        control.stop()
        stopped_at = time.monotonic()

    with pytest.raises(Stopped):
        propagator.propagate(big, held_out=True, control=control, on_progress=stop)
    assert time.monotonic() - stopped_at < 1.0


def test_progress_runs_from_nothing_to_all() -> None:
    told: list[tuple[int, int]] = []
    propagator = make_propagator(DiffusionConfig(), 1)
    propagator.propagate(CASE, held_out=True, control=RunControl(), on_progress=lambda *step: told.append(step))
    total = told[0][1]
    assert told == [(done, total) for done in range(total + 1)]


def test_distance_is_in_units_of_the_finest_spacing() -> None:
    case = working(scan(LABELS), LABELS, slices=[(0, 4), (0, 14), (2, 5)], spacing=(3.0, 1.5, 1.5))
    distance = distance_to_slices(case)
    np.testing.assert_allclose(distance[0, :, 0, 0][[4, 5, 9, 14, 16]], [0, 2, 10, 0, 4])
    np.testing.assert_allclose(distance[2, 0, 0], np.abs(np.arange(case.shape[2]) - 5))
    assert np.isinf(distance[1]).all()
