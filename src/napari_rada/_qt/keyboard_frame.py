"""A frame around what has the keyboard, once one came there by a key: whoever clicks knows where that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QFocusEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLineEdit,
    QPushButton,
    QTableView,
    QToolButton,
    QWidget,
)

if TYPE_CHECKING:
    from napari_rada._qt.theme import Colours

PADDINGS: dict[type[QWidget], str] = {
    QPushButton: "3px",
    QToolButton: "0px",
    QCheckBox: "0px",
    QComboBox: "2px 9px 2px 7px",
    QAbstractSpinBox: "0px 9px",
    QLineEdit: "1px",
    QTableView: "0px",
}
"""What the keyboard goes to, with a pixel less between edge and content than in napari's style: the frame takes it."""
MARK = "keyboard"
"""Property of what is framed while it has the keyboard."""
ARROW = f'QComboBox[{MARK}="true"]::drop-down {{ subcontrol-origin: border }}\n'
"""The arrow of a list stays where it is when the frame comes."""
BACK = (Qt.FocusReason.PopupFocusReason, Qt.FocusReason.ActiveWindowFocusReason, Qt.FocusReason.MenuBarFocusReason)
"""Reasons to come back to where one was before."""


def focus_frame(colours: Colours) -> str:
    """Return the style sheet of the frame: napari's shows where the keyboard is for text fields only."""
    border = f"border: 1px solid {colours.text}"
    return ARROW + "".join(
        f'{kind.__name__}[{MARK}="true"]:focus {{ {border}; padding: {padding} }}\n'
        for kind, padding in PADDINGS.items()
    )


class KeyboardFrame(QObject):
    """Marks the fields and buttons to which the keyboard comes by a key."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._by_key = self._passed_on = False

    def watch(self, root: QWidget) -> None:
        """Mark what is in `root` now."""
        for kind in PADDINGS:
            for widget in root.findChildren(kind):
                widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Look for what brings the keyboard; a button that a click disables passes it on as by Tab, without a key."""
        if isinstance(watched, QWidget) and isinstance(event, QFocusEvent):
            if event.lostFocus():
                self._passed_on = event.reason() == Qt.FocusReason.TabFocusReason and not self._by_key
            elif event.reason() not in BACK:
                clicked = event.reason() == Qt.FocusReason.MouseFocusReason
                self._by_key = self._by_key and not clicked
                _mark(watched, not (clicked or self._passed_on))
        elif event is not None and event.type() in (QEvent.Type.KeyPress, QEvent.Type.MouseButtonPress):
            self._by_key = event.type() == QEvent.Type.KeyPress
        return super().eventFilter(watched, event)


def _mark(widget: QWidget, on: bool) -> None:
    style = widget.style()
    if style is not None and bool(widget.property(MARK)) != on:
        widget.setProperty(MARK, on)
        style.unpolish(widget)
        style.polish(widget)
