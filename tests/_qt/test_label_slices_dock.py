"""The dock Label slices, clicked through."""

from __future__ import annotations

import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Labels
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QApplication, QWidget
from tests._qt.driving import any_task_running, click, click_cell, is_ticked

from napari_rada._napari.annotation import SliceRow
from napari_rada._napari.autosave import autosave_path
from napari_rada._napari.job import RunState
from napari_rada._napari.layers import check_aligned, placement_of_grid
from napari_rada._napari.session import session_of
from napari_rada._napari.windows import WINDOWS
from napari_rada._qt import autosave, shortcuts
from napari_rada._qt.label_slices import LabelSlicesWidget
from napari_rada._qt.section import Section
from napari_rada.config import RunConfig
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice, detect_slices
from napari_rada.errors import InputError
from napari_rada.io import read_sidecar, read_volume, sidecar_path
from napari_rada.io.annotations import read_classes, to_array

AXIAL, CORONAL, SAGITTAL = AnnotatedSlice(0, 6), AnnotatedSlice(1, 7), AnnotatedSlice(2, 8)


@pytest.fixture
def widget(dock, engine) -> LabelSlicesWidget:
    return dock(LabelSlicesWidget, load_engine=engine.load)


def test_it_says_where_one_is_and_turns_the_viewer(widget, viewer, qtbot):
    widget.go_to(AnnotatedSlice(0, 5))
    assert widget.navigator.where.text() == "You are in axial slice 5 of 12"
    assert widget.navigator.planes.value() == 0
    click(qtbot, widget.navigator.planes.buttons["sagittal"])
    assert viewer.dims.order == (2, 0, 1)
    assert widget.current_slice == AnnotatedSlice(2, widget.current_slice.index)
    viewer.dims.ndisplay = 3
    assert widget.navigator.where.text() == "You are in 3D"
    assert widget.navigator.planes.value() is None
    assert not widget.panel.mark_button.isEnabled()


def test_the_current_slice_is_marked_once(widget, viewer, qtbot):
    widget.go_to(AnnotatedSlice(1, 3))
    click(qtbot, widget.panel.mark_button)
    assert widget.annotated == (AnnotatedSlice(1, 3),)
    assert viewer.layers["labels"].metadata["annotated_slices"] == [{"axis": 1, "index": 3}]
    assert not widget.panel.mark_button.isEnabled()
    assert widget.panel.table.value() == AnnotatedSlice(1, 3)


def test_a_slice_that_only_others_cross_is_marked_with_a_warning(widget, viewer):
    widget.detect()
    widget.go_to(AnnotatedSlice(0, 4))
    assert np.any(viewer.layers["labels"].data[4])
    widget.mark_current_slice()
    assert AnnotatedSlice(0, 4) in widget.annotated
    assert widget.message.value().startswith("Marked, but only lines of other slices are painted here")
    widget._on_remove_requested(AnnotatedSlice(0, 4))
    viewer.layers["labels"].data_setitem((np.array([4]), np.array([2]), np.array([2])), 1)
    widget.mark_current_slice()
    assert widget.message.value() == ""


def test_nothing_is_marked_while_a_polygon_is_drawn(widget, viewer, notified):
    layer, plane = viewer.layers["labels"], AnnotatedSlice(0, 1)
    widget.go_to(plane)
    polygon = layer._overlays["polygon"]
    polygon.points = [[1.0, 2.5, 2.5], [1.0, 2.5, 8.5], [1.0, 8.5, 8.5], [1.0, 8.6, 8.6]]
    mark_in_table = partial(widget.panel.table.completeChanged.emit, plane, True)
    for number, mark in enumerate((widget.mark_current_slice, mark_in_table, widget.detect), 1):
        mark()
        assert widget.message.value().startswith("The polygon in 'labels' is not finished, so nothing of it is painted")
        assert notified == [widget.message.value()] * number
        assert widget.annotated == ()
    polygon.add_polygon_to_labels(layer)
    assert layer.data[1].any()
    widget.mark_current_slice()
    assert widget.message.value() == ""
    assert widget.annotated == (plane,)


def test_what_is_no_volume_is_told_before_the_slice_that_is_not_shown(widget, viewer):
    widget.image.setValue(viewer.add_image(np.zeros((8, 9)), name="flat"))
    for ask in (widget.mark_current_slice, widget.copy_nearest, widget.copy_preview):
        ask()
        assert widget.message.value().startswith("Layer 'flat' is 2D (8, 9); a 3D volume is needed.")


def test_the_dock_says_what_is_shown_beside_a_layer_in_other_units(widget, viewer):
    scan = viewer.layers["scan"]
    widget.go_to(CORONAL)
    viewer.add_image(np.zeros((12, 14, 16)), name="cells", units=("um",) * 3)
    assert widget.current_slice == CORONAL, "nobody moved the slider"
    for move in (lambda: None, lambda: widget.go_to(AnnotatedSlice(1, 3)), lambda: viewer.layers.remove("cells")):
        move()
        np.testing.assert_array_equal(scan._slice.image.raw, scan.data[widget.current_slice.selector()])


def test_painted_slices_are_listed_and_marked_together(widget, qtbot):
    table = widget.panel.table
    assert [table.item(row, 1).text() for row in range(3)] == ["axial", "coronal", "sagittal"]
    assert [table.item(row, 2).text() for row in range(3)] == ["6", "7", "8"]
    assert [table.item(row, 3).text() for row in range(3)] == ["36", "36", "36"]
    assert widget.annotated == ()
    click(qtbot, widget.panel.detect_button)
    assert widget.annotated == (AXIAL, CORONAL, SAGITTAL)
    click(qtbot, widget.panel.detect_button)
    assert "a slice left empty is marked by hand" in widget.message.value()


