"""The dock Train: start, watch, pause, stop, and every way in which it can go wrong."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QPushButton
from tests._qt.driving import any_task_running, click
from tests.engine import CENTRE, ball, ball_case, tiny_config

from napari_rada import pipeline
from napari_rada._napari.files import read_layers
from napari_rada._napari.job import RunState
from napari_rada._napari.layers import (
    case_to_layer_data,
    new_labels_data,
    placement_of_grid,
    set_annotated_slices,
    take_snapshot,
)
from napari_rada._napari.pairing import note_image
from napari_rada._napari.preview import add_layers
from napari_rada._napari.run_files import load_run
from napari_rada._napari.session import session_of
from napari_rada._qt.dock import WIDTH
from napari_rada._qt.folder_edit import data_folder
from napari_rada._qt.label_slices import LabelSlicesWidget
from napari_rada._qt.predict import PredictWidget
from napari_rada._qt.train import TrainWidget
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError, Stopped
from napari_rada.events import Notice, StepLogged
from napari_rada.guidance import weights
from napari_rada.io import read_volume, write_volume
from napari_rada.io.annotations import write_sidecar
from napari_rada.presets import COHORT
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import load_cases

if TYPE_CHECKING:
    from pathlib import Path

PLANES = [(0, 6), (1, 7), (2, 8)]


@pytest.fixture
def widget(viewer, dock, engine, tmp_path) -> TrainWidget:
    mark(viewer)
    widget = dock(TrainWidget, load_engine=engine.load)
    widget.folder.setValue(tmp_path / "run")
    return widget


def mark(viewer) -> None:
    viewer.layers["labels"].metadata["annotated_slices"] = [{"axis": a, "index": i} for a, i in PLANES]


def test_a_run_from_start_to_finish(widget, viewer, qtbot, wait, engine, tmp_path):
    click(qtbot, widget.buttons.start)
    wait(lambda: widget.state is RunState.TRAINING)
    assert not widget.buttons.start.isEnabled()
    assert not widget.image.isEnabled()
    wait(lambda: "iteration" in widget.progress.label.text())
    assert "1 min 0 s left" in widget.progress.label.text()
    wait(lambda: widget.state is RunState.IDLE)
    assert len(widget.history.steps) == 30
    assert widget.message.value() == "Finished after 30 iterations. Held-out Dice 0.900. Go on in the dock Predict."
    assert widget.notices.value() == "The graphics card is busy; the CPU is used instead."
    assert widget.notices.toolTip() == ""
    assert [run.path for run in session_of(viewer).runs] == [tmp_path / "run"]
    assert widget.buttons.start.isEnabled()
    assert not widget.buttons.stop.isEnabled()
    assert widget.folder.value() != tmp_path / "run", "the next run gets a folder of its own"


def test_work_is_done_off_the_main_thread_on_what_was_asked(widget, wait, engine):
    widget.settings.length.setValue(iterations=77)
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    assert engine.threads
    assert threading.get_ident() not in engine.threads
    ((_, config),) = engine.calls
    assert config.preset == "quick"
    assert config.training.iterations == 77
    assert config.training.minutes is None
    assert config.threads is None, "all cores, as the preset says"
    (case,) = engine.cases
    assert [(plane.axis, plane.index) for plane in case.annotated] == PLANES
    assert case.grid.spacing == (3.0, 1.5, 1.0)


def test_minutes_can_be_given_instead(widget):
    widget.settings.length.setValue(minutes=2.5)
    assert widget.config().training.minutes == 2.5
    widget.settings.preset.setValue("standard")
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
    click(qtbot, widget.buttons.stop)
    assert widget.state is RunState.STOPPING
    assert not widget.buttons.stop.isEnabled()
    wait(lambda: widget.state is RunState.IDLE)
    assert widget.message.value().startswith("Stopped after ")


def test_pause_and_resume(widget, qtbot, wait, engine):
    engine.iterations = 100_000
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    click(qtbot, widget.buttons.pause)
    wait(lambda: widget.state is RunState.PAUSED)
    assert widget.buttons.pause.text() == "Resume"
    assert "Paused" in widget.progress.label.text()
    count = len(widget.history.steps)
    qtbot.wait(300)
    assert len(widget.history.steps) == count
    click(qtbot, widget.buttons.pause)
    wait(lambda: len(widget.history.steps) > count)
    assert widget.buttons.pause.text() == "Pause"
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
    assert widget.buttons.start.isEnabled()
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
    assert widget.buttons.start.isEnabled()
    wait(lambda: crashes == [engine.error])


def test_mistakes_are_told_in_one_sentence(widget, viewer, notified):
    viewer.layers["labels"].metadata["annotated_slices"] = []
    widget.start()
    assert "No slice of 'labels' is marked as annotated" in widget.message.value()
    viewer.add_labels(np.ones((3, 4, 5), dtype=np.uint8), name="small")
    widget.labels.setValue(viewer.layers["small"])
    widget.start()
    assert "it has (3, 4, 5) voxels, not (12, 14, 16)" in widget.message.value()
    widget.labels.setValue(viewer.layers["labels"])
    assert not widget.message.value(), "it was about the other labels"
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


def test_it_begins_with_the_image_whose_labels_are_painted_in(viewer, dock, engine):
    mark(viewer)
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    note_image(labels, scan)
    viewer.add_image(scan.data * 2, name="opened later", scale=scan.scale, affine=scan.affine, units=scan.units)
    viewer.layers.selection.active = labels
    for kind in (LabelSlicesWidget, TrainWidget, PredictWidget):
        assert dock(kind, load_engine=engine.load).image.value() is scan
    viewer.layers.selection.active = scan
    assert dock(PredictWidget, load_engine=engine.load).image.value() is viewer.layers["opened later"]


def test_no_run_is_proposed_inside_another(viewer, dock, wait, tmp_path):
    widget = dock(TrainWidget)
    pipeline.train([ball_case()], tmp_path / "runs" / "first", tiny_config(training__iterations=1))
    viewer.layers.clear()
    widget.load_run(tmp_path / "runs" / "first")
    wait(lambda: not widget.loading_job.is_running)
    assert widget.folder.value().parent == tmp_path / "runs"


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


def test_colours_follow_the_theme(widget, viewer):
    dark = widget.plot.curves["supervised", 0].opts["pen"].color().name()
    viewer.theme = "light"
    assert widget.plot.curves["supervised", 0].opts["pen"].color().name() != dark


def test_training_is_continued_into_a_folder_of_its_own(widget, qtbot, wait, engine, tmp_path):
    assert not widget.buttons.proceed.isEnabled()
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    widget.folder.setValue(tmp_path / "second")
    click(qtbot, widget.buttons.proceed)
    assert not widget.buttons.proceed.isEnabled()
    wait(lambda: widget.state is RunState.IDLE)
    name, (old, config) = engine.calls[-1]
    assert (name, old, config.preset) == ("continue", tmp_path / "run", "quick")
    assert [step.iteration for step in widget.history.steps] == list(range(1, 61)), "the curve goes on"
    assert widget.run_dir == tmp_path / "second"
    assert "Finished after 60 iterations" in widget.message.value()
    widget.folder.setValue(tmp_path / "third")
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    assert len(widget.history.steps) == 30, "new networks begin a new curve"


def test_the_curve_goes_on_from_the_networks_that_are_continued(widget, wait, engine, tmp_path):
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    engine.iterations = 20  # as where networks that had begun anew were stopped, and those before them go on
    widget.folder.setValue(tmp_path / "second")
    widget.continue_training()
    wait(lambda: widget.state is RunState.IDLE)
    assert [step.iteration for step in widget.history.steps] == list(range(1, 41))
    assert [found.iteration for found in widget.history.validations] == [10, 20, 30, 40]


def test_without_a_run_nothing_is_continued(widget, notified):
    widget.continue_training()
    assert widget.message.value() == "There is no run to continue; start one, or load one from disk."
    assert notified


def test_edits_in_mid_run_are_told_to_count_later(widget, viewer, wait, engine):
    engine.iterations = 100_000
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    assert "works on a copy; what you paint now counts" in widget.summary.text()
    viewer.layers["labels"].name = "renamed"
    viewer.layers["scan"].data = np.zeros((3, 4, 5), dtype=np.float32)
    viewer.layers.remove("renamed")
    viewer.add_labels(np.ones((3, 4, 5), dtype=np.uint8), name="other")
    assert "works on a copy; what you paint now counts" in widget.summary.text()
    widget.stop()
    wait(lambda: widget.state is RunState.IDLE)
    assert widget.summary.text() == "Label three slices first, in the dock Label slices."


def test_a_preview_is_asked_for_between_two_iterations(widget, viewer, qtbot, wait, engine, tmp_path):
    engine.iterations = 100_000
    panel = widget.preview
    assert not panel.slices_button.isEnabled()
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    click(qtbot, panel.slices_button)
    assert not panel.volume_button.isEnabled()
    wait(lambda: "Layer 'labels training slices' shows iteration 30." in panel.message.value())
    assert ("preview", (tmp_path / "run", "auto")) in engine.calls
    click(qtbot, panel.volume_button)
    wait(lambda: "labels training volume" in [layer.name for layer in viewer.layers])
    assert engine.options == [("last", None)]
    widget.pause()
    wait(lambda: widget.state is RunState.PAUSED)
    wait(panel.slices_button.isEnabled)
    count = len(viewer.layers)
    click(qtbot, panel.slices_button)
    wait(lambda: not panel.job.is_running)
    assert len(viewer.layers) == count, "an untouched preview is updated"
    widget.stop()
    wait(lambda: widget.state is RunState.IDLE)


def test_a_live_preview_follows_the_validations(widget, viewer, wait, engine):
    widget.preview.live.setChecked(True)
    engine.iterations = 100_000
    widget.start()
    wait(lambda: "labels training slices" in [layer.name for layer in viewer.layers])
    widget.stop()
    wait(lambda: widget.state is RunState.IDLE)
    wait(lambda: not widget.preview.job.is_running)
    assert "shows iteration" in widget.preview.message.value()
    viewer.layers.remove("labels training slices")
    assert widget.preview.message.value() == ""


def test_a_preview_that_fails_is_told_and_can_be_tried_again(widget, viewer, wait, engine):
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    engine.error = InputError("A preview needs two views.")
    widget.preview.request("slices")
    wait(lambda: widget.preview.message.value() == "A preview needs two views.")
    assert widget.preview.slices_button.isEnabled()
    engine.error = None
    viewer.layers["scan"].data = np.zeros((3, 4, 5), dtype=np.float32)
    widget.preview.request("volume")
    wait(lambda: "predict again" in widget.preview.message.value())


def test_a_preview_that_comes_late_lies_on_the_layers_of_its_own_run(widget, viewer, wait, engine, tmp_path):
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    other = viewer.add_image(scan.data[::-1], name="other", **place)
    others = viewer.add_labels(labels.data.copy(), name="others", metadata=dict(labels.metadata), **place)
    for layer, combo in ((scan, widget.image), (labels, widget.labels)):
        combo.setValue(layer)
    first_run(widget, wait)
    engine.go.clear()
    widget.preview.request("volume")
    wait(lambda: engine.calls[-1][0] == "predict")
    widget.image.setValue(other)
    widget.labels.setValue(others)
    widget.folder.setValue(tmp_path / "second")
    widget.start()
    engine.go.set()
    wait(lambda: "'labels training volume' shows iteration 30" in widget.preview.message.value())
    wait(lambda: widget.state is RunState.IDLE)
    assert "others training volume" not in [layer.name for layer in viewer.layers]
    widget.preview.request("volume")
    wait(lambda: "'others training volume' shows" in widget.preview.message.value())


def test_a_loaded_run_has_neither_weights_to_preview_nor_notices_of_the_run_before(scan_run, widget, wait, tmp_path):
    widget.folder.setValue(tmp_path / "before")
    first_run(widget, wait)
    assert widget.preview.volume_button.isEnabled()
    widget.load_run(scan_run)
    wait(lambda: not widget.loading_job.is_running)
    assert widget.buttons.proceed.isEnabled()
    assert not widget.preview.volume_button.isEnabled()
    assert widget.notices.value() == ""


def test_settings_are_shared_and_checked_as_one_types(widget, viewer, qtbot):
    session = session_of(viewer)
    assert session.config == widget.config()
    widget.settings.section.setValue(True)
    field = widget.settings.advanced.fields["training.learning_rate"]
    field.selectAll()
    qtbot.keyClicks(field, "0.5")
    assert widget.config().training.learning_rate == 0.5
    assert session.config.training.learning_rate == 0.5
    qtbot.keyClicks(field, "x")
    assert "training.learning_rate" in widget.settings.advanced.problem.value()
    assert session.config.training.learning_rate == 0.5
    widget.start()
    assert "training.learning_rate" in widget.message.value()
    assert widget.state is RunState.IDLE
    widget.settings.advanced.fields["training.optimiser.kind"].setCurrentText("sgd")
    assert "training.optimiser.momentum" in widget.settings.advanced.fields
    widget.settings.preset.setValue("paper")
    assert widget.settings.advanced.value() == {}
    assert widget.config().preset == "paper"


def test_a_run_is_loaded_after_a_restart(viewer, dock, qtbot, wait, tmp_path):
    config = tiny_config(seed=7, training__iterations=3)
    pipeline.train([ball_case("liver")], tmp_path / "run", config)
    widget = dock(TrainWidget)
    widget.load_run(tmp_path / "run")
    wait(lambda: not widget.loading_job.is_running)
    assert widget.message.value() == "Loaded run. 3 logged iterations."
    assert widget.image.value() is viewer.layers["liver"]
    assert widget.labels.value() is viewer.layers["liver labels"]
    assert len(widget.annotated) == 3
    assert [step.iteration for step in widget.history.steps] == [1, 2, 3]
    assert widget.config() == config
    assert widget.buttons.proceed.isEnabled()
    assert session_of(viewer).runs[-1].path == tmp_path / "run"
    count = len(viewer.layers)
    widget.load_run(tmp_path / "run")
    wait(lambda: not widget.loading_job.is_running)
    assert len(viewer.layers) == count, "layers that are open are kept as they are"
    widget.load_run(tmp_path)
    wait(lambda: not widget.loading_job.is_running)
    assert "is not a run folder" in widget.message.value()


def test_labels_that_were_renamed_after_start_come_back_beside_others_of_their_first_name(
    viewer, dock, engine, wait, monkeypatch, tmp_path
):
    monkeypatch.setattr("napari_rada._qt.autosave.data_folder", lambda: tmp_path / "data" / "runs")
    case = ball_case("liver")
    image, labels = add_layers(viewer, case_to_layer_data(case))
    train, slices = dock(TrainWidget), dock(LabelSlicesWidget, load_engine=engine.load)
    for widget in (train, slices):
        widget.image.setValue(image)
        widget.labels.setValue(labels)
    train.settings.setValue(tiny_config(training__iterations=1))
    train.folder.setValue(tmp_path / "run")
    train.start()
    wait(lambda: train.state is RunState.IDLE, timeout_s=60)
    labels.name = "renamed"
    labels.data_setitem(tuple(np.array([index]) for index in (1, 1, 1)), 1)
    slices.new_labels()
    other = slices.labels.value()
    assert other.name == "liver labels"
    other.data_setitem(tuple(np.array([index]) for index in (3, 3, 3)), 1)
    slices.autosaver.flush()
    (found,) = load_run(RunFolder.open(tmp_path / "run")).cases
    np.testing.assert_array_equal(found.labels, labels.data)
    train.load_run(tmp_path / "run")
    wait(lambda: not train.loading_job.is_running)
    assert train.labels.value() is labels, "it is open under its other name"


def test_labels_that_were_renamed_before_start_come_back_as_they_were_painted_last(
    viewer, dock, engine, wait, monkeypatch, tmp_path
):
    """The run remembers the name of Start, under which they are kept from then on."""
    monkeypatch.setattr("napari_rada._qt.autosave.data_folder", lambda: tmp_path / "data" / "runs")
    image, labels = add_layers(viewer, case_to_layer_data(ball_case("liver")))
    train, slices = dock(TrainWidget), dock(LabelSlicesWidget, load_engine=engine.load)
    for widget in (train, slices):
        widget.image.setValue(image)
        widget.labels.setValue(labels)
    labels.data_setitem(tuple(np.array([index]) for index in (1, 1, 1)), 1)
    slices.autosaver.flush()
    labels.name = "renamed"
    train.settings.setValue(tiny_config(training__iterations=1))
    train.folder.setValue(tmp_path / "run")
    train.start()
    wait(lambda: train.state is RunState.IDLE, timeout_s=60)
    labels.data_setitem(tuple(np.array([index]) for index in (3, 3, 3)), 1)
    slices.autosaver.flush()
    (found,) = load_run(RunFolder.open(tmp_path / "run")).cases
    np.testing.assert_array_equal(found.labels, labels.data)


@pytest.fixture
def scan_run(tmp_path):
    """A run on a scan that lies in a file."""
    case = replace(ball_case("liver"), source=tmp_path / "liver.nii.gz")
    write_volume(case.source, case.image, case.grid)
    pipeline.train([case], tmp_path / "run", tiny_config(training__iterations=1))
    return tmp_path / "run"


def test_new_labels_do_not_stand_for_those_of_the_run(scan_run, viewer, dock, wait, tmp_path):
    (data,) = read_layers(str(tmp_path / "liver.nii.gz"))
    (image,) = add_layers(viewer, [data])
    (empty,) = add_layers(viewer, [new_labels_data(image)])
    widget = dock(TrainWidget)
    widget.load_run(scan_run)
    wait(lambda: not widget.loading_job.is_running)
    assert widget.image.value() is image
    assert widget.labels.value() is not empty
    assert len(widget.annotated) == 3
    count = len(viewer.layers)
    widget.load_run(scan_run)
    wait(lambda: not widget.loading_job.is_running)
    assert len(viewer.layers) == count, "what the run brought is found again under its number"


def test_labels_with_paint_are_kept_when_their_run_is_loaded(scan_run, viewer, dock, wait, tmp_path):
    (data,) = read_layers(str(tmp_path / "liver.nii.gz"))
    (image,) = add_layers(viewer, [data])
    (painted,) = add_layers(viewer, [new_labels_data(image)])
    painted.data_setitem(tuple(np.array([index]) for index in (3, 3, 3)), 1)
    widget = dock(TrainWidget)
    widget.load_run(scan_run)
    wait(lambda: not widget.loading_job.is_running)
    assert (widget.image.value(), widget.labels.value()) == (image, painted)


def test_labels_that_are_open_from_a_file_of_their_own_are_newer_than_those_of_the_run(viewer, dock, wait, tmp_path):
    case = ball_case("scan")
    files = tmp_path / "scan.nii", tmp_path / "scan_labels.nii"
    for file, array in zip(files, (case.image, case.labels), strict=True):
        write_volume(file, array, case.grid)
    write_sidecar(files[1], [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)])
    image, labels = add_layers(viewer, read_layers([str(file) for file in files]))
    pipeline.train([take_snapshot(image, labels).to_case()], tmp_path / "run", tiny_config(training__iterations=1))
    widget = dock(TrainWidget)
    session_of(viewer).annotation(labels).set_complete(AnnotatedSlice(0, 5))
    count = len(viewer.layers)
    widget.load_run(tmp_path / "run")
    wait(lambda: not widget.loading_job.is_running)
    assert (widget.image.value(), widget.labels.value()) == (image, labels)
    assert len(viewer.layers) == count
    assert len(widget.annotated) == 4


def test_labels_of_another_scan_do_not_stand_for_those_of_the_run(scan_run, viewer, dock, wait, tmp_path):
    (tmp_path / "other").mkdir()
    files = tmp_path / "liver.nii.gz", tmp_path / "other" / "liver.nii.gz"
    case = ball_case("liver", seed=1)
    write_volume(files[1], case.image, case.grid)
    image, other = add_layers(viewer, read_layers([str(file) for file in files]))
    (theirs,) = add_layers(viewer, [new_labels_data(other)])
    theirs.name = "liver labels"
    theirs.data[3] = 1
    widget = dock(TrainWidget)
    widget.load_run(scan_run)
    wait(lambda: not widget.loading_job.is_running)
    assert widget.image.value() is image
    assert widget.labels.value() is not theirs


def test_of_two_annotations_of_an_image_a_run_chooses_its_own(scan_run, viewer, dock, wait, tmp_path):
    (data,) = read_layers(str(tmp_path / "liver.nii.gz"))
    (image,) = add_layers(viewer, [data])
    mine, notes = (add_layers(viewer, [new_labels_data(image)])[0] for _ in range(2))
    mine.name, notes.name = "mine", "notes"
    for layer in (mine, notes):
        layer.data[:, CENTRE[1]] = ball()[:, CENTRE[1]]
    case = take_snapshot(image, mine).to_case()
    pipeline.train([case], tmp_path / "mine", tiny_config(training__iterations=1))
    widget = dock(TrainWidget)
    widget.load_run(tmp_path / "mine")
    wait(lambda: not widget.loading_job.is_running)
    assert widget.labels.value() is mine


def test_a_cohort_comes_back_as_it_was(viewer, dock, wait, tmp_path):
    cases = [ball_case(name, seed, labelled=name != "C") for seed, name in enumerate("CABD")]
    cases = [replace(case, source=tmp_path / f"{case.name}.nii") for case in cases]
    for case in cases:
        write_volume(case.source, case.image, case.grid)
    pipeline.train(cases, tmp_path / "run", tiny_config(training__iterations=1).for_cohort())
    config = RunFolder.open(tmp_path / "run").config()
    widget = dock(TrainWidget)
    widget.cohort.setValue(tmp_path / "elsewhere")
    for _ in range(2):
        widget.load_run(tmp_path / "run")
        wait(lambda: not widget.loading_job.is_running)
        assert (widget.image.value().name, widget.labels.value().name) == ("A", "A labels")
        assert viewer.layers.selection.active is widget.labels.value()
        assert widget.cohort.value() is None
        listed = "And 3 more: C (not annotated), B (B labels), D (D labels)."
        assert widget.cohort.listing.text() == listed
        for clicked in ("B", "C", "A labels"):
            viewer.layers.selection = {viewer.layers[clicked]}
            assert widget.config() == config
    widget.folder.setValue(tmp_path / "second")
    widget.continue_training()
    wait(lambda: not widget.job.is_running)
    assert "Finished after 4 iterations" in widget.message.value(), "two halves each, since C teaches"
    continued = load_cases(RunFolder.open(tmp_path / "second"), config)
    assert {case.name: len(case.annotated) for case in continued} == {"A": 3, "B": 3, "C": 0, "D": 3}


def test_a_run_of_one_scan_leaves_no_cohort_behind(scan_run, widget, viewer, wait):
    scan = viewer.layers["scan"]
    plain = viewer.add_image(scan.data, name="plain")
    viewer.layers.selection = {scan, plain}
    widget.cohort.layers.setChecked(True)
    widget.load_run(scan_run)
    wait(lambda: not widget.loading_job.is_running)
    assert not widget.cohort.layers.isChecked()
    shown = widget.config()
    assert not shown.cohort
    viewer.layers.selection = {plain}
    assert widget.config() == shown


def test_no_run_is_started_while_another_is_loaded(scan_run, widget, wait, tmp_path, engine, monkeypatch):
    waiting = []
    monkeypatch.setattr(widget.loading_job, "_spawn", waiting.append)
    widget.load_run(scan_run)
    for button in (widget.buttons.start, widget.buttons.check, widget.buttons.more.entries["Load run…"]):
        assert not button.isEnabled()
    widget.start()
    assert widget.message.value() == "A run is being loaded; wait until it is there, then start."
    assert (widget.run_dir, widget.state) == (None, RunState.IDLE)
    waiting[0]()
    wait(lambda: not widget.loading_job.is_running)
    assert widget.run_dir == scan_run
    assert widget.buttons.start.isEnabled()
    assert engine.calls == []


def test_a_run_with_the_settings_of_a_cohort_keeps_them(viewer, dock, wait, tmp_path):
    config = tiny_config(training__iterations=1).for_cohort()
    pipeline.train([ball_case("liver")], tmp_path / "run", config)
    widget = dock(TrainWidget)
    widget.load_run(tmp_path / "run")
    wait(lambda: not widget.loading_job.is_running)
    viewer.layers.selection = {widget.image.value()}
    assert widget.config() == config


def test_a_scan_of_the_same_name_and_shape_does_not_stand_for_that_of_the_run(scan_run, viewer, dock, wait, tmp_path):
    (tmp_path / "other").mkdir()
    other = replace(ball_case("liver", seed=1), source=tmp_path / "other" / "liver.nii.gz")
    write_volume(other.source, other.image, other.grid)
    (data,) = read_layers(str(other.source))
    (image,) = add_layers(viewer, [data])
    widget = dock(TrainWidget)
    widget.load_run(scan_run)
    wait(lambda: not widget.loading_job.is_running)
    assert widget.image.value() is not image
    np.testing.assert_allclose(widget.image.value().data, ball_case("liver").image)


def test_a_scan_without_a_file_is_known_by_its_voxels(viewer, dock, wait, tmp_path):
    case = ball_case("liver")
    pipeline.train([case], tmp_path / "run", tiny_config(training__iterations=1))
    image, labels = (viewer.add_layer(Layer.create(*data)) for data in case_to_layer_data(case))
    widget = dock(TrainWidget)
    widget.load_run(tmp_path / "run")
    wait(lambda: not widget.loading_job.is_running)
    assert (widget.image.value(), widget.labels.value()) == (image, labels)
    viewer.layers.remove(labels)
    image.data = image.data[::-1]
    widget.load_run(tmp_path / "run")
    wait(lambda: not widget.loading_job.is_running)
    assert widget.image.value() is not image


def test_settings_are_copied_as_script_and_command(widget, viewer, wait, tmp_path):
    entries = widget.buttons.more.entries
    entries["Copy as script"].trigger()
    wait(lambda: "Copied what Start would do as a script." in widget.message.value())
    copied = QGuiApplication.clipboard().text()
    assert copied == widget.as_script()
    assert "viewer.layers['scan'], viewer.layers['labels']" in copied
    entries["Copy as command"].trigger()
    assert "lies in no file; save it first" in widget.message.value()


def test_files_are_read_for_a_command_outside_the_main_thread(viewer, dock, wait, tmp_path, monkeypatch):
    case, threads = ball_case("liver"), []
    write_volume(tmp_path / "liver.nii.gz", case.image, case.grid)
    write_volume(tmp_path / "liver_labels.nii.gz", case.labels.astype(np.uint8), case.grid)
    files = [str(tmp_path / name) for name in ("liver.nii.gz", "liver_labels.nii.gz")]
    image, labels = add_layers(viewer, read_layers(files))
    set_annotated_slices(labels, case.annotated)
    widget = dock(TrainWidget)
    widget.image.setValue(image)

    def read(file: Path) -> object:
        threads.append(threading.current_thread())
        return read_volume(file)

    monkeypatch.setattr("napari_rada._napari.recipes.read_volume", read)
    widget.buttons.more.entries["Copy as command"].trigger()
    wait(lambda: "Copied what Start would do as a command." in widget.message.value())
    assert threads
    assert threading.main_thread() not in threads
    assert QGuiApplication.clipboard().text() == widget.as_command()


def test_the_log_is_shown_and_followed(widget, wait, tmp_path):
    show = widget.buttons.more.entries["Show the log"]
    show.trigger()
    assert "There is no run to show the log of" in widget.message.value()
    widget.run_dir = tmp_path
    show.trigger()
    assert "the log begins with the first message" in widget.message.value()
    log = tmp_path / "run.log"
    log.write_text("first\nhalf a li")
    show.trigger()
    assert widget.log.isVisible()
    assert widget.log.text.toPlainText() == "first"
    log.write_text("first\nhalf a line\n")
    wait(lambda: widget.log.text.toPlainText() == "first\nhalf a line")
    log.unlink()
    wait(lambda: not widget.log._follow.isActive())
    assert widget.log.text.toPlainText() == "first\nhalf a line"
    widget.log.close()


def test_rates_are_drawn_on_demand_and_the_plot_is_saved(widget, wait, tmp_path, monkeypatch, qtbot):
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    plot = widget.plot
    assert not plot.rates["beta"].isVisibleTo(plot)
    plot.rate_boxes["beta"].setChecked(True)
    assert plot.rates["beta"].isVisibleTo(plot)
    np.testing.assert_allclose(plot.rate_curves["beta"].getOriginalDataset()[1], 0.1)
    out = tmp_path / "plot.png"
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *arguments: (str(out), ""))
    click(qtbot, plot.save_button)
    assert out.stat().st_size > 1000
    out = tmp_path / "nowhere" / "plot.png"
    click(qtbot, plot.save_button)
    assert "cannot be written" in widget.message.value()


def test_a_check_tells_memory_and_time_and_trains_nothing(widget, viewer, qtbot, wait, engine):
    click(qtbot, widget.buttons.check)
    wait(lambda: widget.message.value().startswith("Ready to start: about"))
    assert "of main memory" in widget.message.value()
    assert engine.calls == []
    viewer.layers["labels"].metadata["annotated_slices"] = [{"axis": 0, "index": 6}]
    widget.check()
    wait(lambda: "no annotated coronal and no sagittal slice" in widget.message.value())
    viewer.layers["scan"].data = np.ones_like(viewer.layers["scan"].data)
    widget.check()
    wait(lambda: "a constant image cannot be segmented" in widget.message.value())
    assert widget.buttons.start.isEnabled()


@pytest.mark.parametrize("change", ["preset", "length", "scans", "slices"])
def test_what_a_check_found_is_not_told_of_other_settings_and_scans(widget, viewer, qtbot, wait, change):
    plain = viewer.add_image(viewer.layers["scan"].data[::-1], name="plain", scale=(2.0, 2.0, 2.0))
    viewer.layers.selection = {viewer.layers["scan"], plain}
    widget.check()
    wait(lambda: widget.message.value().startswith("Ready to start"))
    qtbot.wait(500)
    assert widget.message.value().startswith("Ready to start")
    if change == "preset":
        widget.settings.preset.setValue("paper")
    elif change == "length":
        widget.settings.length.setValue(iterations=7)
    elif change == "scans":
        widget.cohort.layers.setChecked(True)
    else:
        widget.session.annotation(widget.labels.value()).set_complete(AnnotatedSlice(*PLANES[0]), False)
    assert widget.message.value() == ""


def test_selected_layers_and_a_folder_make_a_cohort(widget, viewer, wait, engine, tmp_path):
    scan = viewer.layers["scan"]
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    plain = viewer.add_image(scan.data[::-1], name="plain", scale=(2.0, 2.0, 2.0))
    other = viewer.add_image(scan.data + 1, name="left out", **place)
    case = ball_case("on disk")
    write_volume(tmp_path / "disk.nii.gz", case.image, case.grid)
    (tmp_path / "cases.csv").write_text("name,image\non disk,disk.nii.gz\n")
    widget.image.setValue(scan)
    viewer.layers.selection = {scan, plain}
    single = widget.config()
    widget.cohort.layers.setChecked(True)
    shown = widget.config()
    assert (single.cohort, shown.cohort) == (False, True)
    assert shown.training.iterations == COHORT["quick"]["training.iterations"] != single.training.iterations
    assert not widget.session.config.cohort
    assert ".for_cohort()" in widget.as_script()
    widget.cohort.layers.setChecked(False)
    assert widget.config() == single
    widget.cohort.layers.setChecked(True)
    assert widget.cohort.listing.text() == "And 1 more: plain (not annotated)."
    assert widget.more.button.text() == "More scans: 1 layer"
    for painted in ({viewer.layers["labels"]}, {scan}):
        viewer.layers.selection = painted
        assert widget.config() == shown
    widget.cohort.setValue(tmp_path)
    assert widget.more.button.text() == "More scans: 1 layer and a folder"
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    (cases,) = engine.cohorts
    assert [(one.name, len(one.annotated)) for one in cases] == [("scan", 3), ("plain", 0), ("on disk", 0)]
    assert other.name not in [one.name for one in cases]
    widget.cohort.setValue(tmp_path / "nowhere")
    widget.start()
    assert "is no folder" in widget.message.value()
    assert widget.state is RunState.IDLE


def test_no_scan_of_a_cohort_is_trained_with_the_labels_of_another(widget, viewer, wait, engine):
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    other = viewer.add_image(scan.data[::-1], name="other", **place)
    widget.image.setValue(scan)
    widget.labels.setValue(labels)
    viewer.layers.selection = {scan, other}
    widget.cohort.layers.setChecked(True)
    assert widget.cohort.listing.text() == "And 1 more: other (not annotated)."
    (own,) = add_layers(viewer, [new_labels_data(other)])
    own.data[4, 2:6, 2:6] = 1
    session_of(viewer).annotation(own).set_complete(AnnotatedSlice(0, 4))
    assert widget.cohort.listing.text() == "And 1 more: other (other labels)."
    own.name = "mine"
    assert widget.cohort.listing.text() == "And 1 more: other (mine)."
    assert "case_from_layers(viewer.layers['other'], viewer.layers['mine'])" in widget.as_script()
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    viewer.layers.remove(own)
    assert widget.cohort.listing.text() == "And 1 more: other (not annotated)."
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    planes = [[(plane.axis, plane.index) for plane in case.annotated] for cases in engine.cohorts for case in cases]
    assert planes == [PLANES, [(0, 4)], PLANES, []]


def test_an_image_brings_its_own_labels_and_is_not_trained_with_those_of_another(widget, viewer, notified):
    scan, theirs = viewer.layers["scan"], viewer.layers["labels"]
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    note_image(theirs, scan)
    other = viewer.add_image(scan.data[::-1], name="other", **place)
    widget.image.setValue(other)
    assert widget.labels.value() is None
    assert widget.summary.text() == "Label three slices first, in the dock Label slices."
    viewer.add_labels(theirs.data[::-1], name="other labels", metadata=dict(theirs.metadata, made_for="?"), **place)
    assert widget.labels.value() is viewer.layers["other labels"]
    widget.image.setValue(scan)
    assert widget.labels.value() is theirs
    widget.image.setValue(other)
    widget.labels.setValue(theirs)
    widget.start()
    assert "'labels' belongs to 'scan', not to 'other'; choose the labels of that" in widget.message.value()
    assert notified == [widget.message.value()]
    assert widget.state is RunState.IDLE
    viewer.layers.remove(scan)
    assert widget.as_script(), "of images that are open they are only this one's"


def test_of_the_labels_of_an_image_the_annotated_ones_are_chosen(viewer, dock, engine):
    mark(viewer)
    add_layers(viewer, [new_labels_data(viewer.layers["scan"])])
    assert dock(TrainWidget, load_engine=engine.load).labels.value() is viewer.layers["labels"]


NONE_HERE = "No weight files here, so no guidance yet."
ONE_HERE = "One of the two weight files is missing, so no guidance yet."


@pytest.fixture
def weight_folder(tmp_path, monkeypatch):
    """The empty folder of weights of a machine where open_clip has fetched none either."""
    monkeypatch.setenv("NAPARI_RADA_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights, "_in_hub_cache", lambda repository: None)
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def test_guidance_is_chosen_and_missing_weights_are_told(widget, weight_folder):
    guidance = widget.settings.guidance
    guidance.setCurrentIndex(guidance.findData("none"))
    assert widget.config().guidance.source == "none"
    assert widget.settings.weights.text() == ""
    guidance.setCurrentIndex(guidance.findData("text"))
    assert widget.config().guidance.source == "text"
    assert widget.settings.weights.text() == NONE_HERE
    (weight_folder / "ViT-B-16.pt").touch()
    guidance.setCurrentIndex(guidance.findData("region"))
    assert widget.settings.weights.text() == ONE_HERE
    (weight_folder / "clip_b16_grit1m_fultune_8xe.pth").touch()
    guidance.setCurrentIndex(guidance.findData("text"))
    assert widget.settings.weights.text() == ""
    (weight_folder / "ViT-B-16.pt").unlink()
    guidance.setCurrentIndex(guidance.findData("region"))
    assert widget.settings.weights.text() == ONE_HERE


def test_a_base_that_open_clip_has_fetched_counts(widget, weight_folder, monkeypatch):
    monkeypatch.setattr(weights, "_in_hub_cache", lambda repository: weight_folder / "open_clip_model.safetensors")
    (weight_folder / "clip_b16_grit1m_fultune_8xe.pth").touch()
    guidance = widget.settings.guidance
    for source in ("region", "text"):
        guidance.setCurrentIndex(guidance.findData(source))
        assert widget.settings.weights.text() == ""


@pytest.mark.parametrize(
    ("source", "named", "here", "told"),
    [
        ("region", ["clip"], ["clip"], ONE_HERE),
        ("text", ["clip"], ["clip"], ""),
        ("text", ["clip", "alpha"], ["clip"], ONE_HERE),
        ("region", ["clip", "alpha"], [], NONE_HERE),
        ("region+text", ["clip", "alpha"], ["clip", "alpha"], ""),
    ],
)
def test_of_named_weights_both_are_needed_unless_texts_alone_guide(widget, weight_folder, source, named, here, told):
    for kind in here:
        (weight_folder / kind).touch()
    widget.settings.advanced.setValue({f"guidance.{kind}_weights": str(weight_folder / kind) for kind in named})
    widget.settings.guidance.setCurrentIndex(widget.settings.guidance.findData(source))
    assert widget.settings.weights.text() == told


def test_after_start_by_keyboard_the_keyboard_is_at_stop(widget, qtbot, wait, engine, monkeypatch):
    at = widget.buttons.start
    focused = []
    monkeypatch.setattr(QPushButton, "hasFocus", lambda button: button is at and button.isEnabled())
    monkeypatch.setattr(QPushButton, "setFocus", lambda button: focused.append(button))
    engine.go.clear()
    qtbot.keyClick(at, Qt.Key.Key_Space)
    wait(lambda: widget.state is RunState.TRAINING)
    assert focused == [widget.buttons.stop]
    engine.go.set()
    wait(lambda: widget.state is RunState.IDLE)
    assert focused == [widget.buttons.stop], "nothing begins anew by the next key"


def test_a_run_without_guidance_fits_a_screen(viewer, dock, engine, qtbot, wait, tmp_path):
    viewer.layers["labels"].metadata["annotated_slices"] = [{"axis": axis, "index": index} for axis, index in PLANES]
    widget = dock(TrainWidget, load_engine=engine.load)
    widget.settings.guidance.setCurrentIndex(widget.settings.guidance.findData("region+text"))
    widget.folder.setValue(tmp_path / "run")
    engine.go.clear()
    widget.start()
    text = (
        "Training without guidance: the weights of ViT-B-16-quickgelu and its Alpha-CLIP are not here. "
        "`napari-rada weights download` fetches them; guidance.source=none asks for no guidance."
    )
    wait(lambda: widget.state is RunState.TRAINING)
    widget.job.event.emit(Notice(text))
    assert widget.notices.value().endswith(text.partition(" `")[0])
    assert widget.notices.toolTip().endswith(text)
    assert not widget.settings.weights.isVisibleTo(widget), "it is said once"
    engine.go.set()
    wait(lambda: not widget.job.is_running)
    layout = widget.column
    width = WIDTH - 30  # the margins of napari's column and a scroll bar
    assert layout.hasHeightForWidth()
    assert layout.heightForWidth(width) < 1000


def test_several_images_may_be_selected_after_the_box_is_ticked(widget, viewer):
    scan = viewer.layers["scan"]
    plain = viewer.add_image(scan.data[::-1], name="plain", scale=(2.0, 2.0, 2.0))
    widget.image.setValue(scan)
    viewer.layers.selection = {viewer.layers["labels"]}
    widget.cohort.layers.setChecked(True)
    assert not widget.config().cohort
    assert widget.cohort.listing.text() == "Select further image layers in the layer list."
    assert widget.more.button.text() == "More scans"
    viewer.layers.selection = {scan, plain}
    assert widget.config().cohort
    viewer.layers.remove(plain)
    assert not widget.config().cohort


def test_after_a_failed_run_the_next_one_gets_a_folder_of_its_own(widget, wait, engine, tmp_path):
    widget.folder.setValue(tmp_path / "mine" / "first")
    engine.error = InputError("Memory ran out.")
    (tmp_path / "mine" / "first").mkdir(parents=True)
    widget.start()
    wait(lambda: "Memory ran out." in widget.message.value())
    proposed = widget.folder.value()
    assert proposed.parent == tmp_path / "mine"
    assert not proposed.exists()
    widget._on_layers_changed()
    assert widget.folder.value() == proposed


def test_after_a_run_in_a_folder_that_cannot_be_written_another_place_is_proposed(widget, wait, engine, monkeypatch):
    engine.error = InputError("The folder cannot be made.")
    monkeypatch.setattr("os.access", lambda *arguments: False)
    widget.start()
    wait(lambda: "cannot be made" in widget.message.value())
    assert widget.folder.value().parent == data_folder()


@pytest.mark.parametrize(
    ("named", "found"), [("", "The line Folder is empty; name"), ("run", "'run' is only a part of a path; name")]
)
def test_a_run_goes_where_it_was_told_to(widget, engine, notified, named, found):
    widget.folder.line.setText(named)
    widget.start()
    assert widget.message.value().startswith(found)
    assert len(notified) == 1
    assert engine.calls == []


def first_run(widget, wait) -> tuple[Path, list[StepLogged]]:
    widget.start()
    wait(lambda: widget.state is RunState.IDLE)
    return widget.run_dir, list(widget.history.steps)


@pytest.mark.parametrize("how", ["start", "continue_training"])
@pytest.mark.parametrize("error", [InputError("The weights cannot be found."), Stopped()])
def test_a_run_that_fails_at_once_leaves_the_run_before_as_it_was(widget, wait, engine, tmp_path, error, how):
    run_dir, steps = first_run(widget, wait)
    preview = widget.preview.run
    engine.error = error
    widget.folder.setValue(tmp_path / "elsewhere" / "second")
    getattr(widget, how)()
    assert widget.session.run_dir == run_dir, "labels are saved where a run can be loaded from"
    wait(lambda: widget.state is RunState.IDLE)
    assert (widget.run_dir, widget.session.run_dir) == (run_dir, run_dir)
    assert widget.history.steps == steps
    assert widget.preview.run is preview
    assert widget.folder.value().parent == tmp_path / "elsewhere"
    engine.error = None
    assert widget.buttons.proceed.isEnabled()
    widget.continue_training()
    wait(lambda: widget.state is RunState.IDLE)
    assert engine.calls[-1][1][0] == run_dir


def test_a_run_that_is_stopped_before_its_first_iteration_leaves_the_run_before_as_it_was(widget, wait, engine):
    run_dir, steps = first_run(widget, wait)
    engine.go.clear()
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    assert widget.session.run_dir == widget.run_dir != run_dir
    widget.stop()
    wait(lambda: widget.state is RunState.IDLE)
    assert (widget.run_dir, widget.session.run_dir, widget.history.steps) == (run_dir, run_dir, steps)
    assert widget.buttons.proceed.isEnabled()


@pytest.mark.parametrize(("iteration", "continued"), [(0, "run"), (5, "second")])
def test_what_is_continued_after_a_failure_is_what_was_saved(widget, wait, engine, tmp_path, iteration, continued):
    first_run(widget, wait)
    engine.breaks_at = iteration
    widget.folder.setValue(tmp_path / "second")
    widget.start()
    wait(lambda: widget.message.value() == "The disk is full.")
    assert widget.run_dir == widget.session.run_dir == tmp_path / continued
    assert len(widget.history.steps) == (iteration or 30)
    assert widget.buttons.proceed.isEnabled()


def test_a_continued_run_that_is_stopped_while_it_is_prepared_can_be_continued(widget, wait, engine, tmp_path):
    first_run(widget, wait)
    engine.prepared.clear()
    widget.folder.setValue(tmp_path / "second")
    widget.continue_training()
    wait(lambda: widget.session.run_dir == tmp_path / "second")
    widget.stop()
    wait(lambda: widget.state is RunState.IDLE)
    assert "Stopped after 30 iterations." in widget.message.value()
    assert widget.buttons.proceed.isEnabled()
    assert widget.run_dir == tmp_path / "second"


def test_a_folder_that_holds_a_run_is_refused_before_anything_changes(widget, wait, engine, tmp_path):
    run_dir, steps = first_run(widget, wait)
    for begin in (widget.start, widget.continue_training):
        widget.folder.setValue(run_dir)
        begin()
        assert "already holds a run" in widget.message.value()
        assert widget.state is RunState.IDLE
        assert widget.history.steps == steps


def test_a_run_that_is_stopped_while_its_scans_are_read_is_told(widget, wait, engine):
    engine.error = Stopped()
    widget.start()
    wait(lambda: widget.message.value() == "Stopped before the first iteration; nothing was trained.")
    assert widget.state is RunState.IDLE


def test_closing_the_dock_stops_the_run_and_says_where_it_is(widget, wait, engine, monkeypatch):
    told = []
    monkeypatch.setattr("napari_rada._qt.train.show_info", told.append)
    engine.iterations = 10_000
    widget.start()
    wait(lambda: widget.state is RunState.TRAINING)
    run_dir = widget.run_dir
    widget.shut()
    assert str(run_dir) in told[0]
    assert widget.job._control.stop_requested
