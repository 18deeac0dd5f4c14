"""The dock Predict on images that are read in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask.array
import numpy as np
import pytest
from napari.layers import Labels
from tests.engine import ball_case, ball_image, tiny_config

from napari_rada import pipeline
from napari_rada._napari.job import RunState
from napari_rada._napari.layers import set_annotated_slices
from napari_rada._napari.session import session_of
from napari_rada._qt.label_slices import LabelSlicesWidget
from napari_rada._qt.predict import PredictWidget
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.inference.cleanup import CleanUp
from napari_rada.io.chunked import ChunkedArray

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(model__completion=False, model__filters=2, data__max_voxels=None, training__iterations=1)
    return pipeline.train([ball_case()], tmp_path_factory.mktemp("volumes") / "run", config).run_dir


@pytest.fixture
def big(viewer):
    """A multiscale dask image."""
    values = ball_image(ball_case().labels)
    levels = [dask.array.from_array(part, chunks=8) for part in (values, values[:, ::2, ::2])]
    place = {"scale": (2.0, 1.0, 1.0), "translate": (7.0, 0.0, 0.0), "units": ("um",) * 3}
    return viewer.add_image(levels, multiscale=True, name="big", contrast_limits=(0, 1), **place)


@pytest.fixture
def widget(viewer, big, run, dock) -> PredictWidget:
    session_of(viewer).add_run(run, "run")
    opened = dock(PredictWidget)
    opened.image.setValue(big)
    return opened


def test_an_image_that_is_read_in_parts_is_predicted_into_a_folder_and_shown_from_there(widget, viewer, big, run, wait):
    assert widget.chunks.box.isChecked()
    assert not widget.outputs.isEnabled()
    out = run / "predictions" / "big.ome.zarr"
    assert widget.chunks.value() == out
    widget.predict()
    wait(lambda: not widget.job.is_running, 60)
    layer = viewer.layers["big mask"]
    assert widget.message.value() == f"Added 'big mask', which is read from {out}."
    assert isinstance(layer, Labels)
    assert hasattr(layer.data if not layer.multiscale else layer.data[0], "__dask_graph__")
    for name in ("scale", "translate"):
        np.testing.assert_array_equal(getattr(layer, name), getattr(big, name))
    assert layer.units == big.units
    written = ChunkedArray.open(out / "0")
    np.testing.assert_array_equal(np.asarray(layer.data), written.read((0, 0, 0), written.shape))
    assert not widget.save_button.isEnabled()
    assert not widget.accept_button.isEnabled()
    assert widget.image.value() is big
    assert f"predict {run}" not in widget.message.value()


def test_an_image_in_memory_is_predicted_in_memory_unless_it_is_asked_for(widget, viewer, run, wait, tmp_path):
    widget.image.setValue(viewer.layers["scan"])
    assert widget.chunks.value() is None
    assert widget.outputs.isEnabled()
    widget.chunks.setValue(tmp_path / "scan.ome.zarr")
    widget.predict()
    wait(lambda: not widget.job.is_running, 60)
    assert (tmp_path / "scan.ome.zarr" / ".zattrs").is_file()
    np.testing.assert_array_equal(
        viewer.layers["scan mask"].affine.affine_matrix, viewer.layers["scan"].affine.affine_matrix
    )


def test_a_run_that_completes_annotated_slices_predicts_in_memory(widget, viewer, big, wait, tmp_path):
    completing = pipeline.train([ball_case()], tmp_path / "completing", tiny_config(training__iterations=1)).run_dir
    assert widget.chunks.box.isChecked()
    widget.run.setValue(completing)
    assert not widget.chunks.box.isChecked()
    widget.chunks.setValue(tmp_path / "out.ome.zarr")
    widget.predict()
    wait(lambda: not widget.job.is_running, 60)
    assert "take off 'Chunk by chunk, into a folder'" in widget.message.value()
    widget.chunks.setValue(None)
    labels = viewer.add_labels(ball_case().labels, scale=big.scale, translate=big.translate, units=big.units)
    set_annotated_slices(labels, ball_case().annotated)
    widget.labels.setValue(labels)
    widget.predict()
    wait(lambda: not widget.job.is_running, 60)
    assert widget.message.value().startswith("Added 'big mask'")


def test_it_can_be_cancelled_and_gone_on_with(widget, viewer, wait, monkeypatch, tmp_path):
    from napari_rada.outofcore import steps

    waiting, real = [], steps.predict_part

    def slow(*arguments):
        control = arguments[-1]
        waiting.append(control)
        while not control.stop_requested:
            pass
        return real(*arguments)

    monkeypatch.setattr(steps, "predict_part", slow)
    widget.chunks.setValue(tmp_path / "out.ome.zarr")
    widget.predict()
    wait(lambda: bool(waiting) and widget.job.state is RunState.PREDICTING, 60)
    assert widget.row.progress.label.text() == "Predict… chunks 0 of 1"
    widget.cancel()
    wait(lambda: not widget.job.is_running)
    assert "big mask" not in viewer.layers
    monkeypatch.setattr(steps, "predict_part", real)
    widget.predict()
    wait(lambda: not widget.job.is_running, 60)
    assert "big mask" in viewer.layers


def test_what_needs_the_whole_image_is_refused(widget, viewer, notified, tmp_path):
    widget.clean_up.setValue(CleanUp(1.0))
    widget.predict()
    assert "switch it off to predict chunk by chunk" in widget.message.value()
    widget.clean_up.setValue(CleanUp())
    viewer.layers.selection = set(viewer.layers)
    widget.several.setChecked(True)
    widget.predict()
    assert "one at a time" in widget.message.value()
    widget.several.setChecked(False)
    widget.image.setValue(viewer.layers["scan"])
    widget.chunks.setValue(tmp_path / "out.ome.zarr")
    session_of(viewer).annotation(viewer.layers["labels"]).set_complete(AnnotatedSlice(0, 6))
    widget.labels.setValue(viewer.layers["labels"])
    widget.predict()
    assert "Annotated slices are not used chunk by chunk" in widget.message.value()
    assert len(notified) == 3


def test_an_output_that_is_something_else_is_told(widget, wait, notified, tmp_path):
    (tmp_path / "thesis.ome.zarr").mkdir()
    (tmp_path / "thesis.ome.zarr" / "thesis.txt").write_text("years")
    widget.chunks.setValue(tmp_path / "thesis.ome.zarr")
    widget.predict()
    wait(lambda: not widget.job.is_running, 60)
    assert "is no prediction that was begun here" in widget.message.value()


def test_a_slice_is_labelled_on_a_multiscale_image(viewer, big, dock):
    opened = dock(LabelSlicesWidget)
    opened.image.setValue(big)
    opened.new_labels()
    labels = viewer.layers["big labels"]
    assert labels.data.shape == (20, 26, 24)
    np.testing.assert_array_equal(labels.scale, big.scale)
    opened.go_to(AnnotatedSlice(1, 13))
    assert opened.current_slice == AnnotatedSlice(1, 13)
    labels.data_setitem(tuple(np.indices((4, 4)).reshape(2, -1)[:1].repeat(3, 0)), 1)
    opened.mark_current_slice()
    assert opened.annotated == (AnnotatedSlice(1, 13),)
    opened.suggest()
    assert "Annotate" in opened.message.value()
