"""Deformation of patches: everything moves together, names stay names, the seed decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine import ball, ball_image

from napari_rada.data.classes import UNKNOWN
from napari_rada.training.augmentation import Deformation, vary_intensity
from napari_rada.training.objective import Knobs, clean_uncertainty, network_losses
from napari_rada.training.patches import OUTSIDE, PatchSampler
from napari_rada.training.volumes import Volume

PATCH = (16, 24, 24)


def volume(*, labelled: bool = True) -> Volume:
    """Return a ball, dense labels as truth in one slice per axis; the image is the ball without noise."""
    labels = ball().astype(np.int16)
    truth, views = np.full(labels.shape, UNKNOWN, dtype=np.int16), np.zeros(labels.shape, dtype=np.uint8)
    for axis, index in enumerate((10, 13, 12)):
        where = tuple(index if other == axis else slice(None) for other in range(3))
        truth[where] = labels[where]
        views[where] |= 1 << axis
    pseudo = np.stack([labels] * 3) if labelled else None
    distance = np.full((3, *labels.shape), 2.0, dtype=np.float32) if labelled else None
    spacing = (1.0, 1.0, 1.0)
    image = labels.astype(np.float32)
    return Volume(image, truth, views, pseudo, distance, None, None, {}, spacing, "ball", labelled)


def sampler(seed: int = 0, *, patch: tuple[int, int, int] = PATCH, labelled: bool = True) -> PatchSampler:
    volumes = [volume(), volume(labelled=labelled)]
    return PatchSampler(
        volumes, patch, num_classes=2, centred=0.5, augment="deform", prior_dropout=0.0, rng=np.random.default_rng(seed)
    )


def test_no_deformation_is_the_identity() -> None:
    same = Deformation(PATCH, np.eye(3), (0, 0, 0))
    window = torch.rand(2, *same.window)
    inner = tuple(
        slice((wide - side) // 2, (wide - side) // 2 + side) for wide, side in zip(same.window, PATCH, strict=True)
    )
    for linear in (True, False):
        torch.testing.assert_close(same.apply(window, linear=linear), window[(slice(None), *inner)])
    assert same.corner((5, 6, 7), (20, 20, 20)) == (4, 5, 6)


def test_a_point_goes_where_the_matrix_says() -> None:
    scaled = Deformation((9, 9, 9), np.diag([2.0, 1.0, 1.0]), (0, 0, 0))
    depth, height, width = scaled.window
    ramp = torch.arange(depth, dtype=torch.float32)[:, None, None].expand(depth, height, width)
    steps = scaled.apply(ramp, linear=True)[:, 4, 4].diff()
    torch.testing.assert_close(steps, torch.full((8,), 2.0))


def test_rotation_is_in_millimetres() -> None:
    rng = np.random.default_rng(0)
    spacing = np.asarray((5.0, 1.0, 1.0))
    matrix = Deformation.draw(rng, PATCH, (5.0, 1.0, 1.0)).matrix
    in_mm = spacing[:, None] * matrix / spacing
    lengths = np.linalg.norm(in_mm, axis=0)
    turn = in_mm / lengths
    np.testing.assert_allclose(turn.T @ turn, np.eye(3), atol=1e-12)
    assert np.all((lengths > 0.7) & (lengths < 1.4))


def test_labels_stay_labels_and_unknown_stays_unknown() -> None:
    batch = sampler(labelled=False).batch(3, 2)
    assert set(batch.truth_BDHW.unique().tolist()) == {OUTSIDE, UNKNOWN, 0, 1}
    assert set(batch.pseudo_BNDHW.unique().tolist()) == {0, 1}
    assert set(batch.views_BDHW.unique().tolist()) <= set(range(8))
    assert torch.equal(batch.truth_BDHW < 0, batch.views_BDHW == 0)
    assert set(batch.distance_BNDHW[:3].unique().tolist()) <= {2.0, torch.inf}
    assert bool(torch.isinf(batch.distance_BNDHW[3:]).all())


def test_image_and_labels_move_together() -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        deformation = Deformation.draw(rng, PATCH, (1.0, 1.0, 1.0))
        window = torch.from_numpy(ball(deformation.window).astype(np.float32))
        image, labels = deformation.apply(window, linear=True), deformation.apply(window.long(), linear=False)
        assert labels.dtype == torch.int64
        assert ((image > 0.5) != (labels == 1)).float().mean() < 0.02
        assert 0.01 < labels.float().mean() < 0.5


def test_beyond_the_border_nothing_is_known_and_nobody_teaches() -> None:
    batch = sampler(patch=(40, 40, 40)).batch(1, 0)
    beyond = torch.isinf(batch.distance_BNDHW[:, 0])
    assert bool(beyond.any())
    assert bool((batch.truth_BDHW[beyond] == OUTSIDE).all())
    assert bool((batch.truth_BDHW[~beyond] != OUTSIDE).all())
    assert not bool(batch.views_BDHW[beyond].any())


def test_networks_teach_each_other_inside_the_volume_only() -> None:
    batch = sampler(patch=(40, 40, 40)).batch(1, 0)
    logits = torch.randn(3, 1, 2, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    knobs, pairs = Knobs(alpha=0.9, beta=0.1, threshold=10.0, pseudo_weight=1.0), ((2, 1), (0, 2), (1, 0))
    beyond = (batch.truth_BDHW == OUTSIDE)[None, :, None]
    changed = torch.where(beyond, torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)), logits)
    one, other = (
        network_losses(each, batch, 1, pairs, knobs, clean_uncertainty(each, 0), first_taught=0)
        for each in (logits, changed)
    )
    for before, after in zip(one, other, strict=True):
        torch.testing.assert_close(before.supervised, after.supervised)
        torch.testing.assert_close(before.cross, after.cross)


def test_the_seed_decides() -> None:
    first, again, other = (sampler(seed).batch(2, 2) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.image_BDHW, other.image_BDHW)


def test_intensities_change_and_stay_finite() -> None:
    image = torch.from_numpy(ball_image(ball()))
    varied = [vary_intensity(image, seed) for seed in range(5)]
    for one in varied:
        assert type(one) is torch.Tensor
        assert one.shape == image.shape
        assert one.dtype == torch.float32
        assert bool(torch.isfinite(one).all())
        assert np.corrcoef(one.flatten(), image.flatten())[0, 1] > 0.7
    assert not torch.equal(varied[0], varied[1])


@pytest.mark.parametrize("size", [1, 8])
def test_a_flat_scan_is_no_problem(size: int) -> None:
    flat = volume()
    cut = {
        name: getattr(flat, name)[..., 10 : 10 + size, :, :]
        for name in ("image", "truth", "views", "pseudo", "pseudo_distance")
    }
    patches = PatchSampler(
        [replace(flat, **cut)],
        PATCH,
        num_classes=2,
        centred=0.5,
        augment="deform",
        prior_dropout=0.0,
        rng=np.random.default_rng(0),
    )
    assert patches.batch(1, 1).image_BDHW.shape == (2, *PATCH)


@pytest.mark.parametrize("slices", [1, 3, 8])
def test_a_thin_stack_is_always_in_the_window(slices: int) -> None:
    rng, shape = np.random.default_rng(0), (slices, 60, 60)
    for _ in range(300):
        deformation = Deformation.draw(rng, (64, 96, 96), (10.0, 1.5, 1.5))
        ends = zip(deformation.corner((0, 0, 0), shape), deformation.window, shape, strict=True)
        assert all(min(first + wide, size) > max(first, 0) for first, wide, size in ends)
