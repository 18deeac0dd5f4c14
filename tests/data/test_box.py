"""Boxes: around what is annotated, and over each other."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada.data.box import Box, box_shape, counted_part, foreground_box, overlap, showing, told_cut_short
from napari_rada.data.case import Case


def test_an_axis_that_no_slice_shows_is_not_cropped() -> None:
    labels = np.zeros((40, 40, 40), dtype=np.uint16)
    labels[10:30, 12:28, 12:28] = 1
    image = labels.astype(np.float32)
    parallel = Case.create(image, labels, slices=[(0, 16), (0, 24)])
    (first, *_), (last, *_) = foreground_box(parallel, 0.25)
    assert (first, last) == (0, 40)
    crossed = Case.create(image, labels, slices=[(0, 16), (1, 20)])
    assert foreground_box(crossed, 0.25) == ((2, 4, 4), (38, 36, 36))
    empty = np.where(np.arange(40)[None, :, None] == 5, 0, labels).astype(np.uint16)
    beside = Case.create(image, empty, slices=[(0, 16), (1, 5)])  # shows nothing of the structure, so no end of it
    assert foreground_box(beside, 0.25)[0][0] == 0
    assert foreground_box(beside, 0.25)[1][0] == 40


def test_slices_that_show_something_or_one_value_of_it_are_counted() -> None:
    labels = np.zeros((40, 40, 40), dtype=np.uint16)
    labels[10:30, 12:28, 12:28] = 1
    labels[10:30, 12:15, 30:35] = 2
    image = labels.astype(np.float32)
    case = Case.create(image, labels, slices=[(0, 16), (1, 20), (2, 20), (2, 32), (0, 5), (1, 39)])
    assert [showing(case), showing(case, 1), showing(case, 2), showing(case, 3)] == [4, 3, 2, 0]
    assert showing(Case.create(image)) == 0


def test_what_was_scanned_and_painted_is_the_box_of_a_scan_that_is_not_cropped() -> None:
    image = np.pad(np.random.default_rng(0).normal(size=(10, 10, 10)), 5, constant_values=-9)
    labels = np.zeros(image.shape, dtype=np.uint16)
    labels[8:12, 8:12, 8:12] = 1
    scanned = ((5, 5, 5), (15, 15, 15))
    assert foreground_box(Case.create(image), 0.25) == scanned
    assert foreground_box(Case.create(image, labels, slices=[(0, 10), (1, 10), (2, 19)]), None) == scanned
    labels[18, 8:12, 8:12] = 1
    case = Case.create(image, labels, slices=[(0, 10), (0, 18), (1, 10), (2, 19)])
    assert foreground_box(case, None) == ((5, 5, 5), (19, 15, 15))
    assert foreground_box(case, 0.0) == ((0, 0, 0), (20, 20, 20)), "a crop knows no other end than its margin"
    nothing = Case.create(image, labels, slices=[(2, 0)], classes=case.classes)
    assert foreground_box(nothing, None) == foreground_box(nothing, 0.25) == ((0, 0, 0), (20, 20, 20))


def test_percentiles_are_sought_in_what_was_scanned_unless_a_case_is_cropped() -> None:
    image = np.pad(np.random.default_rng(0).normal(size=(10, 10, 10)), 5, constant_values=-9)
    labels = np.zeros(image.shape, dtype=np.uint16)
    labels[8:12, 8:12, 18] = 1
    case = Case.create(image, labels, slices=[(2, 18)])
    assert counted_part(case, None) == counted_part(Case.create(image), 0.25) == (slice(5, 15),) * 3
    assert counted_part(case, 0.25) == ()


def test_boxes_lie_over_each_other_where_both_are() -> None:
    one, other = ((2, 0, 5), (6, 4, 9)), ((0, 1, 5), (5, 9, 8))
    inside, there = overlap(one, other)
    assert inside == (slice(0, 3), slice(1, 4), slice(0, 3))
    assert there == (slice(2, 5), slice(0, 3), slice(0, 3))


@pytest.mark.parametrize("other", [((6, 0, 0), (9, 4, 4)), ((0, 0, 0), (1, 4, 4)), ((2, 8, 0), (6, 9, 4))])
def test_boxes_that_do_not_meet_have_nothing_in_common(other: Box) -> None:
    box = ((2, 0, 0), (6, 4, 4))
    for shape, where in zip((box_shape(box), box_shape(other)), overlap(box, other), strict=True):
        assert np.empty(shape)[where].size == 0


def test_a_structure_whose_end_nobody_has_seen_and_that_the_box_of_the_others_cuts_is_told() -> None:
    labels = np.zeros((60, 30, 30), dtype=np.uint16)
    labels[10:20, 5:15, 5:15] = 1
    labels[:, 20:24, 20:24] = 2
    image = labels.astype(np.float32)
    case = Case.create(image, labels, slices=[(0, 15), (1, 10), (2, 10)], name="both")
    told = told_cut_short(case, 0.25)
    assert told is not None
    assert told.startswith("both: label 2 is annotated in slices of one direction only, and looked for as far as")
    assert told_cut_short(case, None) is None
    crossed = Case.create(image, labels, slices=[(0, 15), (1, 10), (2, 10), (1, 22)], name="both")
    assert told_cut_short(crossed, 0.25) is None
    assert told_cut_short(Case.create(image, labels, slices=[(0, 15)], name="one"), 0.25) is None
    assert told_cut_short(Case.create(image), 0.25) is None
