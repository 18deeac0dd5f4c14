"""Lists that show where a text does not fit, and lists and tables that leave keys to napari's tools and the docks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox, QStylePainter, QTableWidget, QToolTip, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent, QPaintEvent

ROW_SPACE = 14
"""Pixels of a row above and below its text."""
SLACK = 2
"""Pixels by which a text may be too long before it is shortened: where lists are disabled, their frame takes two."""


class QuietCombo(QComboBox):
    """A list that takes no letters and digits: Qt would look for an entry that begins with them, and choose it.

    Of a text that does not fit it shows beginning and end, as napari's layer list does, and all where one points there.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        view = self.view()
        assert view is not None
        view.setTextElideMode(Qt.TextElideMode.ElideMiddle)

    def shown_text(self) -> str:
        """Return the part of the chosen text for which there is room."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        style = self.style()
        assert style is not None
        field = QStyle.SubControl.SC_ComboBoxEditField
        room = style.subControlRect(QStyle.ComplexControl.CC_ComboBox, option, field, self).width() + SLACK
        return self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideMiddle, room)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the list closed."""
        del event
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.shown_text()
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def event(self, event: QEvent | None) -> bool:
        """Show a text that does not fit above the tip."""
        text, tip = self.currentText(), self.toolTip()
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip and self.shown_text() != text != tip:
            QToolTip.showText(event.globalPos(), f"{text}\n{tip}".strip(), self)
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Leave what writes text to the window."""
        if not _left_to_window(event):
            super().keyPressEvent(event)


class QuietTable(QTableWidget):
    """A table that takes no letters and digits, and that Tab leaves; the arrow keys walk in it.

    It is as high as its header and so many rows, in whatever size texts are.
    """

    def __init__(self, columns: Sequence[str], shown: int) -> None:
        super().__init__(0, len(columns))
        self._shown = shown
        self.setHorizontalHeaderLabels(list(columns))
        self.setTabKeyNavigation(False)
        self._fit_rows()

    def changeEvent(self, event: QEvent | None) -> None:
        """Make room for texts of another size."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.FontChange:
            self._fit_rows()

    def _fit_rows(self) -> None:
        rows, height = self.verticalHeader(), self.fontMetrics().height() + ROW_SPACE
        assert rows is not None
        rows.setDefaultSectionSize(height)
        self.setFixedHeight(height * (self._shown + 1))

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
