"""Saving a mask: the dialog that asks where, and the worker that writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog

from napari_rada._napari.files import take_labels
from napari_rada._napari.job import Job
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Labels
    from qtpy.QtWidgets import QWidget

FILE_FILTERS = {".nii.gz": "NIfTI (*.nii.gz *.nii)", ".tif": "TIFF (*.tif *.tiff)"}


def ask_for_file(parent: QWidget, name: str, suffix: str) -> Path | None:
    """Return the file that is chosen, of the chosen kind where its name has no ending; None if none is.

    Raises `InputError` if the file with the ending exists: the dialog asked whether to write over one without.
    """
    filters = ";;".join(FILE_FILTERS.values())
    chosen, kind = QFileDialog.getSaveFileName(
        parent, "Save the mask", f"{name}{suffix}", filters, FILE_FILTERS[suffix]
    )
    if not chosen:
        return None
    path = Path(chosen)
    if path.suffix:
        return path
    path = path.with_name(path.name + next((end for end, found in FILE_FILTERS.items() if found == kind), suffix))
    if path.exists():
        raise InputError(f"{path} exists; choose it with its ending to write over it, or another name.")
    return path


class MaskSaver(QObject):
    """Writes a mask, as it was when it was asked for, in a worker; once begun it is written to the end.

    napari asks before it closes a window meanwhile, and a program that ends waits for it.
    """

    saved = Signal(str)
    """The mask is in its file; the sentence says where."""
    failed = Signal(str)
    """It could not be written; the sentence says why."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.job = Job("saving of a mask", spawn)
        self._pump = JobPump(self.job, self)
        self.job.succeeded.connect(self._on_written)
        self.job.failed.connect(self.failed.emit)

    def save(self, layer: Labels, path: Path) -> None:
        """Begin to write a layer; raises `RadaError` while another one is written."""
        write = take_labels(layer)
        self.job.start(lambda _control, _listener: write(path)[0])

    def _on_written(self, file: Path) -> None:
        self.saved.emit(f"Saved {file}.")
