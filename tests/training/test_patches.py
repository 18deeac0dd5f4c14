"""Where patches lie and how they are turned; what a deformation does to them is in test_augmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_rada.data.classes import UNKNOWN
from napari_rada.training.patches import OUTSIDE, PatchSampler
from napari_rada.training.volumes import HeldOutView, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.settings import Augment

SHAPE = (20, 20, 20)
FOREGROUND = (16, 3, 12)


def volume(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    """Return a scan whose values number its voxels, with one annotated foreground voxel."""
    truth = np.full(SHAPE, UNKNOWN, np.int16)
    truth[FOREGROUND] = 1
    return Volume(
        np.arange(8000, dtype=np.float32).reshape(SHAPE),
        truth,
        (truth >= 0).astype(np.uint8),
        np.zeros((3, *SHAPE), np.int16),
        np.zeros((3, *SHAPE), np.float32),
        None,
        None,
        {},
        spacing,
    )


def sampler(
    *,
    centred: float = 0.0,
    augment: Augment = "none",
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    patch: tuple[int, int, int] = (8, 8, 8),
    volumes: Sequence[Volume] = (),
    prior_dropout: float = 0.0,
) -> PatchSampler:
    return PatchSampler(
        volumes or [volume(spacing)],
        patch,
        num_classes=2,
        centred=centred,
        augment=augment,
        prior_dropout=prior_dropout,
        rng=np.random.default_rng(0),
    )


def test_centred_patches_hold_annotated_foreground() -> None:
    for draw in sampler(centred=1.0).draw(200, 0):
        inside = np.subtract(FOREGROUND, draw.place.corner)
        assert (inside >= 0).all()
        assert (inside < 8).all()


def test_centred_patches_do_not_all_have_it_in_the_same_place() -> None:
    assert len({draw.place.corner for draw in sampler(centred=1.0).draw(200, 0)}) > 20


def test_others_lie_anywhere_to_the_last_voxel() -> None:
    corners = np.array([draw.place.corner for draw in sampler().draw(500, 0)])
    assert (corners.min(axis=0) == 0).all()
    assert (corners.max(axis=0) == 12).all()


def test_a_patch_is_cut_where_it_was_drawn() -> None:
    cutter = sampler()
    draws = cutter.draw(5, 0)
    batch = cutter.cut(draws).to(torch.device("cpu"))
    for draw, image in zip(draws, batch.image_BDHW, strict=True):
        z, y, x = draw.place.corner
        np.testing.assert_array_equal(image, draw.volume.image[z : z + 8, y : y + 8, x : x + 8])


def test_a_patch_larger_than_the_volume_begins_with_it_and_is_padded() -> None:
    cutter = sampler(patch=(24, 8, 8))
    draws = cutter.draw(1, 0)
    assert draws[0].place.corner[0] == 0
    batch = cutter.cut(draws).to(torch.device("cpu"))
    assert (batch.truth_BDHW[0, 20:] == OUTSIDE).all()
    assert (batch.truth_BDHW[0, :20] != OUTSIDE).all()


@pytest.mark.parametrize(
    ("spacing", "patch", "planes"),
    [
        ((1.0, 1.0, 1.0), (8, 8, 8), {(0, 1), (0, 2), (1, 2)}),
        ((3.0, 1.0, 1.0), (8, 8, 8), {(1, 2)}),
        ((1.0, 1.0, 1.0), (8, 8, 10), {(0, 1)}),
        ((3.0, 1.0, 1.0), (8, 8, 10), set()),
    ],
)
def test_quarter_turns_stay_in_planes_of_square_pixels_and_square_patches(
    spacing: tuple[float, float, float], patch: tuple[int, int, int], planes: set[tuple[int, int]]
) -> None:
    draws = sampler(augment="flips", spacing=spacing, patch=patch).draw(100, 0)
    assert {draw.place.plane for draw in draws if draw.place.turns} == planes
    assert {axis for draw in draws for axis in draw.place.flips} == {0, 1, 2}


@pytest.mark.parametrize(("views", "folds"), [((0, 2), {0, 2}), ((), {3})])
def test_networks_are_given_the_propagation_without_a_view_where_one_can_be_held_out(
    views: tuple[int, ...], folds: set[int]
) -> None:
    batch = sampler(volumes=[given(views)]).batch(50, 0)
    assert set(batch.prior_BCDHW.unique().tolist()) == set(batch.cues_BJDHW.unique().tolist()) == folds


def test_networks_that_have_to_do_without_a_propagation_are_given_no_opinion() -> None:
    batch = sampler(volumes=[given((0, 2))], prior_dropout=1.0).batch(5, 0)
    assert (batch.prior_BCDHW == 0.5).all()
    assert (batch.cues_BJDHW == 0.0).all()


def given(views: tuple[int, ...]) -> Volume:
    """Return a scan whose propagations and cues are the numbers of their folds; some views can be held out."""
    folds = np.broadcast_to(np.arange(4, dtype=np.float16)[:, None, None, None, None], (4, 2, *SHAPE))
    nothing = HeldOutView((), np.empty((0, 3), np.intp), np.empty(0, np.int16), np.empty((2, 0), np.float32))
    return replace(volume(), prior=folds, cues=folds[:, :1], held_out=dict.fromkeys(views, nothing))
