"""Patches of a batch: swapped boxes take everything along, and nothing changes where they are off."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.training.test_augmentation import volume

from napari_rada.training.patches import BOX, Batch, PatchSampler

if TYPE_CHECKING:
    from torch import Tensor

PATCH = (16, 24, 24)


def sampler(cutmix: float, seed: int = 0) -> PatchSampler:
    """Two scans that differ in every voxel of everything that is known about them."""
    one = volume()
    assert one.pseudo is not None
    assert one.pseudo_distance is not None
    other = replace(
        one,
        image=one.image + 10.0,
        truth=one.truth + np.int16(10),
        views=one.views + np.uint8(10),
        pseudo=one.pseudo + np.int16(10),
        pseudo_distance=one.pseudo_distance + 10.0,
        name="other",
    )
    unlabelled = replace(volume(labelled=False), image=one.image + 20.0, name="unlabelled")
    rng = np.random.default_rng(seed)
    return PatchSampler(
        [one, other, unlabelled],
        PATCH,
        num_classes=2,
        centred=0.0,
        augment="none",
        prior_dropout=0.0,
        cutmix=cutmix,
        rng=rng,
    )


def mixed_batch(chosen: set[int] | None = None) -> Batch:
    """Return a batch whose first two patches come from different scans and are mixed, and an unlabelled one."""
    for seed in range(20):
        own = sampler(1.0, seed)
        batch = own.batch(2, 1, chosen)
        if len({place.split(" from ")[0] for place in own.last_batch().split("; ")[:2]}) == 2:
            return batch
    raise AssertionError("no two different scans were drawn")


def from_other(values: Tensor) -> Tensor:
    """Where values are those of the scan named other."""
    return values >= 8


def test_a_box_is_swapped_with_all_that_is_known_there() -> None:
    batch = mixed_batch()
    inside = from_other(batch.image_BDHW[:2])
    assert torch.equal(inside[0], ~inside[1])
    box = inside[0] if not inside[0, 0, 0, 0] else inside[1]
    for values in (batch.truth_BDHW, batch.views_BDHW, batch.pseudo_BNDHW[:, 0], batch.distance_BNDHW[:, 2]):
        torch.testing.assert_close(from_other(values[:2]), inside)
    sides = [int(box.nonzero()[:, axis].unique().numel()) for axis in range(3)]
    assert int(box.sum()) == prod(sides)
    for length, side in zip(sides, PATCH, strict=True):
        assert round(BOX[0] * side) <= length <= round(BOX[1] * side)


def test_unlabelled_patches_stay_whole() -> None:
    assert bool((mixed_batch().image_BDHW[2] >= 18.0).all())


@pytest.mark.parametrize("chosen", [{0}, {1, 2}])
def test_a_share_of_a_mixed_batch_is_that_part_of_the_whole(chosen: set[int]) -> None:
    whole, part = mixed_batch(), mixed_batch(chosen)
    for values, own in zip(whole, part, strict=True):
        torch.testing.assert_close(values[sorted(chosen)], own)


@pytest.mark.parametrize(("cutmix", "labelled"), [(0.0, 2), (1.0, 1)])
def test_without_a_share_or_a_second_patch_nothing_is_swapped(cutmix: float, labelled: int) -> None:
    own = sampler(cutmix)
    for _ in range(5):
        for image in own.batch(labelled, 0).image_BDHW:
            assert from_other(image).all() or not from_other(image).any()


def test_the_share_says_how_many_batches_are_mixed() -> None:
    own, mixed, unlike = sampler(0.5), 0, 0
    for _ in range(200):
        image = own.batch(2, 0).image_BDHW
        inside = from_other(image).float().mean(dim=(1, 2, 3))
        mixed += bool((inside > 0).all() and (inside < 1).all())
        unlike += len({place.split(" from ")[0] for place in own.last_batch().split("; ")}) == 2
    assert 0.3 < mixed / unlike < 0.7
