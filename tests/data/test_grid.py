"""Grids: spacing, plane names, comparison, bad affines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_rada.data.grid import Grid, told_out_of_scale
from napari_rada.errors import InputError

SHAPE = (10, 20, 30)
lengths = st.floats(1e-5, 100.0)


def rotation(degrees: float) -> np.ndarray:
    """Turn about the foot-head axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@given(st.tuples(lengths, lengths, lengths))
def test_spacing_comes_back(spacing: tuple[float, float, float]) -> None:
    grid = Grid.from_spacing(SHAPE, spacing)
    assert grid.spacing == pytest.approx(spacing)
    assert grid.voxel_volume_ml == pytest.approx(np.prod(spacing) / 1000)


def test_world_axes_run_x_y_z() -> None:
    grid = Grid.from_spacing(SHAPE, (3.0, 2.0, 1.0))
    np.testing.assert_array_equal(grid.affine @ [1, 1, 1, 1], [1, 2, 3, 1])


def test_planes_of_an_axial_series() -> None:
    grid = Grid.from_spacing(SHAPE)
    assert [grid.plane_name(axis) for axis in range(3)] == ["axial", "coronal", "sagittal"]
    assert [grid.axis_of_plane(name) for name in ("axial", "coronal", "sagittal")] == [0, 1, 2]


@given(
    st.floats(-180, 180, allow_subnormal=False),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
)
def test_every_plane_has_its_own_name(degrees: float, order: list[int], signs: tuple[float, ...]) -> None:
    columns = (rotation(degrees) @ Grid.from_spacing(SHAPE, (5.0, 0.5, 1.0)).affine)[:, [*order, 3]]
    grid = Grid(SHAPE, columns * [*signs, 1.0])
    names = [grid.plane_name(axis) for axis in range(3)]
    assert sorted(names) == ["axial", "coronal", "sagittal"]
    assert [grid.axis_of_plane(name) for name in names] == [0, 1, 2]
    assert names[order.index(0)] == "axial"


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_impossible_spacing_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"The spacing \(1\.0, .*, 1\.0\) is not three positive numbers; write mm"):
        Grid.from_spacing(SHAPE, (1.0, value, 1.0))


def test_flat_affine_is_refused() -> None:
    affine = np.eye(4)
    affine[:, 1] = affine[:, 0]
    with pytest.raises(InputError, match="singular"):
        Grid(SHAPE, affine)


def test_matching_is_relative_to_the_voxel() -> None:
    for spacing in (1e-4, 1.0):
        grid = Grid.from_spacing(SHAPE, (spacing,) * 3)
        moved = grid.affine.copy()
        moved[0, 3] = 0.01 * spacing
        assert grid.matches(Grid(SHAPE, moved))
        moved[0, 3] = 0.5 * spacing
        assert not grid.matches(Grid(SHAPE, moved))


def test_matching_is_relative_to_the_finest_spacing() -> None:
    grid = Grid.from_spacing(SHAPE, (5.0, 1.0, 1.0))
    moved = grid.affine.copy()
    moved[0, 3] = 0.05
    assert not grid.matches(Grid(SHAPE, moved))


def test_grids_of_other_shape_or_spacing_do_not_match() -> None:
    grid = Grid.from_spacing(SHAPE)
    assert not grid.matches(Grid.from_spacing((10, 20, 31)))
    assert not grid.matches(Grid.from_spacing(SHAPE, (1.0, 1.0, 1.01)))


def test_voxels_of_another_size_than_networks_learned_on_are_told() -> None:
    assert told_out_of_scale("scan", (1.0, 1.0, 1.0), None) is None
    assert told_out_of_scale("scan", (2.0, 1.0, 0.5), (1.0, 1.0, 1.0)) is None
    told = told_out_of_scale("scan", (1.0, 1.0, 10.0), (1.0, 1.0, 1.0))
    assert told is not None
    assert told.startswith("scan has working voxels of 1 x 1 x 10 mm along (z, y, x) and the networks learned on 1 x 1")