def test_the_table_ticks_jumps_and_removes(widget, viewer, qtbot):
    table, shown = widget.panel.table, widget.current_slice
    click_cell(qtbot, table, 1, 0)
    assert widget.annotated == (CORONAL,)
    assert is_ticked(table, 1)
    click_cell(qtbot, table, 1, 0)
    assert widget.annotated == ()
    assert not is_ticked(table, 1)
    assert widget.current_slice == shown, "ticking turns to no other slice"
    click_cell(qtbot, table, 2, 4)
    assert widget.current_slice == SAGITTAL
    click_cell(qtbot, table, 0, 1)
    assert widget.current_slice == AXIAL
    before = viewer.layers["labels"].data.copy()
    click_cell(qtbot, table, 2, 5)
    assert [table.item(row, 1).text() for row in range(table.rowCount())] == ["axial", "coronal"]
    assert widget.current_slice == AXIAL
    np.testing.assert_array_equal(viewer.layers["labels"].data, before)


def test_a_tick_is_drawn_as_a_check_box_is(widget, qtbot):
    table = widget.panel.table
    table.setValue(None)
    table.resize(300, 200)

    def drawn() -> list[int]:
        picture, place = table.viewport().grab().toImage(), table.visualItemRect(table.item(1, 0))
        span = range(place.center().x() - 12, place.center().x() + 12)
        return [picture.pixel(x, place.center().y()) for x in span]

    plain = drawn()
    assert len(set(plain)) > 1, "there is a box in the middle of the cell"
    widget._on_complete_changed(CORONAL, True)
    table.setValue(None)
    assert drawn() != plain
    widget._on_complete_changed(CORONAL, False)
    table.setValue(None)
    assert drawn() == plain


def test_keys_of_tools_and_docks_pass_tables_and_lists(widget, viewer, qtbot, monkeypatch):
    widget.detect()
    first, second = viewer.layers["scan"], viewer.add_image(np.zeros((4, 4, 4)), name="mri")
    left = []
    monkeypatch.setattr(widget, "keyPressEvent", lambda event: left.append(event.text()))
    table = widget.classes.table.table
    table.setCurrentCell(0, 2)
    for field in (widget.image, widget.labels, widget.panel.table, table):
        qtbot.keyClicks(field, "m2")
    assert left == ["m", "2"] * 4
    assert widget.image.value() is first
    assert second in viewer.layers
    assert table.state() != QAbstractItemView.State.EditingState, "a class is renamed by a double click or F2"
    qtbot.keyClick(table, Qt.Key.Key_F2)
    assert table.state() == QAbstractItemView.State.EditingState


def test_the_table_of_slices_is_used_with_the_keyboard(widget, qtbot):
    widget.detect()
    table = widget.panel.table
    table.setCurrentCell(1, 1)
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert widget.current_slice == CORONAL
    assert not table.tabKeyNavigation()
    assert not widget.classes.table.table.tabKeyNavigation()
    qtbot.keyClick(table, Qt.Key.Key_Space)
    assert CORONAL not in widget.annotated
    qtbot.keyClick(table, Qt.Key.Key_Space)
    assert CORONAL in widget.annotated
    widget.go_to(AXIAL)
    table.setCurrentCell(2, 1)
    for complete in (False, True):
        qtbot.keyClick(table, Qt.Key.Key_Space)
        assert (SAGITTAL in widget.annotated) is complete, "it stays highlighted, though another slice is shown"
    assert widget.current_slice == AXIAL
    table.setCurrentCell(1, 0)
    qtbot.keyClick(table, Qt.Key.Key_Enter)
    assert widget.annotated == (AXIAL, SAGITTAL)
    table.setCurrentCell(1, 5)
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert widget.annotated == (AXIAL, SAGITTAL)
    assert table.rowCount() == 2
    assert table.value() == widget.current_slice == AXIAL


def test_an_empty_slice_that_is_unticked_leaves_the_slice_shown_highlighted(widget, qtbot):
    widget.go_to(AnnotatedSlice(0, 1))
    widget.mark_current_slice()
    widget.go_to(AXIAL)
    click_cell(qtbot, widget.panel.table, 0, 0)
    assert widget.panel.table.rowCount() == 3
    assert widget.panel.table.value() == AXIAL


def test_slices_come_and_go_in_their_order(widget, viewer, wait):
    table, layer = widget.panel.table, viewer.layers["labels"]
    layer.data_setitem(square(2), 1)
    wait(lambda: table.rowCount() == 4)
    assert [table.item(row, 2).text() for row in range(4)] == ["2", "6", "7", "8"]
    layer.undo()
    wait(lambda: table.rowCount() == 3)
    assert [table.item(row, 2).text() for row in range(3)] == ["6", "7", "8"]


def test_many_slices_need_no_widgets_of_their_own(widget):
    table = widget.panel.table
    few = len(table.findChildren(QWidget))
    table.set_data([SliceRow(AnnotatedSlice(0, index), 9, complete=index % 2 == 0) for index in range(1000)], None)
    assert table.item(999, 2).text() == "999"
    assert [is_ticked(table, row) for row in (998, 999)] == [True, False]
    assert len(table.findChildren(QWidget)) == few


def test_the_table_follows_painting_undo_and_raw_writes(widget, viewer, wait):
    layer = viewer.layers["labels"]
    table = widget.panel.table
    widget.go_to(AnnotatedSlice(0, 2))
    layer.data_setitem(np.nonzero(np.ones((1, 4, 4))), 1)
    wait(lambda: table.rowCount() == 4)
    layer.undo()
    wait(lambda: table.rowCount() == 3)
    layer.redo()
    wait(lambda: table.rowCount() == 4)
    layer.data[1, :5, :5] = 1
    widget.detect()
    assert AnnotatedSlice(0, 1) in widget.annotated


@pytest.fixture
def held_look(monkeypatch):
    """Hold the look at the labels in its thread until `go` is set."""
    go, begun, threads = threading.Event(), threading.Event(), []

    def look(labels):
        threads.append(threading.get_ident())
        if threads[-1] != threading.main_thread().ident:
            begun.set()
            assert go.wait(10)
        return detect_slices(labels)

    monkeypatch.setattr("napari_rada._napari.annotation.detect_slices", look)
    yield SimpleNamespace(go=go, begun=begun, threads=threads)
    go.set()


def square(index: int) -> tuple[np.ndarray, ...]:
    """Voxels of a square in an axial slice."""
    return tuple(np.argwhere(np.ones((1, 4, 4))).T + np.array([[index], [0], [0]]))


