"""The dock Predict: new layers on the image, and the slice to annotate next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_rada._napari.job import RunState
from napari_rada._napari.planes import viewed_slice
from napari_rada._napari.session import session_of
from napari_rada._qt.predict import PredictWidget
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import RunFolderError


@pytest.fixture
def widget(viewer, dock, engine) -> PredictWidget:
    session_of(viewer).add_run(Path("runs/first"), "first")
    return dock(PredictWidget, load_engine=engine.load)


def click(qtbot, button) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_outputs_are_new_layers_with_the_images_geometry(widget, viewer, qtbot, wait, engine):
    widget.outputs.setValue(("mask", "probability", "disagreement"))
    click(qtbot, widget.predict_button)
    wait(lambda: not widget.job.is_running)
    names = [layer.name for layer in viewer.layers]
    assert names == ["scan", "labels", "scan mask", "scan probability", "scan disagreement"]
    image = viewer.layers["scan"]
    for name in names[2:]:
        layer = viewer.layers[name]
        np.testing.assert_array_equal(layer.scale, image.scale)
        np.testing.assert_array_equal(layer.affine.affine_matrix, image.affine.affine_matrix)
        assert layer.units == image.units
        assert layer.metadata["provenance"] == {"run": "fake", "iteration": 30}
    assert engine.calls == [("predict", (Path("runs/first"), "auto"))]
    assert "Added 'scan mask' and 'scan probability' and 'scan disagreement' (label 1" in widget.message.value()
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert len(viewer.layers) == 8, "nothing is overwritten"
    assert widget.image.value() is image


def test_progress_and_cancel(widget, viewer, qtbot, wait, engine):
    engine.go.clear()
    widget.predict()
    wait(lambda: widget.job.state is RunState.PREDICTING)
    assert widget.progress.bar.maximum() == 5
    assert not widget.predict_button.isEnabled()
    click(qtbot, widget.cancel_button)
    wait(lambda: not widget.job.is_running)
    assert len(viewer.layers) == 2
    assert widget.predict_button.isEnabled()
    assert not widget.cancel_button.isVisibleTo(widget)


def test_the_suggested_slice_is_shown(widget, viewer, qtbot, wait, engine):
    assert not widget.suggest_button.isEnabled()
    session_of(viewer).annotation(viewer.layers["labels"]).set_complete(AnnotatedSlice(0, 6))
    widget.predict()
    wait(lambda: widget.suggest_button.isEnabled())
    click(qtbot, widget.suggest_button)
    wait(lambda: widget.message.value() == "Annotate coronal slice 3 of 14 next (score 0.75).")
    assert viewed_slice(viewer, viewer.layers["scan"]) == AnnotatedSlice(1, 3)
    assert engine.calls[-1] == ("suggest", (AnnotatedSlice(0, 6),))


def test_labels_can_be_given_along(widget, viewer, wait, engine):
    viewer.layers["labels"].metadata["annotated_slices"] = [{"axis": 0, "index": 6}]
    widget.predict()
    wait(lambda: not widget.job.is_running)
    widget.labels.setValue(viewer.layers["labels"])
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert [case.annotated for case in engine.cases] == [(), (AnnotatedSlice(0, 6),)]


def test_the_newest_run_of_the_session_is_chosen(widget, viewer):
    assert widget.run.value() == Path("runs/first")
    session_of(viewer).add_run(Path("runs/second"), "second")
    assert widget.run.value() == Path("runs/second")


def test_a_run_folder_can_be_opened(widget, tmp_path, monkeypatch, notified):
    (tmp_path / "config.yaml").write_text("preset: quick\n")
    widget.run.setValue(tmp_path)
    assert widget.run.value() == tmp_path
    with pytest.raises(RunFolderError, match="is not a run folder"):
        widget.run.setValue(tmp_path / "elsewhere")
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *arguments: str(tmp_path / "elsewhere")
    )
    widget.run.open_button.click()
    assert "is not a run folder" in widget.message.value()
    assert notified == [widget.message.value()]


def test_mistakes_are_told_in_one_sentence(widget, viewer, notified):
    widget.outputs.setValue(())
    widget.predict()
    assert "Nothing is asked for" in widget.message.value()
    widget.outputs.setValue(("mask",))
    widget.labels.setValue(viewer.layers["labels"])
    widget.predict()
    assert "No slice of 'labels' is marked as annotated" in widget.message.value()
    viewer.layers.clear()
    widget.predict()
    assert "There is no Image layer" in widget.message.value()
    session_of(viewer).runs = ()
    widget.predict()
    assert "There is no run to predict with" in widget.message.value()
    widget.suggest()
    assert "predict first" in widget.message.value()
    assert len(notified) == 5


def test_an_error_of_the_engine_is_told(widget, wait, engine, notified):
    engine.error = RunFolderError("The run has no checkpoint yet; train it first.")
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert widget.message.value() == "The run has no checkpoint yet; train it first."
    assert widget.predict_button.isEnabled()


def test_an_image_that_changed_under_way_is_told(widget, viewer, wait, engine, notified):
    engine.go.clear()
    widget.predict()
    wait(lambda: widget.job.state is RunState.PREDICTING)
    viewer.layers["scan"].data = np.zeros((5, 6, 7), dtype=np.float32)
    engine.go.set()
    wait(lambda: not widget.job.is_running)
    assert "predict again" in widget.message.value()
    assert len(viewer.layers) == 2


def test_closing_the_dock_stops_the_prediction(widget, viewer, wait, engine):
    engine.go.clear()
    widget.predict()
    wait(lambda: widget.job.state is RunState.PREDICTING)
    viewer.window.remove_dock_widget(widget)
    assert widget.job.state is RunState.STOPPING
    viewer.layers.clear()
