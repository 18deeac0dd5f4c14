"""Keys that tables and lists leave to the window: those of napari's tools and of the docks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QTableWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent


class QuietCombo(QComboBox):
    """A list that takes no letters and digits: Qt would look for an entry that begins with them, and choose it."""

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Leave what writes text to the window."""
        if not _left_to_window(event):
            super().keyPressEvent(event)


class QuietTable(QTableWidget):
    """A table that takes no letters and digits, and that Tab leaves; the arrow keys walk in it."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(rows, columns)
        self.setTabKeyNavigation(False)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Leave what writes text to the window."""
        if not _left_to_window(event):
            super().keyPressEvent(event)


def _left_to_window(event: QKeyEvent | None) -> bool:
    """Ignore a key that writes text, which Qt then offers to the window around; tell whether it was one."""
    if event is None or not event.text().strip() or not event.text().isprintable():
        return False
    event.ignore()
    return True
