"""The table of annotated slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHeaderView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionButton,
    QStyleOptionViewItem,
    QTableWidget,
    QTableWidgetItem,
)

from napari_rada._qt.keys import QuietTable
from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtCore import QModelIndex
    from qtpy.QtGui import QKeyEvent, QPainter

    from napari_rada._napari.annotation import SliceRow
    from napari_rada.data.grid import Grid

COLUMNS = ("Complete", "Plane", "Slice", "Voxels", "", "")
TICK, PLANE, SLICE, VOXELS, SHOW, REMOVE = range(len(COLUMNS))
ARROW, CROSS = "\N{RIGHTWARDS ARROW}", "\N{MULTIPLICATION SIGN}"
SPOKEN = {SHOW: "Show", REMOVE: "Remove"}
"""What a screen reader says for the columns that have a sign only."""
TICK_TIP = "Tick when this slice is annotated completely: inside it 0 then means background"
PROPOSED_TIP = "This slice looks painted; tick it when it is complete"
SHOW_TIP = "Show this slice"
REMOVE_TIP = "Take this slice off the list; nothing painted is erased"
SHOWN_ROWS = 5


class SliceTable(QuietTable):
    """Shows the slices and passes on what the user asks for; it changes nothing itself.

    Ticks and buttons are cells: a box and two buttons for each of some hundred slices would hold the window up.
    """

    completeChanged = Signal(AnnotatedSlice, bool)
    """The user ticked or unticked a slice."""
    jumpRequested = Signal(AnnotatedSlice)
    """The user wants to see a slice."""
    removeRequested = Signal(AnnotatedSlice)
    """The user wants a slice off the list."""

    def __init__(self) -> None:
        super().__init__(COLUMNS, SHOWN_ROWS)
        self._drawn: list[tuple[SliceRow, str]] = []
        self._patterns = {complete: _patterns(complete=complete) for complete in (False, True)}
        self.setAccessibleName("Annotated slices")
        cells = self.model()
        assert cells is not None
        for column, spoken in SPOKEN.items():
            cells.setHeaderData(column, Qt.Orientation.Horizontal, spoken, Qt.ItemDataRole.AccessibleTextRole)
        rows, header = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setShowGrid(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(PLANE, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setItemDelegateForColumn(TICK, TickDelegate(self))
        self.cellClicked.connect(self._on_cell_chosen)

    def set_data(self, rows: Sequence[SliceRow], grid: Grid | None) -> None:
        """Show rows, sorted by their planes, which the grid names."""
        before, self._drawn = self._drawn, []
        self.setRowCount(len(rows))
        for position, row in enumerate(rows):
            name = f"axis {row.plane.axis}" if grid is None else grid.plane_name(row.plane.axis)
            self._drawn.append((row, name))
            if before[position : position + 1] != self._drawn[position:]:
                self._draw(position, row, name)
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        """Ask for room for whole rows: the names of planes would be shortened first, and there is nothing else."""
        bar, header = self.verticalScrollBar(), self.horizontalHeader()
        assert bar is not None
        assert header is not None
        columns = sum(max(self.sizeHintForColumn(at), header.sectionSizeHint(at)) for at in range(len(COLUMNS)))
        width = columns + bar.sizeHint().width() + 2 * self.frameWidth()
        return QSize(width, super().minimumSizeHint().height())

    def value(self) -> AnnotatedSlice | None:
        """Return the selected slice."""
        row = self.currentRow()
        return self._drawn[row][0].plane if 0 <= row < len(self._drawn) else None

    def setValue(self, plane: AnnotatedSlice | None) -> None:
        """Select a slice if it is listed, else none; emits nothing."""
        planes = [row.plane for row, _name in self._drawn]
        if plane in planes:
            self.setCurrentCell(planes.index(plane), PLANE)
        else:
            self.setCurrentItem(None)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Tick or untick the highlighted slice by the space bar; Return does what a click on the cell does."""
        key = event.key() if event is not None and self.currentRow() >= 0 else None
        if key == Qt.Key.Key_Space:
            self._on_cell_chosen(self.currentRow(), TICK)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._on_cell_chosen(self.currentRow(), self.currentColumn())
        else:
            super().keyPressEvent(event)

    def _draw(self, position: int, row: SliceRow, name: str) -> None:
        texts = ("", name, str(row.plane.index), f"{row.voxels:,}", ARROW, CROSS)
        for column, (pattern, text) in enumerate(zip(self._patterns[row.complete], texts, strict=True)):
            item = pattern.clone()  # takes a third of the time of making and setting up another
            assert item is not None
            item.setText(text)
            self.setItem(position, column, item)

    def _on_cell_chosen(self, position: int, column: int) -> None:
        """Pass on what was asked for; the slice that was ticked is highlighted then, for the space bar to untick it."""
        row, _name = self._drawn[position]
        if column == TICK:
            self.completeChanged.emit(row.plane, not row.complete)
            if any(shown.plane == row.plane for shown, _name in self._drawn):
                self.setValue(row.plane)
        else:
            (self.removeRequested if column == REMOVE else self.jumpRequested).emit(row.plane)