def test_painted_slices_are_looked_for_beside_the_window(widget, viewer, wait, held_look):
    rows = widget.panel.table.rowCount
    viewer.layers["labels"].data_setitem(square(2), 1)
    wait(held_look.begun.is_set)
    assert rows() == 3, "the window lives on"
    held_look.go.set()
    wait(lambda: rows() == 4)
    assert threading.main_thread().ident not in held_look.threads


def test_labels_are_looked_at_once_when_they_are_chosen_and_again_when_they_are_chosen_again(widget, viewer, held_look):
    first, others = viewer.layers["labels"], viewer.add_labels(np.zeros_like(viewer.layers["labels"].data))
    assert held_look.threads == []
    widget.labels.setValue(others)
    assert len(held_look.threads) == 1
    first.data[2, :4, :4] = 1
    widget.labels.setValue(first)
    assert len(held_look.threads) == 2
    assert widget.panel.table.rowCount() == 4


def test_what_was_found_before_the_latest_stroke_or_mark_is_not_listed(widget, viewer, wait, held_look):
    layer, panel = viewer.layers["labels"], widget.panel
    layer.data_setitem(square(2), 1)
    wait(held_look.begun.is_set)
    layer.undo()
    widget.go_to(AnnotatedSlice(0, 9))
    widget.mark_current_slice()
    listed = panel.table.rowCount()
    held_look.go.set()
    wait(lambda: not panel.job.is_running and not panel._timer.isActive())
    assert panel.table.rowCount() == listed == 4


@pytest.mark.parametrize("leave", ["remove", "choose others", "close"])
def test_a_look_at_labels_that_are_left_meanwhile_does_no_harm(widget, viewer, wait, held_look, leave):
    layer, panel = viewer.layers["labels"], widget.panel
    others = viewer.add_labels(np.zeros_like(layer.data), name="others")
    widget.labels.setValue(layer)
    layer.data_setitem(square(2), 1)
    wait(held_look.begun.is_set)
    if leave == "remove":
        viewer.layers.remove(layer)
    elif leave == "choose others":
        widget.labels.setValue(others)
    else:
        viewer.window.remove_dock_widget(widget)
    del layer
    held_look.go.set()
    if leave == "close":
        wait(lambda: not any_task_running())
        return
    wait(lambda: not panel.job.is_running)
    assert panel.table.rowCount() == 0
    widget.labels.setValue(others)
    others.data_setitem(square(3), 1)
    wait(lambda: panel.table.rowCount() == 1)


def test_turning_the_viewer_is_no_edit(widget, viewer, wait):
    layer, edits = viewer.layers["labels"], []
    widget.panel.edited.connect(lambda: edits.append(1))
    for plane in (AXIAL, AnnotatedSlice(0, 2), CORONAL, SAGITTAL):
        widget.go_to(plane)
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    assert not widget.panel._timer.isActive()
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    wait(lambda: edits == [1])
    widget.go_to(AnnotatedSlice(0, 3))
    layer.undo()
    wait(lambda: edits == [1, 1])


def test_zero_is_explained(widget):
    assert widget.panel.hint.text() == "In an annotated slice 0 means background; elsewhere it means unknown."


def test_new_labels_fit_the_image_and_are_chosen(widget, viewer, qtbot):
    click(qtbot, widget.new_button)
    layer = viewer.layers[-1]
    assert isinstance(layer, Labels)
    assert widget.labels.value() is layer
    assert viewer.layers.selection.active is layer
    check_aligned(viewer.layers["scan"], layer)
    assert widget.panel.table.rowCount() == 0


def test_propagating_shows_a_preview_without_blocking(widget, viewer, qtbot, wait, engine):
    widget.detect()
    engine.go.clear()
    click(qtbot, widget.row.button)
    wait(lambda: widget.job.state is RunState.PROPAGATING)
    assert widget.row.cancel.isVisibleTo(widget)
    assert not widget.row.button.isEnabled()
    viewer.layers["labels"].data[:] = 0
    engine.go.set()
    wait(lambda: not widget.job.is_running)
    preview = viewer.layers["labels preview"]
    np.testing.assert_array_equal(preview.scale, viewer.layers["scan"].scale)
    np.testing.assert_array_equal(preview.affine.affine_matrix, viewer.layers["scan"].affine.affine_matrix)
    widget.go_to(AnnotatedSlice(0, 2))
    assert "(label 1 " in widget.message.value(), "looking around does not wipe out what was told"
    assert "ml)" in widget.message.value()
    assert engine.cases[0].labels.any(), "the engine works on the labels as they were"
    assert widget.row.button.isEnabled()
    assert not widget.row.progress.isVisibleTo(widget)


def test_propagation_can_be_cancelled(widget, viewer, qtbot, wait, engine):
    widget.detect()
    engine.go.clear()
    widget.propagate()
    wait(lambda: widget.job.state is RunState.PROPAGATING)
    click(qtbot, widget.row.cancel)
    wait(lambda: not widget.job.is_running)
    assert "labels preview" not in viewer.layers
    assert widget.row.button.isEnabled()


def test_the_preview_may_outlive_its_labels(widget, viewer, wait, engine):
    widget.detect()
    engine.go.clear()
    widget.propagate()
    viewer.layers.remove("labels")
    engine.go.set()
    wait(lambda: not widget.job.is_running)
    assert [layer.name for layer in viewer.layers] == ["scan", "labels preview"]


def test_mistakes_are_told_in_one_sentence(widget, viewer, notified):
    widget.propagate()
    assert "No slice is marked as annotated" in widget.message.value()
    viewer.dims.ndisplay = 3
    widget.mark_current_slice()
    assert "turn to axial, coronal or sagittal first" in widget.message.value()
    widget.go_to(AnnotatedSlice(0, 99))
    assert "lies outside the volume" in widget.message.value()
    astray = viewer.add_labels(np.ones((12, 14, 16), dtype=np.uint8), name="astray", units=("mm",) * 3)
    widget.labels.setValue(astray)
    widget.detect()
    assert "'astray' does not fit image 'scan'" in widget.message.value()
    viewer.layers.clear()
    widget.new_labels()
    assert widget.message.value() == "There is no Image layer; open a scan first."
    assert len(notified) == 5
    assert notified[-1] == widget.message.value()


