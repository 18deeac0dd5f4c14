"""Whatever is pressed in whatever order: no thread, no disabled button, no widget stays behind."""

from __future__ import annotations

import random
import threading

import pytest
from tests._qt.driving import any_task_running

from napari_rada._napari.job import RunState
from napari_rada._qt.train import TrainWidget

SEQUENCES = 50
PLANES = [(0, 6), (1, 7), (2, 8)]


@pytest.mark.usefixtures("notified")
def test_fifty_random_sequences_leave_nothing_behind(viewer, engine, qtbot, wait, tmp_path):
    """Each opens the dock, presses up to eight buttons as they come, and closes the dock in any state."""
    viewer.layers["labels"].metadata["annotated_slices"] = [{"axis": a, "index": i} for a, i in PLANES]
    engine.iterations, engine.seconds = 6, 0.002
    rng = random.Random(0)  # noqa: S311 - any order will do
    before = set(threading.enumerate())
    for number in range(SEQUENCES):
        widget = TrainWidget(viewer, load_engine=engine.load)
        viewer.window.add_dock_widget(widget, name=f"train {number}")
        for step in range(rng.randint(1, 8)):
            widget.folder.setValue(tmp_path / f"{number}-{step}")
            rng.choice([widget.start, widget.pause, widget.resume, widget.stop, widget.continue_training])()
            qtbot.wait(rng.choice([0, 0, 5, 30]))
        if rng.random() < 0.5:
            widget.resume()
            widget.stop()
            wait(lambda widget=widget: widget.state is RunState.IDLE)
            assert widget.buttons.start.isEnabled()
            assert widget.settings.isEnabled()
            assert not widget.buttons.stop.isEnabled()
            assert not widget.buttons.pause.isEnabled()
        viewer.window.remove_dock_widget(widget)
        del widget
    wait(lambda: not any_task_running())
    wait(lambda: not [t for t in set(threading.enumerate()) - before if not t.daemon and "Dummy" not in t.name])
    opened = viewer.window.dock_widgets if hasattr(viewer.window, "dock_widgets") else viewer.window._dock_widgets
    assert not [name for name in opened if name.startswith("train")]
