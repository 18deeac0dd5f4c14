"""Which slice is suggested."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada.data.slices import AnnotatedSlice
from napari_rada.inference.suggest import suggest_slice

SHAPE = (30, 40, 20)


def doubt_at(*places: tuple[slice | int, ...]) -> np.ndarray:
    doubt = np.zeros(SHAPE, dtype=np.float32)
    for place in places:
        doubt[place] = 0.5
    return doubt


@pytest.mark.parametrize(("axis", "index"), [(0, 12), (1, 31), (2, 7)])
def test_a_plane_full_of_doubt_is_suggested(axis: int, index: int) -> None:
    where: list[slice | int] = [slice(5, 15)] * 3
    where[axis] = index
    found = suggest_slice(doubt_at(tuple(where)), [])
    assert found.plane == AnnotatedSlice(axis, index)
    assert found.score == pytest.approx(1.0)


def test_it_lies_in_the_middle_of_the_doubt_and_not_where_a_single_slice_has_most() -> None:
    doubt = doubt_at((slice(4, 9), slice(5, 35), slice(5, 6)), (20, slice(0, 34), slice(5, 6)))
    assert doubt[20].sum() > max(doubt[index].sum() for index in range(4, 9))
    found = suggest_slice(doubt, [AnnotatedSlice(2, 5)])
    assert found.plane == AnnotatedSlice(0, 6)
    assert 0 < found.score < 1


def test_annotated_slices_are_not_suggested_again() -> None:
    doubt = doubt_at((slice(10, 15), slice(10, 15), slice(5, 10)))
    taken: list[AnnotatedSlice] = []
    for _ in range(15):
        plane = suggest_slice(doubt, taken).plane
        assert plane not in taken
        taken.append(plane)
    assert {plane.axis for plane in taken[:3]} == {0, 1, 2}


def test_doubt_that_cancels_out_is_none() -> None:
    doubt = doubt_at((0, 0, 0))
    doubt[-1, -1, -1] = -0.5
    assert suggest_slice(doubt, []) == suggest_slice(np.zeros(SHAPE, dtype=np.float32), [])


def test_no_score_exceeds_one() -> None:
    for seed in range(20):
        doubt = np.zeros((40, 60, 50), dtype=np.float32, order="F")
        doubt[:, :, seed] = np.random.default_rng(seed).random((40, 60), dtype=np.float32) ** 9
        assert 0.99 < suggest_slice(doubt, []).score <= 1.0


def test_without_any_doubt_the_score_is_nothing_and_the_slice_one_in_the_middle() -> None:
    found = suggest_slice(np.zeros(SHAPE, dtype=np.float32), [])
    assert found.score == 0.0
    assert found.plane.index in {(size - 1) // 2 for size in SHAPE} | {size // 2 for size in SHAPE}
    assert suggest_slice(np.zeros(SHAPE, dtype=np.float32), [found.plane]).plane != found.plane
