"""Writing slices into a Labels layer, and taking them back."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_rada._napari.edits import accept_plane, copy_nearest, write_plane
from napari_rada._napari.layers import set_annotated_slices
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError

AXIAL, CORONAL, SAGITTAL = AnnotatedSlice(0, 6), AnnotatedSlice(1, 7), AnnotatedSlice(2, 8)


@pytest.fixture
def painted(viewer, labels):
    set_annotated_slices(labels, [AXIAL, CORONAL, SAGITTAL])
    return labels


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_predicted_slice_is_written_and_undone(painted, axis):
    before, plane = painted.data.copy(), AnnotatedSlice(axis, 2)
    mask = np.full(before.shape, 3, dtype=np.uint8)
    changed = accept_plane(painted, mask, plane)
    others = np.zeros(before.shape, dtype=bool)
    for other in (AXIAL, CORONAL, SAGITTAL):
        others[other.selector()] = True
    expected = before.copy()
    expected[plane.selector()] = np.where(others[plane.selector()], before[plane.selector()], 3)
    np.testing.assert_array_equal(painted.data, expected)
    assert changed == (expected != before).sum()
    painted.undo()
    np.testing.assert_array_equal(painted.data, before)
    painted.redo()
    np.testing.assert_array_equal(painted.data, expected)


def test_a_prediction_can_also_erase(painted):
    plane = AnnotatedSlice(0, 2)
    write_plane(painted, plane, np.ones((14, 16), dtype=np.uint8))
    assert accept_plane(painted, np.zeros(painted.data.shape, dtype=np.uint8), plane) > 0
    free = np.delete(np.delete(painted.data[2], 7, axis=0), 8, axis=1)
    assert not free.any()


def test_painted_voxels_are_preserved_if_the_layer_says_so(painted):
    plane = AnnotatedSlice(0, 2)
    write_plane(painted, plane, np.eye(14, 16, dtype=np.uint8))
    painted.preserve_labels = True
    accept_plane(painted, np.full(painted.data.shape, 2, dtype=np.uint8), plane)
    assert painted.data[2, 0, 0] == 1
    assert painted.data[2, 0, 1] == 2


def test_nothing_to_change_is_no_step_of_the_history(painted):
    assert write_plane(painted, AnnotatedSlice(0, 2), painted.data[2].copy()) == 0
    assert not painted._undo_history


def test_the_nearest_slice_is_copied(painted):
    set_annotated_slices(painted, [AXIAL, AnnotatedSlice(0, 1)])
    assert copy_nearest(painted, AnnotatedSlice(0, 9)) == AXIAL
    np.testing.assert_array_equal(painted.data[9], painted.data[6])
    painted.undo()
    assert not painted.data[9].any()
    with pytest.raises(InputError, match="nothing to copy"):
        copy_nearest(painted, AnnotatedSlice(1, 3))
    with pytest.raises(InputError, match="untick it"):
        copy_nearest(painted, AXIAL)


def test_what_cannot_be_written_is_told(painted):
    before = painted.data.copy()
    with pytest.raises(InputError, match="what you painted in it is kept"):
        accept_plane(painted, np.zeros(before.shape, dtype=np.uint8), AXIAL)
    with pytest.raises(InputError, match="labels of the predicted image"):
        accept_plane(painted, np.zeros((3, 4, 5), dtype=np.uint8), AnnotatedSlice(0, 2))
    with pytest.raises(InputError, match="whole numbers up to 255, not 300"):
        accept_plane(painted, np.full(before.shape, 300, dtype=np.uint16), AnnotatedSlice(0, 2))
    with pytest.raises(InputError, match="lies outside"):
        accept_plane(painted, np.zeros(before.shape, dtype=np.uint8), AnnotatedSlice(0, 99))
    painted.editable = False
    with pytest.raises(InputError, match="cannot be painted in"):
        accept_plane(painted, np.zeros(before.shape, dtype=np.uint8), AnnotatedSlice(0, 2))
    np.testing.assert_array_equal(painted.data, before)


def test_a_layer_that_is_read_in_parts_cannot_be_written():
    dask = pytest.importorskip("dask.array")
    lazy = Labels(dask.zeros((6, 8, 8), dtype=np.uint8))
    with pytest.raises(InputError, match="cannot be painted in"):
        accept_plane(lazy, np.ones((6, 8, 8), dtype=np.uint8), AnnotatedSlice(0, 2))
