"""The table of annotated slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QTableWidgetItem,
    QToolButton,
    QWidget,
)

from napari_rada._qt.keys import QuietTable
from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent

    from napari_rada._napari.annotation import SliceRow
    from napari_rada.data.grid import Grid

REMOVE = "\N{MULTIPLICATION SIGN}"
COLUMNS = ("Complete", "Plane", "Slice", "Voxels", "")
ROW_HEIGHT, VISIBLE_ROWS = 28, 5


class SliceTable(QuietTable):
    """Shows the slices and passes on what the user asks for; it changes nothing itself."""

    completeChanged = Signal(AnnotatedSlice, bool)
    """The user ticked or unticked a slice."""
    jumpRequested = Signal(AnnotatedSlice)
    """The user wants to see a slice."""
    removeRequested = Signal(AnnotatedSlice)
    """The user wants a slice off the list."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self._rows: tuple[SliceRow, ...] = ()
        self._fields: dict[tuple[AnnotatedSlice, str], QAbstractButton] = {}
        self._drawn: dict[AnnotatedSlice, tuple[SliceRow, str]] = {}
        self.setHorizontalHeaderLabels(list(COLUMNS))
        rows, header = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        rows.setDefaultSectionSize(ROW_HEIGHT)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setShowGrid(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFixedHeight(ROW_HEIGHT * (VISIBLE_ROWS + 1))
        self.cellClicked.connect(self._on_cell_chosen)
        self.cellActivated.connect(self._on_cell_chosen)

    def set_data(self, rows: Sequence[SliceRow], grid: Grid | None) -> None:
        """Show rows, sorted by their planes, which the grid names.

        Boxes and buttons of slices that stay are kept, with the focus that one may have: making them takes longest. The
        table takes the focus of one that is gone.
        """
        focus = next((key for key, field in self._fields.items() if field.hasFocus()), None)
        self._make_room([row.plane for row in rows])
        for position, row in enumerate(rows):
            if row.plane not in self._drawn:
                self.setCellWidget(position, 0, self._tick(row.plane))
                self.setCellWidget(position, len(COLUMNS) - 1, self._buttons(row.plane))
            self._set_ticked(row)
            name = f"axis {row.plane.axis}" if grid is None else grid.plane_name(row.plane.axis)
            if self._drawn.get(row.plane) != (row, name):
                self._drawn[row.plane] = row, name
                self._draw(position, row, name)
        self._rows = tuple(rows)
        if focus is not None and focus not in self._fields:
            self.setFocus()

    def value(self) -> AnnotatedSlice | None:
        """Return the selected slice."""
        row = self.currentRow()
        return self._rows[row].plane if 0 <= row < len(self._rows) else None

    def setValue(self, plane: AnnotatedSlice | None) -> None:
        """Select a slice if it is listed, else none; emits nothing."""
        planes = [row.plane for row in self._rows]
        if plane in planes:
            self.setCurrentCell(planes.index(plane), 1)
        else:
            self.setCurrentItem(None)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Tick or untick the highlighted slice by the space bar: Tab leaves the table without a stop at its boxes."""
        highlighted = self._rows[self.currentRow() : self.currentRow() + 1] if self.currentRow() >= 0 else ()
        if event is not None and event.key() == Qt.Key.Key_Space and highlighted:
            self.completeChanged.emit(highlighted[0].plane, not highlighted[0].complete)
        else:
            super().keyPressEvent(event)

    def _make_room(self, planes: Sequence[AnnotatedSlice]) -> None:
        """Take other slices off the table, and put empty rows where there are new ones."""
        shown = [row.plane for row in self._rows]
        gone = set(shown) - set(planes)
        for position in reversed([position for position, plane in enumerate(shown) if plane in gone]):
            self.removeRow(position)
        for position in [position for position, plane in enumerate(planes) if plane not in self._drawn]:
            self.insertRow(position)
        self._fields = {key: field for key, field in self._fields.items() if key[0] not in gone}
        self._drawn = {plane: drawn for plane, drawn in self._drawn.items() if plane not in gone}

    def _set_ticked(self, row: SliceRow) -> None:
        """Let a box be as its row is, also after a click that was refused."""
        box = self._fields[row.plane, COLUMNS[0]]
        box.blockSignals(True)
        box.setChecked(row.complete)
        box.blockSignals(False)

    def _draw(self, position: int, row: SliceRow, name: str) -> None:
        for column, text in enumerate((name, str(row.plane.index), f"{row.voxels:,}"), start=1):
            self.setItem(position, column, _cell(text, numeric=column > 1, proposed=not row.complete))

    def _tick(self, plane: AnnotatedSlice) -> QWidget:
        box = QCheckBox()
        box.setToolTip("Tick when this slice is annotated completely: inside it 0 then means background")
        box.toggled.connect(lambda checked: self.completeChanged.emit(plane, checked))
        self._fields[plane, COLUMNS[0]] = box
        holder = QWidget()
        holder.setStyleSheet("background: transparent")
        layout = QHBoxLayout(holder)
        layout.setContentsMargins(6, 0, 6, 0)
        layout.addWidget(box, alignment=Qt.AlignmentFlag.AlignCenter)
        return holder

    def _buttons(self, plane: AnnotatedSlice) -> QWidget:
        holder = QWidget()
        holder.setStyleSheet("background: transparent")
        layout = QHBoxLayout(holder)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.setSpacing(2)
        for text, tip, signal in (
            ("→", "Show this slice", self.jumpRequested),
            (REMOVE, "Take this slice off the list; nothing painted is erased", self.removeRequested),
        ):
            button = QToolButton()
            button.setText(text)
            button.setToolTip(tip)
            button.clicked.connect(lambda _checked=False, signal=signal: signal.emit(plane))
            layout.addWidget(button)
            self._fields[plane, text] = button
        return holder

    def _on_cell_chosen(self, row: int, column: int) -> None:
        del column
        self.jumpRequested.emit(self._rows[row].plane)


def _cell(text: str, *, numeric: bool, proposed: bool) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    if proposed:
        font = item.font()
        font.setItalic(True)
        item.setFont(font)
        item.setToolTip("This slice looks painted; tick it when it is complete")
    if numeric:
        item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item
