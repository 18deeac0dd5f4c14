"""Annotated slices of a Labels layer: detection proposes, the person disposes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_rada._napari.annotation import AnnotationModel, SliceRow, watch_edits, watch_strokes
from napari_rada._napari.layers import set_class_infos
from napari_rada.data.classes import ClassInfo
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError

AXIAL, CORONAL, SAGITTAL = AnnotatedSlice(0, 6), AnnotatedSlice(1, 7), AnnotatedSlice(2, 8)


def test_painted_slices_are_proposed_not_ticked(labels):
    model = AnnotationModel(labels)
    assert model.proposed == (AXIAL, CORONAL, SAGITTAL)
    assert model.complete == ()
    assert model.rows == (SliceRow(AXIAL, 36, False), SliceRow(CORONAL, 36, False), SliceRow(SAGITTAL, 36, False))


def test_ticks_live_in_the_layers_metadata(labels):
    AnnotationModel(labels).set_complete(CORONAL)
    assert labels.metadata["annotated_slices"] == [{"axis": 1, "index": 7}]
    again = AnnotationModel(labels)
    assert again.complete == (CORONAL,)
    assert again.proposed == (AXIAL, SAGITTAL)


def test_an_empty_slice_can_be_annotated(labels):
    model = AnnotationModel(labels)
    empty = AnnotatedSlice(0, 11)
    model.set_complete(empty)
    assert SliceRow(empty, 0, True) in model.rows


def test_unticking_turns_a_painted_slice_into_a_proposal_again(labels):
    model = AnnotationModel(labels)
    model.set_complete(AXIAL)
    model.set_complete(AXIAL, False)
    assert model.complete == ()
    assert AXIAL in model.proposed


def test_a_removed_slice_is_not_proposed_again_until_it_is_painted_anew(labels):
    model = AnnotationModel(labels)
    painted = labels.data.copy()
    model.set_complete(AXIAL)
    model.remove(AXIAL)
    assert AXIAL not in {row.plane for row in model.rows}
    np.testing.assert_array_equal(labels.data, painted)
    labels.data = np.zeros_like(painted)
    model.rescan()
    labels.data = painted
    model.rescan()
    assert AXIAL in model.proposed


def test_all_proposals_can_be_accepted_at_once(labels):
    model = AnnotationModel(labels)
    assert model.accept_proposals() == (AXIAL, CORONAL, SAGITTAL)
    assert model.complete == (AXIAL, CORONAL, SAGITTAL)
    assert model.accept_proposals() == ()


def test_rows_follow_the_painting_and_changed_fires_once_per_change(labels):
    model = AnnotationModel(labels)
    seen: list[int] = []
    model.changed.connect(lambda: seen.append(1))
    model.rescan()
    assert not seen
    labels.data[6, 0, 0] = 1
    model.rescan()
    assert seen == [1]
    assert model.rows[0].voxels == 37


def test_the_first_look_waits_until_it_is_asked_for_and_a_mark_before_it_is_a_change(labels):
    model = AnnotationModel(labels)
    seen: list[int] = []
    model.changed.connect(lambda: seen.append(1))
    labels.data[...] = 0
    model.rescan()
    assert (model.rows, seen) == ((), [])
    model = AnnotationModel(labels)
    model.changed.connect(lambda: seen.append(2))
    model.set_complete(AXIAL)
    assert seen == [2]


def test_a_look_counts_unless_there_was_a_later_one(labels):
    model, painted = AnnotationModel(labels), labels.data.copy()
    early = model.look()
    labels.data = np.zeros_like(painted)
    model.rescan()
    assert model.rows == ()
    model.take_in(early())
    assert model.rows == ()
    labels.data = painted
    late = model.look()
    model.take_in(late())
    assert model.proposed == (AXIAL, CORONAL, SAGITTAL)


def test_slips_are_told_of_the_planes_that_are_asked_for_with_the_names_of_classes(labels):
    outlined = np.zeros_like(labels.data)
    outlined[6, 1:13, 1:15] = 1
    outlined[6, 2:12, 2:14] = 0
    layer = Labels(outlined)
    set_class_infos(layer, [ClassInfo(1, "atrium")])
    model, grid = AnnotationModel(layer), Grid.from_spacing(layer.data.shape, (1.0, 1.0, 1.0))
    model.set_complete(AXIAL)
    model.set_complete(CORONAL)
    (told,) = model.told_slips([AXIAL, CORONAL], grid)
    assert told.startswith("atrium is a closed outline in axial slice 6; ")
    assert model.told_slips([CORONAL], grid) == []
    layer.data = outlined[:6]
    assert model.told_slips([AXIAL], grid) == [], "the plane is gone"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((5_000_000_000,), "label 5000000000 is outside of 0..65535 and cannot be used; fill what is painted so"),
        ((-1, 65536), "the labels [-1, 65536] are outside of 0..65535 and cannot be used; fill what is painted so"),
    ],
)
def test_labels_that_no_run_can_use_are_told_when_their_slice_is_marked(labels, values, told):
    painted = labels.data.astype(np.int64)
    for row, value in enumerate(values):
        painted[6, 4 + row, 5:11] = value
    model, grid = AnnotationModel(Labels(painted)), Grid.from_spacing(painted.shape, (1.0, 1.0, 1.0))
    assert model.told_slips([AnnotatedSlice(0, 11)], grid) == []
    assert model.told_slips([AXIAL], grid)[0].startswith(told)


def test_a_slice_outside_the_volume_is_refused(labels):
    with pytest.raises(InputError, match="Slice 99 on axis 0 lies outside the volume"):
        AnnotationModel(labels).set_complete(AnnotatedSlice(0, 99))


def test_ticks_outside_a_volume_that_shrank_do_no_harm(labels):
    model = AnnotationModel(labels)
    model.set_complete(SAGITTAL)
    labels.data = labels.data[:, :, :8].copy()
    model.rescan()
    assert SliceRow(SAGITTAL, 0, True) in model.rows


def test_strokes_are_told_from_turns_of_the_viewer(viewer, labels):
    told: list[int] = []
    unwatch = watch_strokes(viewer, labels, lambda: told.append(1))
    viewer.dims.set_point(0, 9.0)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    assert told == []
    labels.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    painted = len(told)
    assert painted
    labels.undo()
    undone = len(told)
    assert undone > painted
    viewer.dims.set_point(1, 6.0)
    assert len(told) == undone
    labels.redo()
    assert len(told) > undone
    unwatch()
    labels.undo()
    assert len(told) == undone + 1


def test_a_layer_that_is_no_volume_has_no_proposals(labels):
    model = AnnotationModel(labels)
    labels.data = np.ones((5, 5), dtype=np.uint8)
    model.rescan()
    assert model.proposed == ()


def test_every_kind_of_edit_is_noticed(labels):
    seen: list[int] = []
    unwatch = watch_edits(labels, lambda event=None: seen.append(1))
    for edit in (
        lambda: labels.paint((6, 5, 5), 2),
        lambda: labels.fill((6, 5, 5), 3),
        lambda: labels.undo(),
        lambda: labels.redo(),
        lambda: labels.data_setitem((np.array([1]), np.array([1]), np.array([1])), 4),
        lambda: setattr(labels, "data", np.zeros_like(labels.data)),
    ):
        seen.clear()
        edit()
        assert seen
    unwatch()
    seen.clear()
    labels.paint((6, 5, 5), 2)
    assert not seen