def test_an_error_of_the_engine_is_told_and_the_buttons_come_back(widget, wait, engine, notified):
    from napari_rada.errors import InputError

    engine.error = InputError("The annotated slices hold only background (0).")
    widget.detect()
    widget.propagate()
    wait(lambda: not widget.job.is_running)
    assert widget.message.value() == "The annotated slices hold only background (0)."
    assert notified == [widget.message.value()]
    assert widget.row.button.isEnabled()


@pytest.fixture
def second(viewer):
    """Another scan, of another size, which nobody labelled yet."""
    volume = np.random.default_rng(1).normal(100.0, 20.0, (9, 10, 11)).astype(np.float32)
    return viewer.add_image(volume, name="second", scale=(3.0, 1.5, 1.0), units=("mm",) * 3)


def test_the_labels_of_the_image_are_chosen_with_it(widget, viewer, second):
    labels = viewer.layers["labels"]
    widget.image.setValue(second)
    assert widget.labels.value() is None
    assert widget.panel.table.rowCount() == 0
    widget.new_labels()
    own = widget.labels.value()
    assert own.data.shape == second.data.shape
    widget.image.setValue(viewer.layers["scan"])
    assert widget.labels.value() is labels
    assert widget.panel.table.rowCount() == 3
    widget.image.setValue(second)
    assert widget.labels.value() is own


def test_the_labels_of_another_image_are_not_chosen_by_themselves(widget, viewer, second):
    labels = viewer.layers["labels"]
    widget.image.setValue(second)
    viewer.add_image(np.zeros((3, 4, 5)), name="third")
    labels.name = "of scan"
    assert widget.labels.value() is None
    assert widget.panel.table.rowCount() == 0
    own = viewer.add_labels(np.zeros(second.data.shape, np.uint8), scale=second.scale, units=second.units)
    assert widget.labels.value() is own
    viewer.layers.remove(own)
    assert widget.labels.value() is None


def test_strokes_go_to_the_labels_that_are_chosen(widget, viewer):
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    widget.new_labels()
    widget.labels.setValue(labels)
    assert viewer.layers.selection == {labels}
    viewer.layers.selection.active = scan
    widget.labels.setValue(viewer.layers["scan labels"])
    assert viewer.layers.selection.active is scan, "nobody was painting"


def test_an_outline_is_told_wherever_its_slice_is_marked_and_with_the_preview(widget, viewer, wait, engine, qtbot):
    labels = viewer.layers["labels"]
    labels.data[6] = 0
    labels.data[6, 1:13, 1:15] = 1
    labels.data[6, 3:11, 3:13] = 0
    told = "Marked, but label 1 is a closed outline in axial slice 6; if it is solid there, fill it: what it encloses"
    widget.go_to(AXIAL)
    widget.mark_current_slice()
    assert widget.message.value().startswith(told)
    click_cell(qtbot, widget.panel.table, 0, 0)
    assert not widget.message.value(), "it is no longer marked"
    click_cell(qtbot, widget.panel.table, 0, 0)
    assert widget.message.value().startswith(told)
    widget.go_to(CORONAL)
    widget.mark_current_slice()
    assert not widget.message.value(), "it is told of the slice that is marked"
    click_cell(qtbot, widget.panel.table, 0, 0)
    widget.detect()
    assert widget.message.value().startswith(told)
    engine.notice = "scan: label 1 is a closed outline."
    widget.propagate()
    wait(lambda: not widget.job.is_running)
    assert widget.message.value().startswith("Preview in layer")
    assert widget.message.value().endswith(engine.notice)


def test_no_slice_is_marked_as_empty_that_is_painted_in_another_layer(widget, viewer, notified):
    labels = viewer.layers["labels"]
    widget.new_labels()
    other = widget.labels.value()
    widget.labels.setValue(labels)
    viewer.layers.selection.active = other
    widget.go_to(AXIAL)
    widget.mark_current_slice()
    assert widget.annotated == (AXIAL,)
    assert widget.message.value() == "Marked in 'labels'; the brush is in 'scan labels'."
    other.data_setitem((np.array([1]), np.array([3]), np.array([3])), 1)
    widget.go_to(AnnotatedSlice(0, 1))
    widget.mark_current_slice()
    assert widget.annotated == (AXIAL,)
    assert "painted in 'scan labels', where the brush is, and empty in 'labels'; choose" in widget.message.value()
    assert notified == [widget.message.value()]
    viewer.layers.selection.active = labels
    widget.mark_current_slice()
    assert widget.annotated == (AnnotatedSlice(0, 1), AXIAL)
    assert widget.message.value().startswith("Marked as empty: no structure reaches this slice.")


def test_labels_that_fit_the_next_image_too_stay_chosen(widget, viewer):
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    other = viewer.add_labels(labels.data.copy(), name="others", scale=scan.scale, affine=scan.affine, units=scan.units)
    session_of(viewer).annotation(other).set_complete(AXIAL)
    widget.labels.setValue(labels)
    again = viewer.add_image(scan.data, name="again", scale=scan.scale, affine=scan.affine, units=scan.units)
    widget.image.setValue(again)
    assert widget.labels.value() is labels


def test_scans_on_the_same_voxels_each_bring_their_own_labels(widget, viewer):
    scan = viewer.layers["scan"]
    widget.new_labels()
    first = widget.labels.value()
    again = viewer.add_image(scan.data, name="again", scale=scan.scale, affine=scan.affine, units=scan.units)
    widget.image.setValue(again)
    assert widget.labels.value() is first, "it has none of its own yet"
    widget.new_labels()
    own = widget.labels.value()
    assert own is not first
    widget.image.setValue(scan)
    assert widget.labels.value() is first
    widget.image.setValue(again)
    assert widget.labels.value() is own


def test_nothing_is_suggested_from_the_labels_of_another_image(widget, viewer, second, notified):
    widget.image.setValue(second)
    widget.suggest()
    assert widget.message.value() == "Annotate axial slice 4 of 9: move to where the structure is largest."
    labels = viewer.layers["labels"]
    labels.data[:] = 0
    labels.data[6, 4:10, 5:11] = 1
    widget.labels.setValue(labels)
    widget.suggest()
    assert "'labels' does not fit image 'second'" in widget.message.value()
    assert notified == [widget.message.value()]


