"""Where to begin."""

from __future__ import annotations

import numpy as np

from napari_rada.data.first_slices import first_slices
from napari_rada.data.slices import AnnotatedSlice

SHAPE = (10, 20, 30)


def test_without_paint_it_is_the_middle():
    middle = (AnnotatedSlice(0, 5), AnnotatedSlice(1, 10), AnnotatedSlice(2, 15))
    assert first_slices(SHAPE, None, []) == middle
    assert first_slices(SHAPE, np.zeros(SHAPE, dtype=np.uint8), []) == middle


def test_paint_shows_where_the_structure_is_widest():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4, 3:6, 20:29] = 1
    labels[4, 2:12, 25] = 2
    labels[8, 15, :] = 1
    assert first_slices(SHAPE, labels, [AnnotatedSlice(0, 4)]) == (AnnotatedSlice(1, 3), AnnotatedSlice(2, 25))
    labels[4, 3, 22] = 0
    assert first_slices(SHAPE, labels, [AnnotatedSlice(0, 4)])[0] == AnnotatedSlice(1, 4)


def test_axes_that_have_a_slice_are_left_out():
    assert first_slices(SHAPE, None, [AnnotatedSlice(0, 1), AnnotatedSlice(2, 3)]) == (AnnotatedSlice(1, 10),)
    assert first_slices(SHAPE, None, [AnnotatedSlice(axis, 0) for axis in range(3)]) == ()
