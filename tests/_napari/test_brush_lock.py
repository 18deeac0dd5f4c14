"""The brush stays inside listed slices, and nothing is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada._napari.annotation import AnnotationModel
from napari_rada._napari.brush_lock import BrushLock
from napari_rada.data.slices import AnnotatedSlice

LISTED, OTHER = AnnotatedSlice(0, 6), AnnotatedSlice(0, 3)


@pytest.fixture
def model(labels) -> AnnotationModel:
    return AnnotationModel(labels)


@pytest.fixture
def lock(model) -> BrushLock:
    lock = BrushLock()
    lock.set_model(model)
    lock.set_plane(LISTED)
    return lock


def test_the_tool_is_put_down_and_taken_up_again(lock, model):
    model.layer.mode = "paint"
    lock.set_on(True)
    assert model.layer.mode == "paint"
    lock.set_plane(OTHER)
    assert model.layer.mode == "pan_zoom"
    lock.set_plane(None)
    assert model.layer.mode == "pan_zoom"
    lock.set_plane(LISTED)
    assert model.layer.mode == "paint"


def test_a_tool_taken_up_outside_is_held_back_and_told(lock, model):
    told = []
    lock.held_back.connect(lambda: told.append(1))
    lock.set_on(True)
    lock.set_plane(OTHER)
    model.layer.mode = "fill"
    assert model.layer.mode == "pan_zoom"
    assert told == [1]
    model.set_complete(OTHER)
    assert model.layer.mode == "fill", "a slice that is listed may be painted in"


def test_history_stays(lock, model):
    model.layer.data_setitem(tuple(np.array([index]) for index in (6, 0, 0)), 1)
    lock.set_on(True)
    lock.set_plane(OTHER)
    model.layer.undo()
    assert model.layer.data[6, 0, 0] == 0


def test_without_the_lock_or_the_model_nothing_is_touched(lock, model):
    model.layer.mode = "paint"
    lock.set_plane(OTHER)
    assert model.layer.mode == "paint"
    lock.set_on(True)
    assert model.layer.mode == "pan_zoom"
    lock.set_model(None)
    assert model.layer.mode == "paint"
    lock.set_plane(LISTED)