def test_a_tick_that_is_refused_goes_back(widget, viewer, second, notified, qtbot):
    widget.image.setValue(second)
    widget.labels.setValue(viewer.layers["labels"])
    table = widget.panel.table
    click_cell(qtbot, table, 1, 0)
    assert len(notified) == 1
    assert widget.annotated == ()
    assert not is_ticked(table, 1)


def test_images_that_are_no_volume_can_be_chosen_and_say_so(widget, viewer, notified):
    viewer.add_image(np.zeros((30, 40)), name="flat")
    widget.image.setValue(viewer.layers["flat"])
    assert widget.navigator.where.text() == "Open a 3D scan to begin."
    assert not widget.navigator.planes.isEnabled()
    widget.new_labels()
    assert "'flat' is 2D (30, 40); a 3D volume is needed" in widget.message.value()


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari's own, said of what is tilted
def test_no_slice_of_a_rotated_scan_is_marked_or_gone_to(widget, viewer, notified):
    scan = viewer.layers["scan"]
    widget.image.setValue(viewer.add_image(scan.data, name="turned", rotate=(0, 25, 0), units=("mm",) * 3))
    widget.new_labels()
    widget.show_plane(0)
    assert widget.current_slice is None
    for ask in (widget.mark_current_slice, widget.copy_nearest, widget.suggest, lambda: widget.go_to(AXIAL)):
        ask()
        assert "'turned' is rotated, and napari paints beside its slices; open the file" in widget.message.value()
    assert len(notified) == 4
    widget.go_to(CORONAL)
    widget.mark_current_slice()
    assert widget.annotated == (CORONAL,), "the slices of this direction are turned within themselves"


