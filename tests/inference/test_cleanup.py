"""Tidying a mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_rada.data.classes import ClassTable
from napari_rada.data.grid import Grid
from napari_rada.errors import InputError
from napari_rada.inference.cleanup import CleanUp, clean_up
from napari_rada.prediction import Prediction

GRID = Grid.from_spacing((12, 12, 12), (10.0, 10.0, 10.0))
"""One voxel is one millilitre."""


def predicted() -> Prediction:
    """A hollow cube of label 1 with a speck of label 2 inside, a speck of 1 outside, and a bar of 2."""
    mask = np.zeros(GRID.shape, dtype=np.uint8)
    mask[2:8, 2:8, 2:8] = 1
    mask[4:6, 4:6, 4:6] = 0
    mask[4, 4, 4] = 2
    mask[10, 10, 10] = 1
    mask[0, 0, :5] = 2
    probability = np.full((3, *GRID.shape), 1 / 3, dtype=np.float32)
    return Prediction("case", mask, probability, None, GRID, ClassTable.from_values([1, 2]), None, {"run": "r"})


def test_nothing_is_tidied_unless_asked_for():
    prediction = predicted()
    assert not CleanUp()
    assert clean_up(prediction, CleanUp()) is prediction


def test_small_parts_go_by_their_volume():
    prediction = predicted()
    tidy = clean_up(prediction, CleanUp(min_part_ml=5.0))
    assert tidy.mask[10, 10, 10] == 0
    assert tidy.mask[4, 4, 4] == 0
    assert (tidy.mask[0, 0, :5] == 2).all(), "five voxels are not under 5 ml"
    assert clean_up(prediction, CleanUp(min_part_ml=5.5)).mask[0, 0, 0] == 0
    assert prediction.mask[10, 10, 10] == 1, "the prediction itself is left alone"
    assert tidy.provenance == {"run": "r", "clean_up": "parts under 5 ml removed"}


@pytest.mark.parametrize("spacing", [0.1, 0.7, 1.3, 3.1])
@pytest.mark.parametrize("voxels", [1, 3, 7, 11])
def test_a_part_of_exactly_the_smallest_volume_stays(spacing, voxels):
    mask = np.zeros(GRID.shape, dtype=np.uint8)
    mask[5, 5, :voxels] = 1
    grid = Grid.from_spacing(GRID.shape, (spacing,) * 3)
    prediction = replace(predicted(), mask=mask, grid=grid)
    limit = voxels * spacing**3 / 1000
    assert clean_up(prediction, CleanUp(min_part_ml=limit)).mask.sum() == voxels
    assert clean_up(prediction, CleanUp(min_part_ml=1.0001 * limit)).mask.sum() == 0


def test_numbers_of_numpy_will_do():
    assert clean_up(predicted(), CleanUp(min_part_ml=np.float64(2))).mask[10, 10, 10] == 0
    assert not CleanUp(min_part_ml=np.float64(0))


def test_the_largest_part_of_every_class_stays():
    tidy = clean_up(predicted(), CleanUp(largest_part=True))
    assert tidy.mask[10, 10, 10] == 0
    assert tidy.mask[4, 4, 4] == 0
    assert (tidy.mask[0, 0, :5] == 2).all()
    assert tidy.mask[2, 2, 2] == 1
    assert tidy.provenance["clean_up"] == "largest parts kept"


def test_holes_are_filled_but_no_other_class_is_painted_over():
    tidy = clean_up(predicted(), CleanUp(fill_holes=True))
    assert tidy.mask[4, 4, 4] == 2
    assert (tidy.mask[5, 4:6, 4:6] == 1).all()
    both = clean_up(predicted(), CleanUp(min_part_ml=2.0, fill_holes=True))
    assert set(np.unique(both.mask[2:8, 2:8, 2:8])) <= {1, 2}
    assert both.provenance["clean_up"] == "parts under 2 ml removed, holes filled"


def test_what_a_person_annotated_stays():
    known = np.zeros(GRID.shape, dtype=bool)
    known[10] = True
    known[5] = True
    tidy = clean_up(predicted(), CleanUp(min_part_ml=3.0, fill_holes=True), known)
    assert tidy.mask[10, 10, 10] == 1
    assert (tidy.mask[5, 4:6, 4:6] == 0).all()


@pytest.mark.parametrize("volume", [-1.0, float("nan"), float("inf"), "1", None])
def test_a_volume_must_be_one(volume):
    with pytest.raises(InputError, match="a number, 0 ml or more; found"):
        CleanUp(min_part_ml=volume)
