"""A person's click, and whether anything still runs after it."""

from __future__ import annotations

from qtpy.QtCore import Qt


def click(qtbot, button) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def any_task_running() -> bool:
    from superqt.utils._qthreading import WorkerBase

    return any(worker.is_running for worker in WorkerBase._worker_set)
