from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_rada.data import resampling
from napari_rada.data.resampling import block_mean, majority, mean_of, slabs, upsample, upsample_planes


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.integers(2, 40)] * 3), st.tuples(*[st.sampled_from([1, 2, 4])] * 3))
def test_upsampling_keeps_places_and_sums(shape: tuple[int, int, int], factors: tuple[int, int, int]) -> None:
    """A ramp stays a ramp away from the border: voxel centres are kept in place."""
    coarse = [-(-n // f) for n, f in zip(shape, factors, strict=True)]
    for axis in range(3):
        centres = (np.arange(coarse[axis]) + 0.5) * factors[axis] - 0.5
        ramp = np.broadcast_to(np.expand_dims(centres, [a for a in range(3) if a != axis]), coarse)
        full = upsample(np.stack([ramp, 1 - ramp]).astype(np.float32), factors, shape)
        assert full.shape == (2, *shape)
        expected = np.clip(np.arange(shape[axis]), centres[0], centres[-1])
        found = np.moveaxis(full[0], axis, -1).reshape(-1, shape[axis])
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-3)
        np.testing.assert_allclose(full.sum(axis=0), 1.0, atol=1e-3)


@pytest.mark.parametrize("factors", [(1, 1, 1), (4, 2, 1), (1, 2, 2), (2, 1, 4)])
def test_planes_are_those_of_the_whole(factors: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = np.random.default_rng(0).random((3, 5, 6, 7)).astype(np.float32)
    padding = (factors[0] // 2, factors[1] - 1, 0)
    z, y, x = (size * factor - before for size, factor, before in zip((5, 6, 7), factors, padding, strict=True))
    whole = upsample(coarse, factors, (z, y, x), padding)
    for planes in (slice(0, 1), slice(2, z), slice(z - 1, z)):
        found = upsample_planes(coarse, factors, (z, y, x), padding, planes)
        np.testing.assert_allclose(found, whole[:, planes], atol=1e-6)
    monkeypatch.setattr(resampling, "SLAB", 2 * y * x)
    np.testing.assert_allclose(upsample(coarse, factors, (z, y, x), padding), whole, atol=1e-6)


def test_slabs_cover_a_volume_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "SLAB", 100)
    assert list(slabs((5, 6, 7))) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(slabs((2, 60, 70))) == [slice(0, 1), slice(1, 2)]


def test_blocks_are_averaged_and_filled_up_with_copies_of_the_border() -> None:
    line = np.array([[[1.0, 3.0, 5.0, 7.0, 9.0]]], dtype=np.float32)
    np.testing.assert_array_equal(block_mean(line, (1, 1, 2)), [[[2.0, 6.0, 9.0]]])
    np.testing.assert_array_equal(block_mean(line, (1, 1, 2), (0, 0, 1)), [[[1.0, 4.0, 8.0]]])
    assert block_mean(line, (1, 1, 1)) is line


def test_the_majority_of_a_block_counts_and_of_equals_the_first() -> None:
    plane = np.array([[0, 1, 2, 2], [1, 1, 1, 1]], dtype=np.int16)
    np.testing.assert_array_equal(majority([plane], 3, (2, 2), (0, 0)), [[1, 1]])


def test_planes_vote_together_and_a_structure_that_one_of_two_shows_stays() -> None:
    one, other = np.array([[0, 2, 1, 0]], dtype=np.int16), np.array([[0, 0, 1, 2]], dtype=np.int16)
    np.testing.assert_array_equal(majority([one, other], 3, (1, 1), (0, 0)), [[0, 2, 1, 2]])
    np.testing.assert_array_equal(majority([one, other, other], 3, (1, 1), (0, 0)), [[0, 0, 1, 2]])
    np.testing.assert_array_equal(majority([one, other], 3, (1, 2), (0, 0)), [[0, 1]])


def test_a_mean_is_taken_in_the_first_array() -> None:
    arrays = [np.full(3, value, dtype=np.float32) for value in (1, 2, 6)]
    found = mean_of(iter(arrays))
    assert found is arrays[0]
    np.testing.assert_array_equal(found, 3.0)
