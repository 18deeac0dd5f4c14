"""Synthetic scans."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_rada.pretraining.fields import CURVE_POINTS, rotation, smooth_noise, tube
from napari_rada.pretraining.scenes import LEAST_VOXELS, SIDES, make_scene


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(np.random.default_rng(seed)) for seed in range(12)]


def test_a_seed_gives_the_same_scan_and_another_seed_another():
    first, again, other = (make_scene(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


def test_every_scan_shows_one_structure_with_something_around_it(scenes):
    for scene in scenes:
        assert scene.image.shape == scene.mask.shape
        assert max(scene.mask.shape) <= SIDES[1]
        assert scene.mask.sum() >= LEAST_VOXELS
        assert scene.mask.mean() < 0.6
        assert ndimage.label(scene.mask)[1] == 1


def test_intensities_are_finite_and_fill_the_range(scenes):
    for scene in scenes:
        assert scene.image.dtype == np.float32
        assert np.isfinite(scene.image).all()
        assert scene.image.min() == 0.0
        assert scene.image.max() == 1.0


def test_scans_differ_in_spacing_and_contrast(scenes):
    assert len({scene.spacing for scene in scenes}) > 4
    contrast = [scene.image[scene.mask].mean() - scene.image[~scene.mask].mean() for scene in scenes]
    assert min(contrast) < 0 < max(contrast)


def test_noise_is_smooth_over_its_wavelength():
    rng = np.random.default_rng(0)
    extent = np.full(3, 2.0)
    coarse, fine = (smooth_noise(rng, extent, (40, 40, 40), wavelength) for wavelength in (1.0, 0.1))
    steps = [np.abs(np.diff(noise, axis=0)).mean() for noise in (coarse, fine)]
    assert steps[0] < 0.3 * steps[1]
    assert coarse.std() == pytest.approx(1.0, abs=0.01)


def test_a_tube_is_negative_along_its_curve_only():
    axis = np.linspace(-1, 1, 21, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    curve = np.stack([np.linspace(-1, 1, CURVE_POINTS), np.zeros(CURVE_POINTS), np.zeros(CURVE_POINTS)], 1)
    level = tube(points, curve.astype(np.float32), np.full(CURVE_POINTS, 0.25, np.float32))
    assert (level[:, 10, 10] < 0).all()
    assert (level[:, 0, 10] > 0).all()


def test_rotations_keep_lengths():
    turn = rotation(np.random.default_rng(0))
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-6)
