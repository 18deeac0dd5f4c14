"""Options that tidy a mask; all off at first."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_rada._qt.dock import form
from napari_rada._qt.number_box import NumberBox
from napari_rada.inference.cleanup import CleanUp

DIGITS = 9
"""So many are kept behind the point of millilitres: a thousandth of a cubic millimetre has six."""
MOST_ML = 1e5


class CleanUpPanel(QWidget):
    """Choose which small parts go and whether holes are filled."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.min_part = NumberBox(DIGITS)
        self.min_part.setRange(0.0, MOST_ML)
        self.min_part.setSingleStep(0.5)
        self.min_part.setSuffix(" ml")
        self.min_part.setSpecialValueText("off")
        self.min_part.setToolTip("Connected parts smaller than this become background")
        self.fill_holes = QCheckBox("Fill holes")
        self.fill_holes.setToolTip("Background that a class encloses on all sides becomes that class")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form(Remove_parts_under=self.min_part))
        layout.addWidget(self.fill_holes)

    def value(self) -> CleanUp:
        """Return what was chosen."""
        return CleanUp(self.min_part.value(), self.fill_holes.isChecked())

    def setValue(self, what: CleanUp) -> None:
        """Show a choice."""
        self.min_part.setValue(what.min_part_ml)
        self.fill_holes.setChecked(what.fill_holes)
