"""What was scanned: found from the border inwards, and block by block."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_rada.data.scanned import Extent, scanned_box
from napari_rada.inference.window import boxes

NOISE = np.random.default_rng(0).normal(500, 100, (6, 7, 8)).astype(np.float32)
WIDTHS = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 3)
SIDES = st.tuples(*[st.integers(1, 5)] * 3)


@pytest.mark.parametrize("below", [0, 3000])
def test_border_planes_of_the_darkest_value_are_left_out(below: int) -> None:
    padded = np.pad(NOISE, ((2, 0), (0, 3), (4, 1)), constant_values=NOISE.min() - below)
    assert scanned_box(padded) == ((2, 0, 4), (8, 7, 12))
    padded[0, 9, 0] += 1
    assert scanned_box(padded) == ((0, 0, 0), (8, 10, 12)), "these planes hold something else"


def test_a_volume_without_such_planes_is_whole_and_so_is_an_axis_of_which_one_plane_would_be_left() -> None:
    assert scanned_box(NOISE) == ((0, 0, 0), NOISE.shape)
    assert scanned_box(np.zeros((4, 5, 6), dtype=np.float32)) == ((0, 0, 0), (4, 5, 6))
    speck = np.zeros((4, 5, 6), dtype=np.float32)
    speck[2, 1:3, 5] = 1
    assert scanned_box(speck) == ((0, 1, 0), (4, 3, 6))
    inside = np.pad(NOISE, 2)
    inside[4] = 0
    assert scanned_box(inside) == ((2, 2, 2), (8, 9, 10)), "planes between others stay"


@given(arrays(np.int16, st.tuples(*[st.integers(2, 6)] * 3), elements=st.integers(0, 1)), SIDES)
def test_block_by_block_it_is_the_same(values: np.ndarray, side: tuple[int, int, int]) -> None:
    assert seen_in_blocks(values, side) == scanned_box(values.astype(np.float32))


@given(
    arrays(np.float64, (4, 4, 4), elements=st.sampled_from([0.0, -0.0, 1.0, -1e-60, np.nan, np.inf, -np.inf])), SIDES
)
def test_voxels_that_are_not_finite_are_the_darkest(values: np.ndarray, side: tuple[int, int, int]) -> None:
    image = values.astype(np.float32)
    finite = np.isfinite(image)
    replaced = np.where(finite, image, image[finite].min() if finite.any() else 0)
    assert seen_in_blocks(values, side) == scanned_box(replaced)


@given(WIDTHS, SIDES)
def test_blocks_that_lie_in_the_filling_tell_nothing_of_the_others(
    widths: tuple[tuple[int, int], ...], side: tuple[int, int, int]
) -> None:
    padded = np.pad(NOISE, widths, constant_values=-3000)
    assert seen_in_blocks(padded, side) == scanned_box(padded)


def seen_in_blocks(values: np.ndarray, side: tuple[int, int, int]) -> object:
    shape = values.shape[0], values.shape[1], values.shape[2]
    parts = (
        Extent.of(values[tuple(slice(a, b) for a, b in zip(*box, strict=True))], box[0]) for box in boxes(shape, side)
    )
    return reduce(add, parts).box(shape)
