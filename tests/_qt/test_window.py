"""The main job in a real window, with the real engine: sample, slices, Start, plot, Stop, mask."""

from __future__ import annotations

import numpy as np
import pytest
from napari._app_model import get_app_model
from qtpy.QtWidgets import QDockWidget
from tests._qt.driving import any_task_running, click

from napari_rada import presets
from napari_rada._napari.job import RunState
from napari_rada._napari.layers import check_aligned, new_labels_data
from napari_rada._napari.pairing import brush_layer
from napari_rada._napari.preview import add_layers
from napari_rada.data.slices import AnnotatedSlice

PLUGIN = "napari-rada"

TINY = {
    "data": {"max_voxels": 20_000, "crop_margin": 0.25},
    "propagation": {"method": "diffusion", "max_voxels": 20_000},
    "model": {"filters": 2, "blocks": (1, 1), "norm": "instance", "dropout": 0.0, "completion": True},
    "training": {
        "iterations": 5000,
        "labelled_patches": 1,
        "unlabelled_patches": 1,
        "patch": (16, 16, 16),
        "cross": {"noisy_passes": 0},
        "validate_every": 10,
    },
}


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch):
    """A window on the screen, and a quick preset that is quicker still."""
    monkeypatch.setitem(presets.PRESETS, "quick", TINY)
    return make_napari_viewer(show=True, strict_qt="raise")


@pytest.fixture
def open_dock(viewer, qtbot):
    """Open a dock of the plugin; all are closed at the end, as by their cross."""
    docks = []

    def open_named(name: str):
        dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        docks.append(dock)
        qtbot.wait(50)
        return widget

    yield open_named
    for dock in docks:
        dock.destroyOnClose()
    qtbot.wait(50)


def test_the_main_job(viewer, open_dock, qtbot, wait, tmp_path):
    image, labels = viewer.open_sample(PLUGIN, "synthetic_organ")
    slices = open_dock("Label slices")
    marked = slices.annotated
    for plane in marked:
        slices.panel.table.completeChanged.emit(plane, False)
    assert slices.annotated == ()
    for plane in marked:
        slices.go_to(plane)
        click(qtbot, slices.panel.mark_button)
    assert slices.annotated == marked
    assert {plane.axis for plane in marked} == {0, 1, 2}

    train = open_dock("Train")
    train.folder.setValue(tmp_path / "run")
    click(qtbot, train.buttons.start)
    wait(lambda: len(train.history.steps) >= 20, 60)
    wait(lambda: all(len(curve.getOriginalDataset()[0]) >= 20 for curve in train.plot.curves.values()))
    click(qtbot, train.buttons.pause)
    wait(lambda: train.state is RunState.PAUSED)
    click(qtbot, train.buttons.pause)
    wait(lambda: train.state is RunState.TRAINING)
    click(qtbot, train.buttons.stop)
    wait(lambda: train.state is RunState.IDLE)
    assert train.message.value().startswith("Stopped after ")

    predict = open_dock("Predict")
    assert predict.run.value() == tmp_path / "run"
    before = labels.data.copy()
    predict.outputs.setValue(("mask", "disagreement"))
    click(qtbot, predict.row.button)
    wait(lambda: not predict.job.is_running, 60)
    mask = viewer.layers["sample mask"]
    check_aligned(image, mask)
    assert mask.units == image.units
    assert mask.data.shape == image.data.shape
    assert mask.data.any()
    assert mask.metadata["provenance"]["run"] == str(tmp_path / "run")
    np.testing.assert_array_equal(labels.data, before)

    click(qtbot, predict.suggest_button)
    wait(lambda: predict.message.value().startswith("Annotate "))
    assert isinstance(slices.current_slice, AnnotatedSlice)
    assert slices.current_slice not in marked


def test_a_slice_that_is_marked_where_the_brush_is_brings_no_warning(viewer, open_dock, qtbot):
    image, labels = viewer.open_sample(PLUGIN, "synthetic_organ")
    slices = open_dock("Label slices")
    slices.go_to(AnnotatedSlice(0, 2))
    viewer.layers.selection.active = labels
    click(qtbot, slices.panel.mark_button)
    assert slices.message.value().startswith("Marked as empty")
    (other,) = add_layers(slices.viewer, [new_labels_data(image)])
    viewer.layers.selection.active = other
    slices.go_to(AnnotatedSlice(0, 3))
    click(qtbot, slices.panel.mark_button)
    assert slices.message.value() == f"Marked in '{labels.name}'; the brush is in '{other.name}'."


def test_layers_that_a_dock_adds_are_no_wrappers(viewer, open_dock):
    image, labels = viewer.open_sample(PLUGIN, "synthetic_organ")
    slices = open_dock("Label slices")
    (added,) = add_layers(slices.viewer, [new_labels_data(image)])
    assert added is viewer.layers[-1]
    viewer.layers.selection.active = labels
    assert brush_layer(slices.viewer) is labels


def test_a_preview_by_the_real_propagation(viewer, open_dock, qtbot, wait, sample):
    viewer.open_sample(PLUGIN, "synthetic_organ")
    slices = open_dock("Label slices")
    click(qtbot, slices.row.button)
    wait(lambda: not slices.job.is_running, 60)
    preview = viewer.layers["sample labels preview"].data > 0
    truth = sample.truth > 0
    assert 2 * (preview & truth).sum() / (preview.sum() + truth.sum()) > 0.7


def test_every_dock_opens_from_the_segment_menu_and_the_palette(viewer, qtbot):
    app, window = get_app_model(), viewer.window
    names = [f"{name} ({PLUGIN})" for name in ("Label slices", "Train", "Predict")]
    items = app.menus.get_menu("napari/layers/segment")
    commands = {item.command.title: item.command.id for item in items if hasattr(item, "command")}
    for name in names:
        assert commands[name] in app.commands, "the palette lists every command"
        app.commands.execute_command(commands[name]).result()
        qtbot.wait(50)
    # The public name came with napari 0.6.2.
    opened = window.dock_widgets if hasattr(window, "dock_widgets") else window._dock_widgets
    assert sorted(opened) == sorted(names)
    docks = [window._qt_window.findChild(QDockWidget, name) for name in names]
    assert set(docks[0].parent().tabifiedDockWidgets(docks[0])) == set(docks[1:]), "they share one column as tabs"
    for dock in docks:
        dock.destroyOnClose()
    qtbot.wait(50)


def test_the_window_closes_while_training(viewer, open_dock, wait, tmp_path):
    viewer.open_sample(PLUGIN, "synthetic_organ")
    train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
    train.folder.setValue(tmp_path / "run")
    train.start()
    wait(lambda: len(train.history.steps) >= 2, 60)
    viewer.close()
    wait(lambda: (tmp_path / "run" / "checkpoints" / "last.pt").exists())
    wait(lambda: not any_task_running())
