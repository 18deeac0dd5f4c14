from __future__ import annotations

import pytest

from napari_rada import pipeline
from napari_rada._qt import rounds
from napari_rada.errors import InputError, RadaError
from napari_rada.evaluation.reliability.endurance import Trend
from napari_rada.events import FinishReason


def test_rounds_in_a_window_leave_no_qt_object_behind(make_napari_viewer):
    """The real engine, twice: some seconds."""
    told = []
    found = rounds.train_and_predict(make_napari_viewer(), 2, lambda sample, objects: told.append(objects))
    assert found.held.steps == 2
    assert told[0] == told[1] > 100
    assert found.qt_objects == (told[0], told[1])


def test_a_round_without_a_mask_is_told(make_napari_viewer, monkeypatch):
    def refuse(*arguments, **settings):
        raise InputError("The moon is in the wrong house.")

    def pretend(cases, run_dir, *arguments, **settings):
        run_dir.mkdir()
        (run_dir / "config.yaml").write_text("preset: quick")
        return pipeline.TrainingResult(run_dir, FinishReason.COMPLETED, 1, None, None)

    viewer = make_napari_viewer()
    monkeypatch.setattr(pipeline, "predict", refuse)
    monkeypatch.setattr(pipeline, "train", pretend)
    with pytest.raises(RadaError, match="Round 1 brought no mask: The moon is in the wrong house"):
        rounds.train_and_predict(viewer, 1)
    monkeypatch.setattr(pipeline, "train", refuse)
    with pytest.raises(RadaError, match="Nothing was trained: The moon is in the wrong house"):
        rounds.train_and_predict(viewer, 1)


def test_more_of_anything_but_memory_is_a_leak():
    same = Trend(20, 5000.0, 1, 2, (14, 14), (12, 12))
    assert not rounds.Rounds(same, (100, 100)).leaks
    assert rounds.Rounds(same, (100, 118)).leaks
    assert rounds.Rounds(Trend(20, 0.0, 1, 1, (14, 15), (12, 12)), (100, 100)).leaks
