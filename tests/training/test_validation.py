"""What networks are judged by, where somebody annotated and they were not taught."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine import tiny_config

from napari_rada.training.validation import as_judged
from napari_rada.training.volumes import HeldOutView


@pytest.fixture
def held_out() -> HeldOutView:
    propagation = np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]], dtype=np.float32)
    return HeldOutView((), np.zeros((3, 3), np.intp), np.zeros(3, np.int16), propagation)


def test_networks_that_see_the_image_alone_are_judged_alone(held_out: HeldOutView) -> None:
    config = tiny_config(model__completion=False, inference__blend=0.2, inference__keep_size=True)
    said = np.array([[0.3, 0.4, 0.6], [0.7, 0.6, 0.4]], dtype=np.float32)
    np.testing.assert_array_equal(as_judged(said.copy(), held_out, config), said)


def test_networks_that_complete_a_propagation_are_judged_with_it(held_out: HeldOutView) -> None:
    config = tiny_config(
        model__completion=True, inference__blend=0.25, inference__corrections=False, inference__keep_size=False
    )
    said = np.array([[0.3, 0.4, 0.6], [0.7, 0.6, 0.4]], dtype=np.float32)
    expected = 0.25 * said + 0.75 * held_out.propagation
    np.testing.assert_allclose(as_judged(said.copy(), held_out, config), expected, atol=1e-6)
