"""Grids as napari shows them, and back."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada._napari.geometry import as_stored, grid_of_world, upright
from napari_rada.data.grid import Grid

SHAPE = (10, 20, 30)


def grid(directions: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> Grid:
    """Columns of `directions` are the RAS directions of the array axes (z, y, x)."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing)
    affine[:3, 3] = origin
    return Grid(SHAPE, affine)


RAS = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=float)
LPS = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]], dtype=float)
SAGITTAL_STACK = np.array([[1, 0, 0], [0, 0, -1], [0, -1, 0]], dtype=float)


@pytest.mark.parametrize("directions", [RAS, LPS, -RAS])
def test_an_axis_aligned_grid_is_shown_exactly(directions):
    original = grid(directions, (2.5, 1.5, 0.5), (-10.0, 20.0, 30.0))
    placement = upright(original)
    back = grid_of_world(SHAPE, placement.matrix)
    np.testing.assert_allclose(back.affine, original.affine, atol=1e-12)
    assert placement.scale == (2.5, 1.5, 0.5)


def test_the_scan_stands_upright():
    matrix = upright(grid(RAS, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))).matrix
    # Index 0 of a RAS volume lies at the feet, back and left: on the canvas that is down, down and right, so each
    # world coordinate falls while the index rises.
    assert (np.diag(matrix)[:3] < 0).all()
    matrix = upright(grid(LPS, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))).matrix
    assert np.sign(np.diag(matrix)[:3]).tolist() == [-1.0, 1.0, 1.0]


def test_an_oblique_grid_is_shown_along_the_data_axes_around_its_centre():
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    original = grid(turn @ RAS, (2.5, 1.5, 0.5), (-10.0, 20.0, 30.0))
    placement = upright(original)
    linear = placement.matrix[:3, :3]
    assert np.count_nonzero(linear - np.diag(np.diag(linear))) == 0
    np.testing.assert_allclose(np.abs(np.diag(linear)), (2.5, 1.5, 0.5))
    centre = np.array([4.5, 9.5, 14.5, 1.0])
    np.testing.assert_allclose(
        grid_of_world(SHAPE, placement.matrix).affine @ centre, original.affine @ centre, atol=1e-9
    )


def test_a_stack_with_other_axis_order_keeps_its_axes_and_spacing():
    placement = upright(grid(SAGITTAL_STACK, (4.0, 1.0, 0.5), (0.0, 0.0, 0.0)))
    assert placement.scale == (4.0, 1.0, 0.5)
    linear = placement.matrix[:3, :3]
    # Slices run to the patient's right, rows to the feet... as stored, both already down and to the right or mirrored.
    assert np.sign(np.diag(linear)).tolist() == [-1.0, 1.0, 1.0]


def test_a_stack_without_anatomy_is_shown_as_stored():
    placement = as_stored(Grid.from_spacing(SHAPE, (0.3, 0.2, 0.1)))
    np.testing.assert_array_equal(placement.matrix, np.diag([0.3, 0.2, 0.1, 1.0]))
