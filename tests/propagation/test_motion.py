"""Motion between slices: what moved by a known way is found, as scikit-image finds it; borders, flat slices, lines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.registration import optical_flow_ilk

from napari_rada.propagation.motion import motion, warped

WINDOW, WARPS, BORDER = 1.2, 3, 8


def texture(seed: int, shape: tuple[int, int] = (64, 80)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 3).astype(np.float32)
    return (noise - noise.min()) / np.ptp(noise)


@pytest.mark.parametrize("moved_by", [(0.0, 0.0), (1.5, 0.0), (0.0, -2.0), (3.0, 4.5)])
def test_a_shift_is_found(moved_by: tuple[float, float]) -> None:
    moving = texture(0)
    fixed = ndimage.shift(moving, (-moved_by[0], -moved_by[1]), order=1, mode="nearest")
    (flow,) = motion(np.stack([moving, fixed]), window=WINDOW, warps=WARPS)
    inside = flow[:, BORDER:-BORDER, BORDER:-BORDER]
    np.testing.assert_allclose(np.median(inside, axis=(1, 2)), moved_by, rtol=0.03, atol=0.05)


def test_it_is_the_flow_of_scikit_image_where_the_image_shows_motion() -> None:
    fixed, moving = texture(1), ndimage.shift(texture(1), (1.0, -0.5), order=1, mode="nearest") + 0.02 * texture(2)
    (flow,) = motion(np.stack([moving, fixed]), window=WINDOW, warps=WARPS)
    theirs = optical_flow_ilk(fixed, moving, radius=2, num_warp=WARPS, gaussian=True)
    away = np.abs(flow - theirs)[:, BORDER:-BORDER, BORDER:-BORDER]
    assert np.median(away) < 0.1
    assert np.quantile(away, 0.9) < 0.3


def test_slices_that_move_on_alike_tell_more_than_two_of_them() -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, (5, 64, 80))
    stack = np.stack([ndimage.shift(texture(0), (0.0, -1.0 * index), order=1, mode="nearest") for index in range(5)])
    noisy = (stack + noise).astype(np.float32)
    truth = np.array([0.0, 1.0])[:, None, None]

    def error(flow: np.ndarray) -> float:
        return float(np.abs(flow - truth)[:, BORDER:-BORDER, BORDER:-BORDER].mean())

    together = motion(noisy, window=WINDOW, warps=WARPS)[2]
    alone = motion(noisy[2:4], window=WINDOW, warps=WARPS)[0]
    assert error(together) < 0.8 * error(alone)


def test_a_flat_slice_shows_no_motion() -> None:
    flat = np.full((2, 40, 40), 0.3, dtype=np.float32)
    np.testing.assert_array_equal(motion(flat, window=WINDOW, warps=WARPS), 0.0)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1)])
def test_a_line_of_pixels_shows_no_motion(shape: tuple[int, int]) -> None:
    lines = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    flow = motion(lines, window=WINDOW, warps=WARPS)
    np.testing.assert_array_equal(flow, np.zeros((2, 2, *shape)))
    np.testing.assert_allclose(warped(lines, flow[0]), lines)


@pytest.mark.parametrize("shape", [(2, 2), (2, 9), (3, 40)])
def test_slices_smaller_than_a_window_are_no_error(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    flow = motion(images, window=2.0, warps=2)
    assert flow.shape == (2, 2, *shape)
    assert np.isfinite(flow).all()


def test_values_are_taken_from_where_the_motion_points() -> None:
    values = np.arange(20, dtype=np.float32).reshape(1, 4, 5)
    flow = np.zeros((2, 4, 5), dtype=np.float32)
    flow[0], flow[1] = 1.0, -0.5
    (found,) = warped(values, flow)
    expected = ndimage.map_coordinates(values[0], np.indices((4, 5)) + flow, order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=1e-5)
