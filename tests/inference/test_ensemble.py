"""From what was found on one or two grids to a mask on the case's own."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine import ball_case

from napari_rada.control import RunControl
from napari_rada.data.case import check_trainable
from napari_rada.data.working import make_working_cases
from napari_rada.inference.edges import follow_edges
from napari_rada.inference.ensemble import Part, assemble, averaged

CASE = ball_case()
CLASSES = check_trainable([CASE])
GRIDS = make_working_cases(CASE, CLASSES, aligned=True, max_voxels=4096)


def part(number: int, *, doubted: bool = True) -> Part:
    rng = np.random.default_rng(number)
    foreground = rng.random(GRIDS[number].shape, dtype=np.float32)
    doubt = rng.random(GRIDS[number].shape, dtype=np.float32) if doubted else None
    return Part(GRIDS[number], np.stack([1 - foreground, foreground]), doubt)


def test_two_grids_are_averaged() -> None:
    both, first, second = (
        assemble(CASE, CLASSES, averaged(parts), keep_annotated=False, provenance={})
        for parts in ([part(0), part(1)], [part(0)], [part(1)])
    )
    assert not np.allclose(first.probability, second.probability, atol=0.1)
    np.testing.assert_allclose(both.probability, (first.probability + second.probability) / 2, atol=1e-6)
    for found in (both, first, second):
        assert found.disagreement is not None
        np.testing.assert_array_equal(found.mask, found.probability.argmax(axis=0))
    np.testing.assert_allclose(both.disagreement, (first.disagreement + second.disagreement) / 2, atol=1e-6)


@pytest.mark.parametrize("numbers", [[0], [0, 1]])
def test_what_was_painted_stays_and_is_not_doubted(numbers: list[int]) -> None:
    found = assemble(CASE, CLASSES, averaged([part(number) for number in numbers]), keep_annotated=True, provenance={})
    assert CASE.labels is not None
    assert found.disagreement is not None
    np.testing.assert_array_equal(found.mask[CASE.known], CASE.labels[CASE.known])
    assert not found.disagreement[CASE.known].any()
    assert found.disagreement.any()


def test_a_grid_that_is_not_coarsened_follows_edges_too_and_its_own_values_stay() -> None:
    (grid,) = make_working_cases(CASE, CLASSES, aligned=True)
    assert grid.factors == (1, 1, 1)
    foreground = np.random.default_rng(0).uniform(0.3, 0.7, grid.shape).astype(np.float32)
    probability = np.stack([1 - foreground, foreground])
    before = probability.copy()
    found = assemble(
        CASE, CLASSES, averaged([Part(grid, probability)]), keep_annotated=False, provenance={}, image_zyx=grid.image
    )
    np.testing.assert_array_equal(probability, before)
    expected = before.copy()
    follow_edges(expected, grid.image, CASE.grid.spacing, RunControl())
    np.testing.assert_array_equal(found.probability, expected)
    assert not np.allclose(expected, before, atol=0.05)


def test_edges_are_followed_from_what_was_painted() -> None:
    (grid,) = make_working_cases(CASE, CLASSES, aligned=True)
    even = np.full((2, *grid.shape), 0.5, dtype=np.float32)
    found = assemble(
        CASE, CLASSES, averaged([Part(grid, even.copy())]), keep_annotated=True, provenance={}, image_zyx=grid.image
    )
    assert CASE.labels is not None
    known = CASE.known
    even[:, known] = np.eye(2, dtype=np.float32)[CLASSES.encode(CASE.labels[known])].T
    follow_edges(even, grid.image, CASE.grid.spacing, RunControl())
    np.testing.assert_array_equal(found.probability[:, ~known], even[:, ~known])
    assert not np.allclose(even[:, ~known], 0.5, atol=0.1)


def test_without_doubts_there_is_no_map_of_them() -> None:
    parts = [part(0, doubted=False), part(1, doubted=False)]
    assert assemble(CASE, CLASSES, averaged(parts), keep_annotated=True, provenance={}).disagreement is None
