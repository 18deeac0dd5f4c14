"""What looks like slips of painting: outlines, and spots far away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_rada.data.case import Case
from napari_rada.data.classes import ClassTable
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.data.slips import GROWTH, USUAL, Slip, find_slips, tell_slips, told_many, told_slips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SLICES = [(0, 30), (1, 30), (2, 30)]
AXIAL, CORONAL, SAGITTAL = (AnnotatedSlice(*plane) for plane in SLICES)
GRID = Grid.from_spacing((80, 80, 80), (1.0, 1.0, 1.0))


def block() -> NDArray[np.uint16]:
    """Label 1, solid from 20 to 39 along each axis."""
    labels = np.zeros(GRID.shape, dtype=np.uint16)
    labels[20:40, 20:40, 20:40] = 1
    return labels


def case_of(labels: NDArray[np.uint16], slices: Sequence[tuple[int, int]] = SLICES) -> Case:
    image = np.random.default_rng(0).random(labels.shape)
    return Case.create(image, labels, slices=slices, name="scan")


def slips_of(labels: NDArray[np.uint16], slices: Sequence[tuple[int, int]] = SLICES) -> list[Slip]:
    case = case_of(labels, slices)
    return find_slips(case.labels, case.annotated)


def test_solid_structures_have_no_slips() -> None:
    assert slips_of(block()) == []
    assert told_slips(case_of(block())) == []
    assert told_slips(Case.create(np.random.default_rng(0).random((4, 4, 4)))) == []


def test_an_outline_is_told_with_its_slice_and_its_class() -> None:
    labels = block()
    labels[30, 21:39, 21:39] = 0
    assert slips_of(labels) == [Slip(AXIAL, 1)]
    assert told_slips(case_of(labels)) == [
        "scan: label 1 is a closed outline in axial slice 30; if it is solid there, fill it: what it encloses counts "
        "as background."
    ]
    labels[21:39, 30, 21:39] = 0
    found = tell_slips(slips_of(labels), ClassTable.from_values([1], {1: "atrium"}).classes, GRID)
    assert [sentence.split(";")[0] for sentence in found] == [
        "atrium is a closed outline in axial slice 30, coronal slice 30"
    ]


def test_strokes_across_an_outline_from_slices_that_are_filled_do_not_hide_it() -> None:
    labels = block()
    labels[30, 21:39, 21:39] = 0
    labels[30, 30, 20:40] = labels[30, 20:40, 30] = 1
    assert slips_of(labels) == [Slip(AXIAL, 1)]


@pytest.mark.parametrize(
    ("rows", "value", "why"),
    [(slice(26, 32), 0, "small holes"), (slice(21, 39), 2, "another structure inside"), (slice(21, 40), 0, "open")],
)
def test_not_every_hole_is_that_of_an_outline(rows: slice, value: int, why: str) -> None:
    labels = block()
    labels[30, rows, 21:39] = value
    assert slips_of(labels) == [], why


def test_a_spot_far_away_is_told_with_its_size() -> None:
    labels = block()
    labels[30, 70:74, 70:73] = 1
    assert slips_of(labels) == [Slip(AXIAL, 1, 12)]
    assert told_slips(case_of(labels)) == [
        "scan: label 1 has a spot far from the rest in axial slice 30 (12 voxels); if it is a slip, erase it: it can "
        "make the whole grid coarser."
    ]


def test_two_spots_do_not_excuse_each_other() -> None:
    labels = block()
    labels[30, 70:74, 70:73] = labels[70:74, 70:73, 30] = 1
    assert slips_of(labels) == [Slip(AXIAL, 1, 12), Slip(SAGITTAL, 1, 12)]


def test_a_spot_that_lies_across_another_slice_is_told_once() -> None:
    labels = block()
    labels[30, 70:74, 28:33] = 1
    assert slips_of(labels) == [Slip(AXIAL, 1, 20)]


def test_a_second_part_that_another_slice_shows_is_none() -> None:
    labels = block()
    labels[30, 70:74, 28:33] = 1
    labels[31:34, 70:74, 30] = 1
    assert slips_of(labels) == []
    labels[31:34, 70:74, 30] = 0
    labels[31, 71, 29] = 1
    assert slips_of(labels, [*SLICES, (0, 31)]) == [], "a neighbouring slice"


def test_what_is_much_of_the_slice_or_near_is_no_spot() -> None:
    labels = block()
    labels[30, 60:67, 60:67] = 1
    assert slips_of(labels) == []
    labels = block()
    labels[30, 42:46, 30:33] = 1
    assert 26 / 20 >= GROWTH
    assert slips_of(labels) == [Slip(AXIAL, 1, 12)]
    labels = block()
    labels[30, 41:45, 30:33] = 1
    assert slips_of(labels) == []


def test_a_structure_made_of_small_parts_has_no_spots() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint16)
    labels[30].reshape(8, 10, 8, 10)[:, :4, :, :4] = 1
    assert slips_of(labels, [(0, 30)]) == []


def test_only_slices_that_are_asked_for_are_looked_at() -> None:
    labels = block()
    labels[30, 70:74, 70:73] = 1
    labels[21:39, 30, 21:39] = 0
    case = case_of(labels)
    for plane, slips in ((AXIAL, [Slip(AXIAL, 1, 12)]), (CORONAL, [Slip(CORONAL, 1)]), (SAGITTAL, [])):
        assert find_slips(case.labels, case.annotated, [plane]) == slips


def test_of_many_slices_some_are_named() -> None:
    slips = [Slip(AnnotatedSlice(0, index), 4) for index in range(5)]
    (told,) = tell_slips(slips, [], GRID)
    assert told.startswith("label 4 is a closed outline in axial slice 0, axial slice 1, axial slice 2 and 2 more;")


def test_structures_are_counted_in_annotated_slices_and_told_if_they_are_many() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint16)
    labels[30, : USUAL + 1] = np.arange(USUAL + 1)[:, None]
    labels[50] = 99
    assert told_many(case_of(labels, [(0, 30)])) is None
    labels[30, 40:50] = 70
    assert told_many(case_of(labels, [(0, 30)])) == (
        f"scan: {USUAL + 1} structures are annotated, one for each label value, and every one takes time of its own; "
        "if they are parts of one structure, give them one label."
    )
    assert told_many(Case.create(np.random.default_rng(0).random((4, 4, 4)))) is None
