"""The table of classes: colour, label, name, text prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_rada._qt.keyboard_frame import KeyboardFrame
from napari_rada._qt.keys import QuietTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada._napari.classes import ClassRow

COLUMNS = ("", "Label", "Name", "Text prompt")
COLOUR, LABEL, NAME, PROMPT = range(4)
SHOWN_ROWS = 3


class ClassTable(QWidget):
    """Shows the classes and passes on what the user asks for; it changes nothing itself."""

    chosen = Signal(int)
    """The user wants to paint with this label."""
    renamed = Signal(int, str)
    """The user named a class."""
    prompted = Signal(int, str)
    """The user described a class in words, for text guidance."""
    coloured = Signal(int, str)
    """The user chose a colour, `#rrggbb`."""
    addRequested = Signal()
    removeRequested = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[ClassRow, ...] = ()
        self._frame = KeyboardFrame(self)
        self.table = QuietTable(COLUMNS, SHOWN_ROWS)
        self.table.setAccessibleName("Classes")
        triggers = QAbstractItemView.EditTrigger
        self.table.setEditTriggers(triggers.DoubleClicked | triggers.EditKeyPressed)
        rows, header = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        for column in (NAME, PROMPT):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setShowGrid(False)
        self.add_button = QPushButton("Add class")
        self.add_button.setToolTip("Paint another structure with a label of its own, in the same slices")
        self.remove_button = QPushButton("Remove class")
        self.remove_button.setToolTip("Take the selected class off the list; not while it is painted")
        buttons = QHBoxLayout()
        buttons.addWidget(self.add_button)
        buttons.addWidget(self.remove_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        self.table.itemChanged.connect(self._on_item_changed)
        self.table.currentCellChanged.connect(self._on_current_changed)
        self.add_button.clicked.connect(lambda: self.addRequested.emit())
        self.remove_button.clicked.connect(lambda: self._on_remove_clicked())

    def set_data(self, rows: Sequence[ClassRow]) -> None:
        """Show classes; the selection stays if its class is still there."""
        selected = self.value()
        self._rows = tuple(rows)
        self.table.blockSignals(True)
        self.table.setRowCount(len(rows))
        before: QWidget = self.table
        for position, row in enumerate(rows):
            button = self._colour_button(position)
            button.setAccessibleName(f"Colour of {row.info.name}")
            button.setStyleSheet(f"QToolButton {{ background-color: {row.colour}; border-radius: 3px; margin: 5px }}")
            QWidget.setTabOrder(before, button)
            before = button
            texts = ((LABEL, str(row.info.value)), (NAME, row.info.name), (PROMPT, row.info.prompt))
            for column, text in texts:
                item = QTableWidgetItem(text)
                if column == LABEL:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                item.setToolTip(text)
                self.table.setItem(position, column, item)
        self._frame.watch(self.table)
        self.table.blockSignals(False)
        self.setValue(selected)
        self.setEnabled(bool(rows))

    def value(self) -> int | None:
        """Return the label of the selected class."""
        position = self.table.currentRow()
        return self._rows[position].info.value if 0 <= position < len(self._rows) else None

    def setValue(self, label: int | None) -> None:
        """Select a class if it is listed, else none; emits nothing."""
        labels = [row.info.value for row in self._rows]
        self.table.blockSignals(True)
        if label in labels:
            self.table.setCurrentCell(labels.index(label), NAME)
        else:
            self.table.setCurrentItem(None)
        self.table.blockSignals(False)
        row = next((row for row in self._rows if row.info.value == label), None)
        self.remove_button.setEnabled(row is not None and not row.painted and len(self._rows) > 1)

    def _colour_button(self, position: int) -> QToolButton:
        """Return the button of a row; one that is there stays, and so does the keyboard in it."""
        button = self.table.cellWidget(position, COLOUR)
        if not isinstance(button, QToolButton):
            button = QToolButton()
            button.setToolTip("Choose another colour")
            button.clicked.connect(lambda: self._on_colour_clicked(self._rows[position]))
            self.table.setCellWidget(position, COLOUR, button)
        return button

    def _on_colour_clicked(self, row: ClassRow) -> None:
        colour = QColorDialog.getColor(QColor(row.colour), self, f"Colour of {row.info.name}")
        if colour.isValid():
            self.coloured.emit(row.info.value, colour.name())

    def _on_item_changed(self, item: QTableWidgetItem) -> None:
        info = self._rows[item.row()].info
        if item.column() == NAME and item.text() != info.name:
            self.renamed.emit(info.value, item.text())
        elif item.column() == PROMPT and item.text() != info.prompt:
            self.prompted.emit(info.value, item.text())

    def _on_current_changed(self, row: int, column: int = 0, before: int = 0, old_column: int = 0) -> None:
        del column, before, old_column
        if 0 <= row < len(self._rows):
            self.setValue(self._rows[row].info.value)
            self.chosen.emit(self._rows[row].info.value)

    def _on_remove_clicked(self) -> None:
        label = self.value()
        if label is not None:
            self.removeRequested.emit(label)
