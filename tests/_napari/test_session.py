"""What the docks of one viewer share, and the devices on offer."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils._proxies import PublicOnlyProxy

from napari_rada._napari.devices import list_devices
from napari_rada._napari.session import session_of
from napari_rada.data.slices import AnnotatedSlice


def test_each_viewer_has_one_session(viewer):
    assert session_of(viewer) is session_of(viewer)
    assert session_of(ViewerModel()) is not session_of(viewer)


def test_the_session_outlives_the_dock_that_was_opened_first(viewer):
    first, second = PublicOnlyProxy(viewer), PublicOnlyProxy(viewer)  # napari hands one of its own to every dock
    session_of(first).add_run(Path("a"), "a")
    del first
    gc.collect()
    assert [run.label for run in session_of(second).runs] == ["a"]
    assert session_of(second) is session_of(viewer)


def test_runs_are_kept_newest_last(viewer):
    session = session_of(viewer)
    seen: list[int] = []
    session.runs_changed.connect(lambda: seen.append(len(session.runs)))
    for name in ("a", "b", "a"):
        session.add_run(Path(name), name)
    assert [run.label for run in session.runs] == ["b", "a"]
    assert seen == [1, 2, 2]


def test_each_layer_has_one_annotation_and_changes_are_passed_on(viewer, labels):
    session = session_of(viewer)
    seen: list[int] = []
    session.annotation_changed.connect(lambda: seen.append(1))
    assert session.annotation(labels) is session.annotation(labels)
    session.annotation(labels).set_complete(AnnotatedSlice(0, 6))
    assert seen


def test_a_session_keeps_no_removed_layer_alive(viewer):
    layer = Labels(np.zeros((4, 5, 6), dtype=np.uint8))
    session_of(viewer).annotation(layer)
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def test_devices_that_cannot_be_used_say_why():
    devices = {device.name: device for device in list_devices()}
    assert devices["auto"].label.startswith("Automatic (")
    assert devices["auto"].unusable is None
    assert devices["cpu"].unusable is None
    assert devices["mps"].label == "Apple GPU"
    for device in devices.values():
        assert device.unusable is None or device.unusable.startswith(("this PyTorch", "PyTorch", "no "))