class TickDelegate(QStyledItemDelegate):
    """Draws a tick in the middle of its cell, as a check box: napari's style sheet has none for tables."""

    def __init__(self, table: QTableWidget) -> None:
        super().__init__(table)
        self._box = QCheckBox(table)
        self._box.hide()

    def initStyleOption(self, option: QStyleOptionViewItem | None, index: QModelIndex) -> None:
        """Leave out the tick that Qt would draw."""
        super().initStyleOption(option, index)
        assert option is not None
        option.features &= ~QStyleOptionViewItem.ViewItemFeature.HasCheckIndicator

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw the cell and the tick in it."""
        super().paint(painter, option, index)
        style, box = self._box.style(), QStyleOptionButton()
        assert style is not None
        box.initFrom(self._box)
        state = QStyle.StateFlag
        ticked = Qt.CheckState(index.data(Qt.ItemDataRole.CheckStateRole)) is Qt.CheckState.Checked
        box.state = option.state & (state.State_Enabled | state.State_MouseOver)
        box.state |= state.State_On if ticked else state.State_Off
        size = style.subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, box, self._box).size()
        box.rect = QStyle.alignedRect(option.direction, Qt.AlignmentFlag.AlignCenter, size, option.rect)
        style.drawPrimitive(QStyle.PrimitiveElement.PE_IndicatorCheckBox, box, painter, self._box)


def _patterns(*, complete: bool) -> list[QTableWidgetItem]:
    """Return the cells of a row, without their texts."""
    side = Qt.AlignmentFlag
    tip = "" if complete else PROPOSED_TIP
    tips = (TICK_TIP, tip, tip, tip, SHOW_TIP, REMOVE_TIP)
    sides = (side.AlignCenter, side.AlignLeft, side.AlignRight, side.AlignRight, side.AlignCenter, side.AlignCenter)
    items = [QTableWidgetItem() for _column in COLUMNS]
    for item, alignment, told in zip(items, sides, tips, strict=True):
        item.setTextAlignment(alignment | side.AlignVCenter)
        item.setToolTip(told)
    for item in items[PLANE:SHOW]:
        font = item.font()
        font.setItalic(not complete)
        item.setFont(font)
    for column, spoken in SPOKEN.items():
        items[column].setData(Qt.ItemDataRole.AccessibleTextRole, spoken)
    tick = items[TICK]
    tick.setFlags(tick.flags() & ~Qt.ItemFlag.ItemIsUserCheckable)  # only the rows that are shown tick it
    tick.setCheckState(Qt.CheckState.Checked if complete else Qt.CheckState.Unchecked)
    tick.setData(Qt.ItemDataRole.AccessibleTextRole, "complete" if complete else "not complete")
    return items
