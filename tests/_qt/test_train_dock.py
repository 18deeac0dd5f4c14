"""The dock Train: start, watch, pause, stop, and every way in which it can go wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_rada._napari.job import RunState
from napari_rada._napari.layers import placement_of_grid
from napari_rada._napari.session import session_of
from napari_rada._qt.folder_edit import data_folder
from napari_rada._qt.run_settings import viewer_threads
from napari_rada._qt.train import TrainWidget
from napari_rada.data.grid import Grid
from napari_rada.errors import InputError

PLANES = [(0, 6), (1, 7), (2, 8)]


@pytest.fixture
def widget(viewer, dock, engine, tmp_path) -> TrainWidget:
    mark(viewer)
    widget = dock(TrainWidget, load_engine=engine.load)
    widget.folder.setValue(tmp_path / "run")
    return widget


def mark(viewer) -> None:
    viewer.layers["labels"].metadata["annotated_slices"] = [{"axis": a, "index": i} for a, i in PLANES]


def click(qtbot, button) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_a_run_from_start_to_finish(widget, viewer, qtbot, wait, engine, tmp_path):
    click(qtbot, widget.start_button)
    wait(lambda: widget.state is RunState.TRAINING)
    assert not widget.start_button.isEnabled()
    assert not widget.image.isEnabled()
    wait(lambda: "iteration" in widget.progress.label.text())
    assert "1 min 0 s left" in widget.progress.label.text()
    wait(lambda: widget.state is RunState.IDLE)
    assert len(widget.history.steps) == 30
    assert widget.message.value() == "Finished after 30 iterations. Held-out Dice 0.900. Go on in the dock Predict."
    assert widget.notices.value() == "The graphics card is busy; the CPU is used instead."
    assert [run.path for run in session_of(viewer).runs] == [tmp_path / "run"]
    assert widget.start_button.isEnabled()
    assert not widget.stop_button.isEnabled()
    assert widget.folder.value() != tmp_path / "run", "the next run gets a folder of its own"


def test_work_is_done_off_the_main_thread_on_what_was_asked(widget, wait, engine):
    widget.length.setValue(iterations=77)
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    assert engine.threads
    assert threading.get_ident() not in engine.threads
    ((_, config),) = engine.calls
    assert config.preset == "quick"
    assert config.training.iterations == 77
    assert config.training.minutes is None
    assert config.threads == viewer_threads() >= 1
    (case,) = engine.cases
    assert [(plane.axis, plane.index) for plane in case.annotated] == PLANES
    assert case.grid.spacing == (3.0, 1.5, 1.0)


def test_minutes_can_be_given_instead(widget):
    widget.length.setValue(minutes=2.5)
    assert widget.config().training.minutes == 2.5
    widget.preset.setValue("standard")
    assert widget.config().training.minutes is None
    assert widget.config().preset == "standard"


def test_every_network_has_its_curves(widget, wait):
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    curves = widget.plot.curves
    assert len(curves) == 6
    items = len(widget.plot.losses.box.addedItems)
    for (kind, network), curve in curves.items():
        x, y = curve.getOriginalDataset()
        assert len(x) == 30
        expected = widget.history.losses(kind, network)[1]
        np.testing.assert_array_equal(y, np.where(expected > 0, expected, np.nan))
    np.testing.assert_allclose(widget.plot.dice_curve.getOriginalDataset()[1], [0.81, 0.82, 0.83])
    assert "Held-out Dice 0.830, best 0.830; propagation alone 0.800" in widget.plot.dice_caption.text()
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    assert len(widget.plot.losses.box.addedItems) == items, "curves are updated, not added"


def test_stop_comes_within_an_iteration(widget, qtbot, wait, engine):
    engine.iterations = 100_000
    widget.start()
    wait(lambda: len(widget.history.steps) >= 20)
    click(qtbot, widget.stop_button)
    assert widget.state is RunState.STOPPING
    assert not widget.stop_button.isEnabled()
    wait(lambda: widget.state is RunState.IDLE)
    assert widget.message.value().startswith("Stopped after ")


def test_pause_and_resume(widget, qtbot, wait, engine):
    engine.iterations = 100_000
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    click(qtbot, widget.pause_button)
    wait(lambda: widget.state is RunState.PAUSED)
    assert widget.pause_button.text() == "Resume"
    assert "Paused" in widget.progress.label.text()
    count = len(widget.history.steps)
    qtbot.wait(300)
    assert len(widget.history.steps) == count
    click(qtbot, widget.pause_button)
    wait(lambda: len(widget.history.steps) > count)
    assert widget.pause_button.text() == "Pause"
    widget.stop()
    wait(lambda: widget.state is RunState.IDLE)


def test_stop_before_the_first_iteration_keeps_no_run(widget, viewer, wait, engine):
    engine.go.clear()
    widget.start()
    widget.stop()
    wait(lambda: widget.state is RunState.IDLE)
    assert widget.message.value() == "Stopped before the first iteration; nothing was trained."
    assert session_of(viewer).runs == ()


def test_later_edits_do_not_reach_the_run(widget, viewer, wait, engine):
    widget.start()
    viewer.layers["labels"].data[:] = 0
    viewer.layers["scan"].data[:] = 0
    viewer.layers.clear()
    wait(lambda: widget.state is RunState.IDLE)
    (case,) = engine.cases
    assert case.labels.any()
    assert case.image.std() > 1
    assert "Finished" in widget.message.value()


@pytest.mark.parametrize("error", [InputError("The run folder already holds a run; choose another folder.")])
def test_an_error_is_told_and_the_buttons_come_back(widget, wait, engine, notified, error):
    engine.error = error
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    assert widget.message.value() == str(error)
    assert notified == [str(error)]
    assert widget.start_button.isEnabled()
    engine.error = None
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    assert "Finished" in widget.message.value()


def test_a_crash_is_told_and_the_buttons_come_back(widget, wait, engine, notified, monkeypatch):
    crashes: list[BaseException] = []
    monkeypatch.setattr("napari_rada._qt.worker.report_crash", crashes.append)
    engine.error = RuntimeError("CUDA out of memory")
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    assert widget.message.value() == "Unexpected error, please report it: RuntimeError: CUDA out of memory"
    assert widget.start_button.isEnabled()
    wait(lambda: crashes == [engine.error])


def test_mistakes_are_told_in_one_sentence(widget, viewer, notified):
    viewer.layers["labels"].metadata["annotated_slices"] = []
    widget.start()
    assert "No slice of 'labels' is marked as annotated" in widget.message.value()
    viewer.add_labels(np.ones((3, 4, 5), dtype=np.uint8), name="small")
    widget.labels.setValue(viewer.layers["small"])
    widget.start()
    assert "it has (3, 4, 5) voxels, not (12, 14, 16)" in widget.message.value()
    viewer.layers.clear()
    widget.start()
    assert "Training needs an Image layer and a Labels layer" in widget.message.value()
    assert len(notified) == 3
    assert widget.state is RunState.IDLE


def test_the_summary_follows_the_annotation(widget, viewer):
    assert widget.summary.text() == "3 annotated slices will be learned from."
    model = session_of(viewer).annotation(viewer.layers["labels"])
    for plane in model.complete:
        model.set_complete(plane, False)
    assert widget.summary.text() == "No slice is marked as annotated yet."
    viewer.layers.remove("labels")
    assert widget.summary.text() == "Label three slices first, in the dock Label slices."


def test_runs_are_proposed_beside_the_scan_where_one_can_write(widget, viewer, tmp_path, monkeypatch):
    grid = Grid.from_spacing((12, 14, 16))
    (tmp_path / "scan.nii").touch()
    place = placement_of_grid(grid, tmp_path / "scan.nii")
    layer = viewer.add_image(viewer.layers["scan"].data, name="from disk", **place)
    widget.image.setValue(layer)
    assert widget.folder.value().parent == tmp_path / "rada-runs"
    assert widget.folder.value().name.startswith("from-disk-")
    widget.image.setValue(viewer.layers["scan"])
    assert widget.folder.value().parent == data_folder()
    monkeypatch.setattr("os.access", lambda *arguments: False)
    widget.image.setValue(layer)
    assert widget.folder.value().parent == data_folder()


def test_closing_the_dock_stops_the_run(widget, viewer, wait, engine):
    engine.iterations = 100_000
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    viewer.window.remove_dock_widget(widget)
    wait(lambda: engine.calls and not any_task_running())


def test_closing_the_window_stops_the_run(widget, viewer, wait, engine):
    engine.iterations = 100_000
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    viewer.close()
    wait(lambda: not any_task_running())


def any_task_running() -> bool:
    from superqt.utils._qthreading import WorkerBase

    return any(worker.is_running for worker in WorkerBase._worker_set)


def test_colours_follow_the_theme(widget, viewer):
    dark = widget.plot.curves["supervised", 0].opts["pen"].color().name()
    viewer.theme = "light"
    assert widget.plot.curves["supervised", 0].opts["pen"].color().name() != dark
