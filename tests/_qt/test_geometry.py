"""All docks on scans that lie oddly, are lazy or multiscale, and on what is no scan."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.layers import Labels
from tests.engine import ball_case, tiny_config

from napari_rada._napari.layers import check_aligned, shape_of, take_snapshot, world_matrix
from napari_rada._qt.label_slices import LabelSlicesWidget
from napari_rada._qt.predict import PredictWidget
from napari_rada._qt.train import TrainWidget
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import save_snapshot

SHAPE = (12, 14, 16)
VOLUME = np.random.default_rng(0).normal(100.0, 20.0, SHAPE).astype(np.float32)
TURN = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
OBLIQUE, TILTED = np.eye(4), np.eye(4)
OBLIQUE[:3, :3] = TURN
TILTED[:3, :3] = np.roll(TURN, 1, axis=(0, 1))
LAZY = da.from_array(VOLUME, chunks=(6, 7, 8))

SCANS = {
    "anisotropic": (VOLUME, {"scale": (5.0, 0.7, 0.8)}),
    "negative scale": (VOLUME, {"scale": (-5.0, 0.7, -0.8), "translate": (55.0, 0.0, 12.0)}),
    "oblique": (VOLUME, {"scale": (4.0, 1.0, 0.5), "affine": OBLIQUE}),
    "tilted out of the slice": (VOLUME, {"scale": (4.0, 1.0, 0.5), "affine": TILTED}),
    "rotated": (VOLUME, {"scale": (4.0, 1.0, 0.5), "rotate": TURN}),
    "sheared": (VOLUME, {"shear": (0.0, 0.0, 0.25)}),
    "napari-nifti": (VOLUME, {"affine": np.diag([-3.0, -1.25, -1.25, 1.0])}),
    "dask": (LAZY, {"scale": (3.0, 1.0, 1.0)}),
    "multiscale": ([LAZY, LAZY[::2, ::2, ::2]], {"scale": (3.0, 1.0, 1.0), "multiscale": True}),
}


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(strict_qt="raise")


@pytest.fixture
def run(tmp_path):
    table = ClassTable((ClassInfo(0, "background"), ClassInfo(1, "organ")))
    save_snapshot(RunFolder.create(tmp_path / "run", tiny_config()), [ball_case()], table)
    return tmp_path / "run"


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari's own, said of what is tilted
@pytest.mark.parametrize(("data", "settings"), SCANS.values(), ids=SCANS.keys())
def test_every_layer_made_lies_on_the_scan(viewer, dock, engine, wait, run, data, settings):
    image = viewer.add_image(
        data, name="scan", units=("mm",) * 3, axis_labels=("u", "v", "w"), contrast_limits=(0, 200), **settings
    )
    label = dock(LabelSlicesWidget, load_engine=engine.load)
    label.new_labels()
    labels = label.labels.value()
    labels.data[6, 4:10, 5:11] = 1
    labels.refresh()
    label.detect()
    assert label.annotated == (AnnotatedSlice(0, 6),)
    label.go_to(AnnotatedSlice(0, 6))
    if settings.get("affine") is TILTED:
        assert label.current_slice is None
        assert "is rotated, and napari paints beside its slices" in label.message.value()
    else:
        assert label.current_slice == AnnotatedSlice(0, 6)
    label.propagate()
    wait(lambda: not label.job.is_running)
    predict = dock(PredictWidget, load_engine=engine.load)
    predict.run.setValue(run)
    predict.chunks.setValue(None)  # lazy scans are predicted into a folder unless one says otherwise
    predict.outputs.setValue(("mask", "probability", "disagreement"))
    predict.predict()
    wait(lambda: not predict.job.is_running)
    predict.explain()
    wait(lambda: not predict.explain_job.is_running)
    made = [layer for layer in viewer.layers if layer is not image]
    assert len(made) == 6, [layer.name for layer in made]
    for layer in made:
        np.testing.assert_array_equal(world_matrix(layer), world_matrix(image))
        for name in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_array_equal(getattr(layer, name), getattr(image, name))
        assert (layer.units, layer.axis_labels) == (image.units, image.axis_labels)
        assert shape_of(layer) == SHAPE
        if isinstance(layer, Labels):
            check_aligned(image, layer)
    np.testing.assert_array_equal(engine.cases[-1].image, VOLUME)
    assert engine.cases[-1].grid.matches(take_snapshot(image).grid)


REFUSED = {
    "RGB slice": (np.zeros((20, 30, 3), np.uint8), {"rgb": True}, "Split RGB"),
    "RGB stack": (np.zeros((8, 20, 30, 3), np.uint8), {"rgb": True}, "Split RGB"),
    "2D": (np.zeros((20, 30)), {}, "Open the whole stack instead"),
    "2D and channel": (np.zeros((3, 20, 30)), {"axis_labels": ("c", "y", "x")}, "Open the whole stack of one channel"),
    "3D and channel": (np.zeros((2, 8, 20, 30)), {}, "Split Stack"),
}


@pytest.mark.parametrize(("data", "settings", "remedy"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_scan_is_refused_by_every_dock(viewer, dock, engine, run, notified, data, settings, remedy):
    kinds = (LabelSlicesWidget, TrainWidget, PredictWidget)
    label, train, predict = (dock(kind, load_engine=engine.load) for kind in kinds)
    predict.run.setValue(run)
    viewer.add_image(data, name="other", **settings)
    labels = viewer.add_labels(np.ones(SHAPE, np.uint8), name="labels")
    labels.metadata["annotated_slices"] = [{"axis": 0, "index": 6}]
    asked = [
        (label, label.new_labels),
        (label, label.suggest),
        (label, label.propagate),
        (train, train.start),
        (train, train.check),
        (predict, predict.predict),
        (predict, predict.explain),
    ]
    for widget, ask in asked:
        ask()
        assert remedy in widget.message.value(), (ask.__name__, widget.message.value())
    assert len(notified) == len(asked)
    assert engine.calls == []
    assert [layer.name for layer in viewer.layers] == ["other", "labels"]
