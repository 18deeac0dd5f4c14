"""The dialog that asks where a mask is to be saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from napari_rada.errors import InputError

if TYPE_CHECKING:
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
