"""A run folder back into layers."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from tests.engine import CENTRE, ball, ball_case, tiny_config

from napari_rada import pipeline
from napari_rada._napari.autosave import Annotation, autosave_path, latest_autosave
from napari_rada._napari.files import read_layers
from napari_rada._napari.kept_names import kept_name
from napari_rada._napari.layers import (
    case_to_layer_data,
    new_labels_data,
    set_annotated_slices,
    suffix_beside,
    take_snapshot,
)
from napari_rada._napari.run_files import classes_of_run, load_run, open_image, show_scans
from napari_rada._napari.voxels import are_as_read
from napari_rada.data.classes import ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import RunFolderError
from napari_rada.io import write_volume
from napari_rada.training.run_folder import RunFolder


def heart():
    """Return a case whose labels were painted in a layer."""
    return replace(ball_case(), labels_name="my heart")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    pipeline.train([heart(), ball_case("plain", seed=1, labelled=False)], path, tiny_config())
    return path


def test_layers_settings_and_curve_come_back(run):
    loaded = load_run(RunFolder.open(run))
    assert loaded.can_predict
    assert loaded.config == RunFolder.open(run).config()
    assert [step.iteration for step in loaded.steps] == list(range(1, 9)), "two halves, since one scan is not annotated"
    assert [validation.iteration for validation in loaded.validations] == [2, 4, 6, 8]
    (first, second) = loaded.layers
    assert [kind for _data, _settings, kind in first] == ["image", "labels"]
    assert [kind for _data, _settings, kind in second] == ["image"]
    np.testing.assert_allclose(first[0][0], ball_case().image)
    assert first[1][1]["name"] == "my heart"
    assert [s["index"] for s in first[1][1]["metadata"]["annotated_slices"]] == list(CENTRE)


def test_the_classes_come_back_alone(run, tmp_path):
    assert [(info.value, info.name) for info in classes_of_run(run)] == [(1, "label 1")]
    with pytest.raises(RunFolderError, match="is not a run folder"):
        classes_of_run(tmp_path)


@pytest.fixture
def layers(run):
    """The image and labels of the run's first case, as they were when it was started."""
    image, labels = (Layer.create(*data) for data in case_to_layer_data(heart()))
    yield image, labels
    shutil.rmtree(run / "autosave", ignore_errors=True)


def test_labels_come_back_as_they_were_last_painted(run, layers):
    image, labels = layers
    slices = (AnnotatedSlice(0, 3), AnnotatedSlice(2, 5))
    painted = ball()
    painted[0, 0, 0] = 5
    tumour = ClassInfo(5, "tumour", "A tumour")
    Annotation(painted.astype(np.int64), slices, (tumour,), ball_case().grid).write(autosave_path(run, image, labels))
    data, settings, _kind = load_run(RunFolder.open(run)).layers[0][1]
    np.testing.assert_array_equal(data, painted)
    assert settings["metadata"]["annotated_slices"] == [{"axis": 0, "index": 3}, {"axis": 2, "index": 5}]
    assert settings["metadata"]["classes"] == [
        {"value": 1, "name": "label 1", "prompt": ""},
        {"value": 5, "name": "tumour", "prompt": "A tumour"},
    ]


def test_labels_that_are_no_class_come_back_as_they_are(run, layers):
    image, labels = layers
    painted = ball().astype(np.int64)
    painted[0, 0, :2] = -1, 3_000_000
    Annotation(painted, (AnnotatedSlice(0, 3),), (), ball_case().grid).write(autosave_path(run, image, labels))
    loaded = load_run(RunFolder.open(run))
    np.testing.assert_array_equal(loaded.layers[0][1][0], painted)
    assert loaded.cases[0].classes.values == (0, 1)


def test_the_latest_painting_of_the_same_layer_comes_back_also_after_the_folder_was_moved(run, layers, tmp_path):
    image, labels = layers
    for value, name in ((3, labels.name), (2, "others")):
        labels.name = name
        painted = np.full(labels.data.shape, value, dtype=np.uint8)
        Annotation(painted, (AnnotatedSlice(0, 3),), (), ball_case().grid).write(autosave_path(run, image, labels))
    again, loaded = (Layer.create(*data) for data in load_run(RunFolder.open(run)).layers[0])
    assert loaded.data.max() == 3
    loaded.data[...] = 4
    annotation = Annotation(np.array(loaded.data), (AnnotatedSlice(0, 3),), (), ball_case().grid)
    annotation.write(autosave_path(run, again, loaded))
    shutil.copytree(run, tmp_path / "moved", copy_function=shutil.copy2)
    assert load_run(RunFolder.open(tmp_path / "moved")).cases[0].labels.max() == 4


def test_an_image_whose_voxels_were_replaced_is_kept_by_the_run(tmp_path):
    write_volume(tmp_path / "scan.nii", ball_case().image, ball_case().grid)
    image = Layer.create(*read_layers(str(tmp_path / "scan.nii"))[0])
    labels = Labels(ball(), **new_labels_data(image)[1])
    set_annotated_slices(labels, [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)])
    assert take_snapshot(image, labels).to_case().source == tmp_path / "scan.nii"
    read = image.data
    image.data = read.copy()
    assert take_snapshot(image, labels).to_case().source == tmp_path / "scan.nii", "they are the same"
    image.data = read * 2
    assert suffix_beside(image) == ".nii.gz"
    pipeline.train([take_snapshot(image, labels).to_case()], tmp_path / "run", tiny_config(training__iterations=1))
    Annotation.of(labels).write(autosave_path(tmp_path / "run", image, labels))
    loaded = load_run(RunFolder.open(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.cases[0].image, image.data)
    assert latest_autosave(tmp_path / "run", loaded.cases[0]) == autosave_path(tmp_path / "run", image, labels)
    viewer = ViewerModel()
    viewer.add_layer(image)
    assert open_image(viewer, loaded.cases[0], tmp_path / "run") is image


def test_what_is_shown_again_is_kept_under_the_name_of_then(run):
    """Also where the viewer numbers it, because another layer has its name."""
    viewer = ViewerModel()
    loaded = load_run(RunFolder.open(run))
    _, shown = next(iter(show_scans(viewer, loaded).items()))
    name = kept_name(shown)
    assert name == shown.name
    viewer.layers.remove(shown)
    other = viewer.add_labels(np.ones((2, 2, 2), dtype=np.uint8), name=name)
    image, again = next(iter(show_scans(viewer, loaded).items()))
    assert again.name != name
    assert kept_name(again) == name
    assert kept_name(other) is None
    assert are_as_read(image.metadata, image.data)
    assert not are_as_read(image.metadata, image.data.copy())


def test_a_run_whose_cases_are_gone_is_told(run, tmp_path):
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(RunFolderError, match="holds no run yet"):
        load_run(RunFolder.open(tmp_path))
