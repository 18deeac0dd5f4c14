"""A run folder back into layers."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine import CENTRE, ball, ball_case, tiny_config

from napari_rada import pipeline
from napari_rada._napari.run_files import autosave, autosave_path, classes_of_run, load_run
from napari_rada.data.classes import ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import RunFolderError
from napari_rada.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    pipeline.train([ball_case(), ball_case("plain", seed=1, labelled=False)], path, tiny_config())
    return path


def test_layers_settings_and_curve_come_back(run):
    loaded = load_run(RunFolder.open(run))
    assert loaded.can_predict
    assert loaded.config == RunFolder.open(run).config()
    assert [step.iteration for step in loaded.steps] == [1, 2, 3, 4]
    assert [validation.iteration for validation in loaded.validations] == [2, 4]
    (first, second) = loaded.layers
    assert [kind for _data, _settings, kind in first] == ["image", "labels"]
    assert [kind for _data, _settings, kind in second] == ["image"]
    np.testing.assert_allclose(first[0][0], ball_case().image)
    assert [s["index"] for s in first[1][1]["metadata"]["annotated_slices"]] == list(CENTRE)


def test_the_classes_come_back_alone(run, tmp_path):
    assert [(info.value, info.name) for info in classes_of_run(run)] == [(1, "label 1")]
    with pytest.raises(RunFolderError, match="is not a run folder"):
        classes_of_run(tmp_path)


def test_labels_come_back_as_they_were_last_painted(run):
    case, painted = ball_case(), ball()
    slices = (AnnotatedSlice(0, 3), AnnotatedSlice(2, 5))
    path = autosave_path(run, "ball")
    painted[0, 0, 0] = 5
    tumour = ClassInfo(5, "tumour", "A tumour")
    autosave(path, painted.astype(np.int64), slices, case.grid, (tumour,))
    try:
        labels, settings, _kind = load_run(RunFolder.open(run)).layers[0][1]
    finally:
        path.unlink()
    np.testing.assert_array_equal(labels, painted)
    assert settings["metadata"]["annotated_slices"] == [{"axis": 0, "index": 3}, {"axis": 2, "index": 5}]
    assert settings["metadata"]["classes"] == [
        {"value": 1, "name": "label 1", "prompt": ""},
        {"value": 5, "name": "tumour", "prompt": "A tumour"},
    ]


def test_names_are_safe_for_files(tmp_path):
    assert autosave_path(tmp_path, "scan: a/b [1]").name == "scan_a_b_1__labels.nii.gz"


def test_a_run_whose_cases_are_gone_is_told(run, tmp_path):
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(RunFolderError, match="missing or damaged"):
        load_run(RunFolder.open(tmp_path))
