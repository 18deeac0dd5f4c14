"""What helps with painting: a start from the nearest slice or the preview, a window for CT, a lock."""

from __future__ import annotations

from psygnal import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_rada._napari.windows import WINDOWS, Window
from napari_rada._qt.dock import form
from napari_rada._qt.keys import QuietCombo

OWN_RANGE = "Its own range"


class PaintingPanel(QWidget):
    """Asks; the dock does."""

    copyRequested = Signal()
    """Copy the nearest annotated slice into the one that is shown."""
    previewRequested = Signal()
    """Copy the preview into the slice that is shown."""
    windowChosen = Signal(object)
    """Show the image in this `Window`; None is its own range."""
    lockChanged = Signal(bool)
    """Confine painting to listed slices, or not."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.copy = QPushButton("Copy nearest slice")
        self.copy.setToolTip("Paint the nearest annotated slice of this plane here, to be corrected; Ctrl+Z undoes it")
        self.copy_preview = QPushButton("Copy preview")
        self.copy_preview.setToolTip("Paint the propagated preview here, to be corrected; Ctrl+Z undoes it")
        self.ranges = QuietCombo()
        self.ranges.addItem(OWN_RANGE, None)
        for window in WINDOWS:
            self.ranges.addItem(f"CT {window.name} ({window.lower:g} to {window.upper:g})", window)
        self.ranges.setMinimumContentsLength(8)
        self.ranges.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.ranges.setToolTip("The range of intensities that is shown; the run's own window is a setting of the run")
        self.lock = QCheckBox("Paint in listed slices only")
        self.lock.setToolTip("Put the brush down in slices that are not in the table, so that no stroke goes astray")
        row = QHBoxLayout()
        row.addWidget(self.copy)
        row.addWidget(self.copy_preview)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(row)
        layout.addLayout(form(Shown_range=self.ranges))
        layout.addWidget(self.lock)
        self.copy.clicked.connect(lambda: self.copyRequested.emit())
        self.copy_preview.clicked.connect(lambda: self.previewRequested.emit())
        self.ranges.activated.connect(lambda _index: self.windowChosen.emit(self.value()))
        self.lock.toggled.connect(lambda on: self.lockChanged.emit(on))

    def value(self) -> Window | None:
        """Return the chosen window."""
        window: Window | None = self.ranges.currentData()
        return window

    def setValue(self, window: Window | None) -> None:
        """Name the window in which the image is shown; emits nothing."""
        self.ranges.setCurrentIndex(0 if window is None else 1 + WINDOWS.index(window))
