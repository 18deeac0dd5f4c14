"""What was found on a coarse grid follows the edges of the image, and every class keeps its size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_rada.control import RunControl
from napari_rada.data import resampling
from napari_rada.data.resampling import block_mean, upsample
from napari_rada.errors import Stopped
from napari_rada.inference import edges
from napari_rada.inference.blending import size_like
from napari_rada.inference.edges import follow_edges

SHAPE = (24, 28, 32)
CUBIC = (1.0, 1.0, 1.0)


def balls(*centres: tuple[int, int, int]) -> np.ndarray:
    """Class index of balls of radius 7."""
    grid, found = np.indices(SHAPE), np.zeros(SHAPE, dtype=np.int16)
    for index, centre in enumerate(centres, start=1):
        away = sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True))
        found[away <= 49] = index
    return found


def image_of(index: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Image 0..1 in which every class has its own brightness."""
    grey = np.random.default_rng(0).normal(0.0, noise, index.shape) + 0.3 + 0.2 * index
    return np.clip(grey, 0.0, 1.0).astype(np.float32)


def seen_coarsely(index: np.ndarray) -> np.ndarray:
    """Probability (C, z, y, x) interpolated from blocks of 4 voxels."""
    one_hot = np.stack([index == value for value in range(index.max() + 1)]).astype(np.float32)
    coarse = np.stack([block_mean(values, (4, 4, 4)) for values in one_hot])
    return upsample(coarse, (4, 4, 4), index.shape)


def follow(probability: np.ndarray, image: np.ndarray, spacing: tuple[float, float, float] = CUBIC) -> np.ndarray:
    found = probability.copy()
    follow_edges(found, image, spacing, RunControl())
    return found


def dice(probability: np.ndarray, index: np.ndarray) -> float:
    found = probability.argmax(axis=0)
    both = ((found == index) & (index > 0)).sum()
    return float(2 * both / ((found > 0).sum() + (index > 0).sum()))


@pytest.mark.parametrize("centres", [[(11, 13, 15)], [(11, 10, 9), (12, 17, 22)]])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_boundary_moves_to_the_edge(centres: list[tuple[int, int, int]], noise: float) -> None:
    truth = balls(*centres)
    one_hot = np.stack([truth == value for value in range(truth.max() + 1)]).astype(np.float32)
    before = seen_coarsely(truth)
    size_like(before, one_hot)  # coarse balls are smaller
    after = follow(before, image_of(truth, noise))
    wrong = [1.0 - dice(found, truth) for found in (before, after)]
    assert wrong[1] < 0.8 * wrong[0]


@pytest.mark.parametrize("centres", [[(11, 13, 15)], [(11, 10, 9), (12, 17, 22)]])
def test_it_stays_a_probability_and_every_class_keeps_its_size(centres: list[tuple[int, int, int]]) -> None:
    truth = balls(*centres)
    before = seen_coarsely(truth)
    after = follow(before, image_of(truth, 0.1))
    np.testing.assert_allclose(after.sum(axis=0), 1.0, atol=1e-5)
    assert after.min() >= 0.0
    sizes = [np.bincount(found.argmax(axis=0).ravel()) for found in (before, after)]
    np.testing.assert_allclose(sizes[1], sizes[0], rtol=0.02)
    assert not np.allclose(after, before, atol=0.05)


def test_without_edges_it_is_averaged() -> None:
    truth = balls((11, 13, 15))
    speckled = np.clip(truth + np.random.default_rng(1).normal(0, 0.4, SHAPE), 0.05, 0.95).astype(np.float32)
    before = np.stack([1 - speckled, speckled])
    after = follow(before, np.full(SHAPE, 0.5, dtype=np.float32))
    assert np.isfinite(after).all()
    assert dice(after, truth) > dice(before, truth) + 0.05


def test_the_noisier_the_image_the_less_an_edge_counts() -> None:
    step = np.zeros(SHAPE, dtype=np.float32)
    step[:, :, 16:] = 1.0
    image = 0.4 + 0.2 * step
    blurred = ndimage.gaussian_filter1d(step, 1.5, axis=2).clip(0.02, 0.98)
    before = np.stack([1 - blurred, blurred])
    steepness = []
    for noise in (0.0, 0.05, 0.2):
        noisy = np.clip(image + np.random.default_rng(0).normal(0, noise, SHAPE), 0, 1).astype(np.float32)
        after = follow(before, noisy)[1].mean(axis=(0, 1))
        steepness.append(float(after[16] - after[15]))
    assert steepness[0] > steepness[1] > steepness[2] > 0


def test_slices_that_lie_far_apart_are_not_averaged() -> None:
    truth = balls((11, 13, 15))
    before = seen_coarsely(truth)
    changed = before.copy()
    changed[:, 12] = 0.5
    image = image_of(truth)
    apart = [edges._followed(found, image, edges._window((3.0, 1.0, 1.0)), RunControl()) for found in (before, changed)]
    np.testing.assert_array_equal(np.delete(apart[0], 12, axis=1), np.delete(apart[1], 12, axis=1))
    near = [edges._followed(found, image, edges._window(CUBIC), RunControl()) for found in (before, changed)]
    assert not np.allclose(np.delete(near[0], 12, axis=1), np.delete(near[1], 12, axis=1), atol=0.01)


@pytest.mark.parametrize("planes", [1, 5, 24])
def test_slab_by_slab_it_is_the_same(planes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = balls((11, 10, 9), (12, 17, 22))
    before, image = seen_coarsely(truth), image_of(truth, 0.05)
    whole = follow(before, image)
    monkeypatch.setattr(resampling, "SLAB", planes * SHAPE[1] * SHAPE[2])
    np.testing.assert_allclose(follow(before, image), whole, atol=1e-4)


def test_a_sample_is_enough_for_noise_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = balls((11, 10, 9), (12, 17, 22))
    before, image = seen_coarsely(truth), image_of(truth, 0.05)
    whole = follow(before, image)
    monkeypatch.setattr(edges, "SAMPLE", 3000)
    sizes = [np.bincount(found.argmax(axis=0).ravel()) for found in (whole, follow(before, image))]
    np.testing.assert_allclose(sizes[1], sizes[0], rtol=0.05)


@pytest.mark.parametrize("shape", [(2, 28, 32), (24, 2, 2), (1, 28, 32)])
@pytest.mark.parametrize("spacing", [CUBIC, (5.0, 1.0, 1.0)])
def test_thin_stacks_and_classes_that_are_not_there(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    foreground = np.random.default_rng(0).uniform(0.2, 0.8, shape).astype(np.float32)
    before = np.stack([1 - foreground, foreground, np.zeros(shape, dtype=np.float32)])
    after = follow(before, foreground, spacing)
    assert np.isfinite(after).all()
    np.testing.assert_allclose(after.sum(axis=0), 1.0, atol=1e-5)
    assert not (after.argmax(axis=0) == 2).any()


def test_what_is_sure_is_left_as_it_is() -> None:
    truth = balls((11, 13, 15))
    sure = np.stack([truth == 0, truth == 1]).astype(np.float32)
    np.testing.assert_array_equal(follow(sure, image_of(truth, 0.1)), sure)


def test_stopped_it_leaves_everything_as_it_was() -> None:
    control = RunControl()
    control.stop()
    truth = balls((11, 13, 15))
    before = seen_coarsely(truth)
    kept = before.copy()
    with pytest.raises(Stopped):
        follow_edges(before, image_of(truth), CUBIC, control)
    np.testing.assert_array_equal(before, kept)
