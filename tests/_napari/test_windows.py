"""Windows for looking at CT."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from napari.layers import Image

from napari_rada._napari.windows import WINDOWS, apply_window, own_range, shown_window
from napari_rada.settings import CtWindow


def test_every_window_is_a_range():
    assert all(window.lower < window.upper for window in WINDOWS)


def test_they_are_those_of_the_guidance():
    assert {window.name for window in WINDOWS} == set(get_args(CtWindow))


def test_an_image_is_shown_in_a_window_and_in_its_own_range(image):
    lung = next(window for window in WINDOWS if window.name == "lung")
    assert apply_window(image, lung) == (-1350.0, 150.0)
    assert tuple(image.contrast_limits) == (-1350.0, 150.0)
    assert shown_window(image) is lung
    low, high = apply_window(image, None)
    assert np.percentile(image.data, 0.2) < low < 100 < high < np.percentile(image.data, 99.8)
    assert tuple(image.contrast_limits) == pytest.approx((low, high))
    assert shown_window(image) is None


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_range_is_found_in_odd_images(value):
    assert own_range(Image(np.full((3, 4, 5), value))) == (0.0, 1.0)
