"""Prediction chunk by chunk: whether, and into which folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_rada._napari.layers import is_lazy
from napari_rada._napari.volumes import default_folder, needs_annotation
from napari_rada._qt.folder_edit import FolderEdit

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

TIP = (
    "For images larger than memory: the mask is written chunk by chunk into an OME-Zarr folder and shown from there. "
    "Ticked by itself for images that are read in parts, unless the run needs annotated slices"
)


class ChunkPanel(QWidget):
    """Choose to predict chunk by chunk, and the OME-Zarr folder that is written."""

    toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QCheckBox("Chunk by chunk, into a folder")
        self.box.setToolTip(TIP)
        self.folder = FolderEdit("OME-Zarr folder for the mask, new or to be gone on with; ends in .ome.zarr")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.box)
        layout.addWidget(self.folder)
        self.folder.hide()
        self.box.toggled.connect(self.folder.setVisible)
        self.box.toggled.connect(self.toggled.emit)

    def set_data(self, image: Image | None, run_dir: Path | None) -> None:
        """Propose what suits an image and a run."""
        suits = image is not None and is_lazy(image) and not (run_dir is not None and needs_annotation(run_dir))
        self.box.setChecked(suits)
        if image is not None and run_dir is not None:
            self.folder.setValue(default_folder(run_dir, str(image.name)))

    def value(self) -> Path | None:
        """Return the folder; None if the image is to be predicted in memory."""
        return self.folder.value() if self.box.isChecked() else None

    def setValue(self, folder: Path | None) -> None:
        """Show a choice."""
        self.box.setChecked(folder is not None)
        if folder is not None:
            self.folder.setValue(folder)
