"""A part of a dock that is folded away until somebody wants it."""

from __future__ import annotations

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Section(QWidget):
    """A title that folds and unfolds what is under it."""

    opened = Signal()
    """Unfolded; the first time is the moment to fill it with what is costly to make."""

    def __init__(self, title: str, *contents: QWidget, tip: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setToolTip(tip)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setArrowType(Qt.ArrowType.RightArrow)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._body = QWidget()
        self.column = QVBoxLayout(self._body)
        self.column.setContentsMargins(10, 2, 0, 4)
        self.column.setSpacing(6)
        for content in contents:
            self.column.addWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.button)
        layout.addWidget(self._body)
        self._body.hide()
        self.button.toggled.connect(self._on_toggled)

    def setTitle(self, title: str) -> None:
        """Change the title, which also shows what is folded away."""
        self.button.setText(title)

    def value(self) -> bool:
        """Return True while unfolded."""
        return self.button.isChecked()

    def setValue(self, unfolded: bool) -> None:
        """Fold or unfold."""
        self.button.setChecked(unfolded)

    def _on_toggled(self, unfolded: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self._body.setVisible(unfolded)
        if unfolded:
            self.opened.emit()
