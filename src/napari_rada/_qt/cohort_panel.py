"""More scans for a run: other layers, annotated or not, and a folder of cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_rada._qt.dock import form
from napari_rada._qt.folder_edit import FolderEdit
from napari_rada._qt.message import breakable
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class CohortPanel(QWidget):
    """Choose what is learned from beside the image above."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._count = 0
        self.layers = QCheckBox("All selected image layers")
        self.layers.setToolTip(
            "Learn from every image layer that is selected in the layer list. Those whose own labels have no annotated "
            "slices are scans that nobody annotated, of which Quick makes no use"
        )
        self.listing = QLabel()
        self.listing.setWordWrap(True)
        self.folder = FolderEdit("Choose a folder with a cases.csv")
        self.folder.setToolTip("Columns name, image, labels, slices; only image must be filled")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.layers)
        layout.addWidget(self.listing)
        layout.addLayout(form(Folder_of_cases=self.folder))
        self.layers.toggled.connect(lambda _on: self.valueChanged.emit())
        self.folder.valueChanged.connect(lambda _folder: self.valueChanged.emit())
        self.layers.toggled.connect(self.listing.setVisible)
        self.set_data([])
        self.listing.setVisible(False)

    def set_data(self, scans: Sequence[tuple[str, str | None]]) -> None:
        """Show the names of the layers that are learned from beside the image above, each with that of its labels."""
        self._count = len(scans)
        several = "Select further image layers in the layer list."
        named = [f"{image} ({'not annotated' if labels is None else labels})" for image, labels in scans]
        self.listing.setText(breakable(f"And {len(named)} more: {', '.join(named)}.") if named else several)

    @property
    def title(self) -> str:
        """Say in few words what is learned from beside the image above."""
        layers = [f"{self._count} layer{'s' * (self._count > 1)}"] if self._count else []
        chosen = [*layers, *(["a folder"] if self.names_folder else [])]
        return f"More scans: {' and '.join(chosen)}" if chosen else "More scans"

    @property
    def names_folder(self) -> bool:
        """True if a folder of cases is named, whether it is there or not."""
        return bool(self.folder.line.text().strip())

    def value(self) -> Path | None:
        """Return the folder of cases, None if none is named; raises `InputError` if it is no folder."""
        if not self.names_folder:
            return None
        folder = self.folder.value()
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; choose one that holds a cases.csv, or leave the line empty.")
        return folder

    def setValue(self, folder: Path | None) -> None:
        """Name a folder of cases, or none."""
        self.folder.line.setText("" if folder is None else str(folder))
