"""What is done when Qt deletes an object."""

from __future__ import annotations

import gc

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication

from napari_rada._qt.deletion import when_deleted


class Owner(QObject):
    """Refers to what is to be done, so that the garbage collector takes both together."""

    def __init__(self, parent: QObject, done: list[str]) -> None:
        super().__init__(parent)
        self.todo = Todo(done)
        when_deleted(self, self.todo.do)


class Todo:
    def __init__(self, done: list[str]) -> None:
        self.done = done

    def do(self) -> None:
        self.done.append("done")


def test_what_is_to_be_done_outlives_the_python_side_of_the_object(qapp):
    done: list[str] = []
    window = QObject()
    window.owner = Owner(window, done)
    window.owner.window = window
    window.deleteLater()
    del window
    gc.collect()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert done == ["done"]
