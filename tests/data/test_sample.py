"""The built-in sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from napari_rada.data.sample import make_sample
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from napari_rada.data.sample import Sample


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(InputError, match="must be a whole number, 0 or more; found"):
        make_sample(seed)


def test_the_same_seed_gives_the_same_scan(sample: Sample) -> None:
    again = make_sample(0)
    np.testing.assert_array_equal(again.case.image, sample.case.image)
    np.testing.assert_array_equal(again.truth, sample.truth)
    assert again.case.annotated == sample.case.annotated
    assert (make_sample(1).truth != sample.truth).any()


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_gives_one_organ_inside_the_volume(seed: int) -> None:
    truth = make_sample(seed).truth
    assert ndimage.label(truth)[1] == 1
    assert 0.02 < truth.mean() < 0.10
    assert truth[1:-1, 1:-1, 1:-1].sum() == truth.sum()


def test_the_largest_slice_of_each_axis_is_annotated(sample: Sample) -> None:
    case, truth = sample.case, sample.truth
    assert case.labels is not None
    assert [plane.axis for plane in case.annotated] == [0, 1, 2]
    for plane in case.annotated:
        areas = np.moveaxis(truth, plane.axis, 0).reshape(truth.shape[plane.axis], -1).sum(axis=1)
        assert areas[plane.index] == areas.max()
    np.testing.assert_array_equal(case.labels, np.where(case.known, truth, 0))


def test_geometry_is_that_of_an_axial_series(sample: Sample) -> None:
    grid = sample.case.grid
    assert grid.shape == sample.truth.shape == sample.case.image.shape
    assert grid.spacing == pytest.approx((2.5, 1.5, 1.5))
    assert [grid.plane_name(axis) for axis in range(3)] == ["axial", "coronal", "sagittal"]


def test_the_organ_cannot_be_had_by_a_threshold(sample: Sample) -> None:
    """Its neighbours look alike: the best intensity window, which no user knows, stays far from the truth."""
    image, truth = sample.case.image, sample.truth != 0
    middle, spread = image[truth].mean(), image[truth].std()
    best = 0.0
    for width in (0.5, 1.0, 1.5, 2.0):
        found = np.abs(image - middle) < width * spread
        best = max(best, 2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert best < 0.5
