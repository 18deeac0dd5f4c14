"""Asking where the networks look for a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_rada._qt.dock import form
from napari_rada._qt.job_row import JobRow
from napari_rada._qt.keys import QuietCombo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada._napari.job import Job
    from napari_rada.data.classes import ClassInfo


class ExplainPanel(QWidget):
    """Choose one of a run's classes; the button asks, the row follows the job."""

    def __init__(self, job: Job, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.classes = QuietCombo()
        self.classes.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.classes.setMinimumContentsLength(8)
        self.classes.setToolTip("The classes of the run")
        self.row = JobRow(
            job,
            "Show where the networks look",
            "Add a map, 0 to 1, of what the networks go by when they find this class (Grad-CAM), as a layer of its own",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(form(Class=self.classes))
        layout.addWidget(self.row)

    def value(self) -> int | None:
        """Return the label value of the chosen class; None if there is none to choose."""
        value = self.classes.currentData()
        return None if value is None else int(value)

    def setValue(self, value: int) -> None:
        """Choose a class by its label value."""
        index = self.classes.findData(value)
        if index < 0:
            raise ValueError(f"{value} is no class of the run that is chosen")
        self.classes.setCurrentIndex(index)

    def set_data(self, infos: Sequence[ClassInfo]) -> None:
        """Offer other classes; the same label value stays chosen while it is there."""
        before = self.value()
        self.classes.clear()
        for info in infos:
            self.classes.addItem(f"{info.name} ({info.value})", info.value)
        self.classes.setCurrentIndex(max(self.classes.findData(before), 0))