def test_planes_are_named_after_the_scan(widget, viewer):
    # Slices of this scan lie side by side from left to right: its array axis 0 is perpendicular to sagittal planes.
    sideways = Grid((5, 6, 7), np.array([[3.0, 0, 0, 0], [0, 0, -1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))
    volume = np.random.default_rng(0).random(sideways.shape, dtype=np.float32)
    widget.image.setValue(viewer.add_image(volume, name="sideways", **placement_of_grid(sideways)))
    widget.new_labels()
    widget.show_plane(0)
    assert widget.navigator.planes.buttons["sagittal"].isChecked()
    assert "You are in sagittal slice" in widget.navigator.where.text()
    widget.mark_current_slice()
    assert widget.panel.table.item(0, 1).text() == "sagittal"


def test_closing_the_dock_lets_go_of_the_viewer(widget, viewer, wait, engine):
    widget.detect()
    engine.go.clear()
    widget.propagate()
    wait(lambda: widget.job.state is RunState.PROPAGATING)
    viewer.window.remove_dock_widget(widget)
    assert widget.job.state is RunState.STOPPING
    viewer.layers["labels"].data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    viewer.dims.set_point(0, -3.0)
    viewer.layers.clear()


def test_keys_do_what_the_buttons_do_and_fight_nobody(widget, viewer):
    taken = {str(key).replace("+", "-") for keys in get_settings().shortcuts.shortcuts.values() for key in keys}
    assert not taken & set(widget._actions())
    press(viewer, shortcuts.PLANES[1])
    assert viewer.dims.order[0] == 1
    widget.go_to(CORONAL)
    press(viewer, shortcuts.MARK)
    assert widget.annotated == (CORONAL,)
    for button in (widget.panel.mark_button, widget.row.button, widget.painting.copy, widget.next_button):
        assert "(Shift+" in button.toolTip()
    assert "(Shift+Z)" in widget.navigator.planes.buttons["axial"].toolTip()
    viewer.window.remove_dock_widget(widget)
    assert not {str(key) for key in viewer.keymap} & {key.replace("-", "+") for key in widget._actions()}


def press(viewer, key) -> None:
    keymap = {str(bound).replace("+", "-"): action for bound, action in viewer.keymap.items()}
    keymap[key](viewer)


def test_the_nearest_slice_is_copied_and_undone(widget, viewer, qtbot):
    labels = viewer.layers["labels"]
    before = labels.data.copy()
    widget.detect()
    widget.go_to(AnnotatedSlice(0, 9))
    widget.copy_nearest()
    assert widget.message.value() == "Copied slice 6; correct it, then mark this slice as annotated."
    expected = before.copy()
    expected[9] = before[6]
    for plane in (CORONAL, SAGITTAL):
        expected[plane.selector()] = before[plane.selector()]
    np.testing.assert_array_equal(labels.data, expected)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    widget.go_to(AXIAL)
    widget.copy_nearest()
    assert "untick it" in widget.message.value()


def test_the_preview_is_copied_corrected_and_undone(widget, viewer, wait, engine):
    labels = viewer.layers["labels"]
    widget.detect()
    widget.go_to(AnnotatedSlice(0, 9))
    widget.copy_preview()
    assert widget.message.value() == "There is no preview of these labels yet; propagate first."
    widget.propagate()
    wait(lambda: "labels preview" in viewer.layers)
    before = labels.data.copy()
    widget.painting.copy_preview.click()
    assert widget.message.value() == "Copied the preview; correct it, then mark this slice as annotated."
    kept = np.zeros(labels.data.shape, bool)
    for plane in (CORONAL, SAGITTAL):
        kept[plane.selector()] = True
    expected = before.copy()
    expected[9] = np.where(kept[9], before[9], viewer.layers["labels preview"].data[9])
    assert (expected[9] != before[9]).any()
    np.testing.assert_array_equal(labels.data, expected)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    widget.go_to(AXIAL)
    widget.copy_preview()
    assert "is kept" in widget.message.value()
    widget.new_labels()
    widget.go_to(AnnotatedSlice(0, 9))
    widget.copy_preview()
    assert widget.message.value() == "There is no preview of these labels yet; propagate first."


def test_it_says_where_to_begin(widget, viewer, wait):
    labels = viewer.layers["labels"]
    labels.data[:] = 0
    labels.data[6, 4:10, 5:11] = 1
    labels.refresh()
    widget.panel._on_rescan_due()
    wait(lambda: not widget.panel.job.is_running and not widget.panel._timer.isActive())
    widget.suggest()
    assert widget.current_slice == AnnotatedSlice(1, 4)
    assert "crosses your paint where that is widest" in widget.message.value()


def test_it_suggests_a_slice_where_the_propagation_is_in_doubt(widget, viewer, wait, engine):
    widget.detect()
    widget.next_button.click()
    wait(lambda: "in doubt" in widget.message.value())
    assert widget.current_slice == AnnotatedSlice(1, 3)
    assert widget.message.value() == "Annotate coronal slice 3 of 14: 75% of what is in doubt lies around it."
    assert [name for name, _ in engine.calls] == ["propagate", "suggest"]
    assert engine.calls[1][1] == widget.annotated
    assert "labels preview" in viewer.layers
    widget.suggest()
    wait(lambda: len(engine.calls) == 3 and not widget.suggestion_job.is_running)
    assert engine.calls[2][0] == "suggest", "the annotation is as it was"
    widget.mark_current_slice()
    widget.suggest()
    wait(lambda: len(engine.calls) == 5 and not widget.suggestion_job.is_running)
    assert [name for name, _ in engine.calls[3:]] == ["propagate", "suggest"]
    assert AnnotatedSlice(1, 3) in engine.calls[4][1]


def test_a_slice_is_suggested_as_soon_as_the_propagation_that_runs_is_done(widget, wait, engine):
    widget.detect()
    engine.go.clear()
    widget.propagate()
    wait(lambda: widget.job.state is RunState.PROPAGATING)
    widget.suggest()
    engine.go.set()
    wait(lambda: "in doubt" in widget.message.value())
    assert [name for name, _ in engine.calls] == ["propagate", "suggest"]


def test_a_slice_is_suggested_by_the_annotation_as_it_is_in_the_end(widget, wait, engine):
    widget.detect()
    engine.go.clear()
    widget.suggest()
    wait(lambda: widget.job.state is RunState.PROPAGATING)
    widget.go_to(AnnotatedSlice(0, 9))
    widget.mark_current_slice()
    engine.go.set()
    wait(lambda: "in doubt" in widget.message.value())
    assert [name for name, _ in engine.calls] == ["propagate", "propagate", "suggest"]
    assert AnnotatedSlice(0, 9) in engine.calls[2][1]


@pytest.mark.parametrize("stopped", [False, True])
def test_nothing_is_suggested_where_it_is_no_longer_wanted(widget, viewer, wait, engine, stopped):
    widget.detect()
    engine.go.clear()
    widget.suggest()
    wait(lambda: widget.job.state is RunState.PROPAGATING)
    if stopped:
        widget.cancel()
    else:
        widget.new_labels()
    engine.go.set()
    wait(lambda: not widget.job.is_running)
    assert not widget.suggestion_job.is_running
    assert [name for name, _ in engine.calls] == ["propagate"]


def test_what_goes_wrong_while_a_slice_is_suggested_is_told(widget, wait, engine, monkeypatch):
    def refuse(prediction, annotated):
        raise InputError("Memory ran out while a slice was looked for.")

    monkeypatch.setattr(engine, "suggest", refuse)
    widget.detect()
    widget.suggest()
    wait(lambda: "Memory ran out" in widget.message.value())


def test_the_lock_holds_the_brush_back(widget, viewer):
    labels = viewer.layers["labels"]
    widget.painting.lock.setChecked(True)
    widget.go_to(AXIAL)
    labels.mode = "paint"
    assert labels.mode == "paint"
    widget.go_to(AnnotatedSlice(0, 2))
    assert labels.mode == "pan_zoom"
    labels.mode = "paint"
    assert labels.mode == "pan_zoom"
    assert "locked to listed slices" in widget.message.value()
    widget.go_to(AXIAL)
    assert labels.mode == "paint"
    widget.painting.lock.setChecked(False)


def test_a_ct_window_is_shown(widget, viewer):
    ranges = widget.painting.ranges
    ranges.setCurrentIndex(1)
    ranges.activated.emit(1)
    assert tuple(viewer.layers["scan"].contrast_limits) == (-160.0, 240.0)
    assert widget.message.value() == "Shown from -160 to 240."
    ranges.setCurrentIndex(0)
    ranges.activated.emit(0)
    assert viewer.layers["scan"].contrast_limits[0] > 0


def test_a_suggestion_waits_for_the_end_of_a_stroke(widget, qtbot, monkeypatch):
    buttons, turned = [Qt.MouseButton.LeftButton], []
    monkeypatch.setattr(QApplication, "mouseButtons", lambda: buttons[0])
    widget.after_stroke(lambda: turned.append(True))
    qtbot.wait(150)
    assert not turned
    buttons[0] = Qt.MouseButton.NoButton
    qtbot.waitUntil(lambda: turned == [True], timeout=2000)


def test_the_range_that_is_named_is_that_of_the_chosen_image(widget, viewer):
    scan, ranges = viewer.layers["scan"], widget.painting.ranges
    ranges.setCurrentIndex(1)
    ranges.activated.emit(1)
    other = viewer.add_image(scan.data, name="other", scale=scan.scale, affine=scan.affine, units=scan.units)
    widget.image.setValue(other)
    assert widget.painting.value() is None
    widget.image.setValue(scan)
    assert widget.painting.value() is WINDOWS[0]


def test_a_preview_of_a_scan_that_is_gone_is_not_shown(widget, viewer, wait, engine):
    widget.detect()
    engine.go.clear()
    widget.propagate()
    viewer.layers.clear()
    engine.go.set()
    wait(lambda: not widget.job.is_running)
    assert not viewer.layers
    assert "Preview" not in widget.message.value()


def test_what_was_told_of_a_preview_goes_with_it(widget, viewer, wait):
    widget.detect()
    widget.propagate()
    wait(lambda: not widget.job.is_running)
    assert widget.message.value().startswith("Preview in layer")
    viewer.layers.remove(viewer.layers[-1])
    assert widget.message.value() == ""


def test_slices_of_labels_that_are_read_in_parts_are_marked_by_hand(widget, viewer):
    dask = pytest.importorskip("dask.array")
    labels, scan = viewer.layers["labels"], viewer.layers["scan"]
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    lazy = viewer.add_labels(dask.from_array(labels.data), name="lazy", **place)
    widget.labels.setValue(lazy)
    widget.detect()
    assert widget.message.value() == "Layer 'lazy' is read in parts; mark its annotated slices one by one."


def test_classes_are_in_step_with_the_layer(widget, viewer):
    table, labels = widget.classes.table, viewer.layers["labels"]
    assert [row.info.value for row in table._rows] == [1]
    table.add_button.click()
    assert labels.selected_label == 2
    assert table.value() == 2
    table.table.item(1, 2).setText("tumour")
    assert labels.metadata["classes"][1]["name"] == "tumour"
    table.table.item(0, 2).setText("tumour")
    assert "empty or taken" in widget.message.value()
    assert table.table.item(0, 2).text() == "label 1"
    table.table.setCurrentCell(0, 2)
    assert labels.selected_label == 1
    labels.selected_label = 2
    assert table.value() == 2
    table.coloured.emit(2, "#ff0000")
    np.testing.assert_allclose(labels.get_color(2)[:3], (1, 0, 0), atol=0.01)
    table.remove_button.click()
    assert [row.info.value for row in table._rows] == [1]
    assert table.value() == labels.selected_label == 1


def test_a_dock_that_is_closed_draws_nothing_anew(widget, viewer):
    tables = widget.panel.table, widget.classes.table.table
    shown = [table.rowCount() for table in tables]
    told = widget.navigator.where.text()
    assert all(shown)
    widget.shut()
    viewer.dims.set_point(0, 0)
    viewer.layers["labels"].metadata["classes"] = [{"value": 1, "name": "a"}, {"value": 2, "name": "b"}]
    widget.session.classes(viewer.layers["labels"]).refresh()
    assert [table.rowCount() for table in tables] == shown
    assert widget.navigator.where.text() == told


def test_tables_and_titles_follow_the_size_of_texts_that_is_set_in_napari(widget):
    table, classes = widget.panel.table, widget.classes.table.table
    parts = (table, table.horizontalHeader(), classes, widget.findChild(Section).button)
    usual, height, points = table.rowHeight(0), table.height(), get_settings().appearance.font_size
    get_settings().appearance.font_size = 18
    assert [part.font().pointSize() for part in parts] == [18] * len(parts)
    assert table.rowHeight(0) == classes.rowHeight(0) > max(usual, table.fontMetrics().height())
    assert table.height() > height
    get_settings().appearance.font_size = points
    assert table.rowHeight(0) == usual
    assert table.height() == height


def test_a_click_on_a_class_that_the_layer_cannot_hold_is_told(widget, viewer, notified):
    viewer.layers["labels"].metadata["classes"] = [{"value": 1, "name": "a"}, {"value": 300, "name": "b"}]
    widget.session.classes(viewer.layers["labels"]).refresh()
    widget.classes.table.table.setCurrentCell(1, 2)
    assert "'labels' holds no label above 255" in widget.message.value()
    assert widget.classes.table.value() == viewer.layers["labels"].selected_label == 1
    assert len(notified) == 1


def test_a_class_painted_inside_another_is_listed(widget, viewer, wait):
    labels = viewer.layers["labels"]
    widget.go_to(AXIAL)
    labels.data_setitem((np.full(4, 6), np.array([5, 5, 6, 6]), np.array([6, 7, 6, 7])), 2)
    wait(lambda: [(row.info.value, row.painted) for row in widget.classes.table._rows] == [(1, True), (2, True)])
    labels.undo()
    wait(lambda: [row.info.value for row in widget.classes.table._rows] == [1])


def test_the_preview_follows_if_asked_to(widget, viewer, wait, engine):
    widget.auto.setChecked(True)
    widget.detect()
    wait(lambda: len(engine.cases) == 1 and not widget.job.is_running)
    labels = viewer.layers["labels"]
    labels.data_setitem(tuple(np.array([index]) for index in (6, 0, 0)), 1)
    wait(lambda: len(engine.cases) == 2 and not widget.job.is_running)
    assert engine.cases[1].labels[6, 0, 0] == 1
    labels.refresh()
    wait(lambda: widget._follow.isActive())
    wait(lambda: not widget._follow.isActive())
    assert len(engine.cases) == 2, "nothing was painted"
    widget.auto.setChecked(False)
    labels.undo()
    assert not widget._follow.isActive()


def test_propagation_follows_the_settings_of_the_run(widget, viewer, wait, engine):
    config = RunConfig.from_preset("quick").with_settings({"data.max_voxels": 30_000})
    session_of(viewer).set_config(config)
    widget.detect()
    widget.propagate()
    wait(lambda: not widget.job.is_running)
    assert engine.calls == [("propagate", config)]


@pytest.fixture
def data(monkeypatch, tmp_path):
    """The folder of this user's data; labels are saved into it soon after an edit."""
    monkeypatch.setattr("napari_rada._qt.autosave.data_folder", lambda: tmp_path / "data" / "runs")
    monkeypatch.setattr("napari_rada._qt.autosave.SAVE_MS", 50)
    return tmp_path / "data"


@pytest.fixture
def saved_in(data, viewer):
    """The file of the viewer's labels on its scan."""
    return autosave_path(data, viewer.layers["scan"], viewer.layers["labels"])


def paint(labels, value=1) -> None:
    labels.data_setitem(tuple(np.array([index]) for index in (6, 0, 0)), value)


def test_labels_are_saved_by_themselves(saved_in, dock, viewer, engine, wait, tmp_path):
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    labels = viewer.layers["labels"]
    widget.detect()
    paint(labels)
    wait(saved_in.exists)
    wait(lambda: widget.autosaver.path == saved_in)
    volume = read_volume(saved_in)
    np.testing.assert_array_equal(volume.array, labels.data)
    assert set(to_array(read_sidecar(saved_in), volume)) == {AXIAL, CORONAL, SAGITTAL}
    stamp = saved_in.stat().st_mtime_ns
    widget.go_to(AnnotatedSlice(0, 3))
    widget.go_to(AXIAL)
    wait(lambda: not widget.autosaver.job.is_running and not widget.autosaver._timer.isActive())
    assert saved_in.stat().st_mtime_ns == stamp, "looking around is no edit"
    session_of(viewer).run_dir = tmp_path / "run"
    labels.undo()
    wait((tmp_path / "run" / "autosave" / saved_in.name).exists)


def test_ticks_and_classes_are_saved_without_a_stroke(saved_in, dock, viewer, engine, wait):
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    empty = AnnotatedSlice(0, 2)
    widget.go_to(empty)
    widget.mark_current_slice()
    wait(lambda: slices_in(saved_in) == {empty})
    widget.classes.table.prompted.emit(1, "the liver in a CT scan")
    wait(lambda: [info.prompt for info in read_classes(saved_in)] == ["the liver in a CT scan"])
    widget.session.annotation(widget.labels.value()).set_complete(empty, False)
    wait(lambda: slices_in(saved_in) == set())


def slices_in(file) -> set[AnnotatedSlice] | None:
    there = file.exists() and sidecar_path(file).exists()
    return set(to_array(read_sidecar(file), read_volume(file))) if there else None


def test_steady_painting_is_saved_too(saved_in, dock, viewer, engine, qtbot, monkeypatch):
    monkeypatch.setattr("napari_rada._qt.autosave.SAVE_MS", 300)
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    for stroke in range(1, 100):
        paint(viewer.layers["labels"], stroke)
        widget.panel._on_rescan_due()
        qtbot.wait(100)
        if saved_in.exists():
            return
    pytest.fail("nothing was saved before the brush rested")


def test_closing_saves_what_is_not_saved_yet(saved_in, dock, viewer, engine):
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    paint(viewer.layers["labels"])
    viewer.window.remove_dock_widget(widget)
    assert read_volume(saved_in).array[6, 0, 0] == 1


def test_quitting_saves_what_is_not_saved_yet(saved_in, widget, viewer, qapp):
    paint(viewer.layers["labels"])
    qapp.aboutToQuit.emit()
    assert read_volume(saved_in).array[6, 0, 0] == 1


def test_closing_the_window_saves_what_is_not_saved_yet(saved_in, widget, viewer, wait):
    paint(viewer.layers["labels"])
    viewer.close()
    wait(saved_in.exists)
    assert read_volume(saved_in).array[6, 0, 0] == 1


def test_new_labels_leave_the_file_of_those_that_were_removed(data, dock, viewer, engine, wait):
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    viewer.layers.remove("labels")
    widget.new_labels()
    file = autosave_path(data, viewer.layers["scan"], widget.labels.value())
    paint(widget.labels.value())
    wait(file.exists)
    wait(lambda: not widget.autosaver.job.is_running)
    viewer.layers.remove(widget.labels.value())
    widget.new_labels()
    widget.go_to(AnnotatedSlice(0, 3))
    widget.panel._on_rescan_due()
    wait(lambda: not widget.autosaver._timer.isActive() and not widget.autosaver.job.is_running)
    assert read_volume(file).array[6, 0, 0] == 1


def test_new_labels_tell_of_what_was_painted_before(data, saved_in, dock, viewer, engine):
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    paint(viewer.layers["labels"])
    widget.autosaver.flush()
    widget.new_labels()
    assert not widget.message.value(), "it is open"
    viewer.layers.remove("labels")
    widget.new_labels()
    assert widget.message.value() == f"An earlier annotation of this scan lies in {saved_in}; open it to go on."
    earlier = saved_in.read_bytes()
    widget.labels.value().name = "labels"  # as the layer before was called
    paint(widget.labels.value())
    widget.autosaver.flush()
    assert widget.autosaver.path != saved_in
    assert saved_in.read_bytes() == earlier, "what is named can be opened"


def test_labels_that_do_not_lie_on_the_image_are_neither_saved_nor_complained_of(data, dock, viewer, engine, notified):
    viewer.add_image(np.zeros((5, 6)), name="flat")
    viewer.add_labels(np.zeros((5, 6), dtype=np.uint8), name="flat labels")
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    for image in (viewer.layers["flat"], viewer.layers["scan"]):
        widget.image.setValue(image)
        widget.labels.setValue(viewer.layers["flat labels"])
        viewer.layers["flat labels"].data = np.ones((5, 6), dtype=np.uint8)
        widget.autosaver.flush()
    assert not data.exists()
    assert not notified


def test_a_marked_slice_that_becomes_empty_is_named(dock, viewer, wait):
    widget, labels = dock(LabelSlicesWidget), viewer.layers["labels"]
    labels.data[:] = 0
    labels.data_setitem((np.full(4, 6), np.array([4, 4, 5, 5]), np.array([4, 5, 4, 5])), 1)
    session_of(viewer).annotation(labels).set_complete(AnnotatedSlice(0, 6))
    assert "empty" not in widget.panel.hint.text()
    labels.undo()
    wait(lambda: "Ticked and empty, so without any structure: axial 6." in widget.panel.hint.text())
    labels.redo()
    wait(lambda: "empty" not in widget.panel.hint.text())


def test_labels_that_could_not_be_saved_are_saved_later_and_no_longer_told(
    saved_in, data, dock, viewer, engine, wait, notified, monkeypatch
):
    monkeypatch.setattr(autosave, "RETRY_MS", 50)
    data.mkdir()
    (data / "autosave").write_text("a file where the folder should be")
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    paint(viewer.layers["labels"])
    wait(lambda: "could not be saved by themselves" in widget.message.value())
    (data / "autosave").unlink()
    wait(lambda: widget.autosaver.path is not None)
    assert widget.autosaver.path.exists(), "without another stroke"
    assert widget.message.value() == ""
    assert len(notified) == 1


def test_a_folder_that_cannot_be_made_is_told_once(saved_in, data, dock, viewer, engine, wait, notified):
    data.mkdir()
    (data / "autosave").write_text("a file where the folder should be")
    widget = dock(LabelSlicesWidget, load_engine=engine.load)
    paint(viewer.layers["labels"])
    wait(lambda: "could not be saved by themselves" in widget.message.value())
    assert "cannot be written (File exists)" in notified[0]
    widget.autosaver.flush()
    assert len(notified) == 1
    viewer.window.remove_dock_widget(widget)
    assert widget.labels.value() is None, "the dock has let go of the viewer"
