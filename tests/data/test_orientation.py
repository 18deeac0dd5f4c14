"""Volumes that lie differently in the world are brought to lie alike, and back."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from napari_rada.data.case import Case
from napari_rada.data.grid import Grid
from napari_rada.data.orientation import Turn, common_orientation, told_turned, turn_of

SHAPE = (4, 5, 6)
ORIENTATIONS = ["".join(ends) for order in permutations(("LR", "PA", "IS")) for ends in product(*order)]


def grid_lying(orientation: str, shape: tuple[int, int, int] = SHAPE) -> Grid:
    """Grid (z, y, x) whose axes x, y, z lead where the letters say, slightly oblique."""
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, letter in enumerate(reversed(orientation)):
        world = next(world for world, ends in enumerate(("LR", "PA", "IS")) if letter in ends)
        affine[world, axis] = (axis + 1) * (1 if letter in "RAS" else -1)
    affine[:3, :3] += 0.02
    affine[:3, 3] = (7.0, -3.0, 2.0)
    return Grid(shape, affine)


def test_orientation_is_written_as_nibabel_does() -> None:
    import nibabel as nib

    for orientation in ORIENTATIONS:
        grid = grid_lying(orientation)
        assert grid.orientation == orientation
        assert "".join(nib.aff2axcodes(grid.affine[:, [2, 1, 0, 3]])) == orientation


def test_of_plain_arrays_nobody_knows_it() -> None:
    assert Grid.from_spacing(SHAPE).orientation is None
    assert not Turn.between(None, "RAS")
    assert not Turn.between("RAS", None)


@pytest.mark.parametrize("wanted", ["RAS", "LPS", "SAL", "IRP"])
@pytest.mark.parametrize("found", ORIENTATIONS[::5])
def test_every_voxel_stays_where_it_is_in_the_world(found: str, wanted: str) -> None:
    grid, turn = grid_lying(found), Turn.between(found, wanted)
    turned = turn.grid(grid)
    assert turned.orientation == wanted
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    places = (grid.affine @ np.c_[voxels, np.ones(len(voxels))].T)[:3]
    volume = np.stack([values.reshape(grid.shape) for values in places])  # each voxel holds where it is
    after = turn.array(volume)
    assert after.shape[1:] == turned.shape
    there = np.moveaxis(np.indices(turned.shape), 0, -1).reshape(-1, 3)
    np.testing.assert_allclose(after.reshape(3, -1), (turned.affine @ np.c_[there, np.ones(len(there))].T)[:3])
    np.testing.assert_array_equal(turn.back(after), volume)
    assert bool(turn) == (found != wanted)


def test_a_case_is_turned_with_its_annotation() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    case = Case.create(rng.random(SHAPE), labels, slices=[(0, 1), (1, 3), (2, 5)], grid=grid_lying("LPS"))
    turn = turn_of(case, "SRA")
    turned = turn.case(case)
    assert turned.labels is not None
    assert case.labels is not None
    np.testing.assert_array_equal(turn.back(turned.labels), case.labels)
    np.testing.assert_array_equal(turn.back(turned.image), case.image)
    np.testing.assert_array_equal(turn.back(turned.known), case.known)
    outline = turn.outline(case)
    assert outline.grid.shape == turned.grid.shape
    np.testing.assert_array_equal(outline.image, turned.image)
    assert np.shares_memory(outline.image, case.image)
    assert turn_of(case, "LPS").case(case) is case


def test_most_annotated_cases_decide() -> None:
    image, labels = np.random.default_rng(0).random(SHAPE), np.zeros(SHAPE, dtype=np.uint8)
    labels[2, 1:4, 1:4] = 1

    def lying(orientation: str | None, *, annotated: bool = True) -> Case:
        grid = Grid.from_spacing(SHAPE) if orientation is None else grid_lying(orientation)
        painted = {"labels": labels, "slices": [(0, 2)]} if annotated else {}
        return Case.create(image, grid=grid, name="scan", **painted)

    cases = [lying(None), lying("RAS"), lying("LPS"), lying("LPS"), *[lying("LAS", annotated=False)] * 4]
    assert common_orientation(cases) == "LPS"
    assert common_orientation(cases[:3]) == "RAS"
    assert common_orientation(cases[:1]) is None
    assert told_turned(cases[2], "LPS") is None
    assert told_turned(cases[0], None) is None
    assert "lies as RAS; it is turned to LPS" in (told_turned(cases[1], "LPS") or "")
    assert "does not say how it lies" in (told_turned(cases[0], "LPS") or "")
