"""A person's clicks, what they ticked, and whether anything still runs after it."""

from __future__ import annotations

from qtpy.QtCore import Qt


def click(qtbot, button) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def any_task_running() -> bool:
    from superqt.utils._qthreading import WorkerBase

    return any(worker.is_running for worker in WorkerBase._worker_set)


def click_cell(qtbot, table, row: int, column: int) -> None:
    place = table.visualItemRect(table.item(row, column)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)


def is_ticked(table, row: int) -> bool:
    return table.item(row, 0).checkState() == Qt.CheckState.Checked
