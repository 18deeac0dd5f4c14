"""A folder: a line to type in and a button to browse."""

from __future__ import annotations

import os
import time
from pathlib import Path

from psygnal import Signal
from qtpy.QtCore import QStandardPaths
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget

from napari_rada.errors import InputError
from napari_rada.training.run_folder import RunFolder


class FolderEdit(QWidget):
    """Choose a folder; it need not exist."""

    valueChanged = Signal(Path)

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self.line = QLineEdit()
        self.browse = QToolButton()
        self.browse.setText("…")
        self.browse.setToolTip(title)
        for part in (self.line, self.browse):
            part.setAccessibleName(title)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.browse)
        self.line.textChanged.connect(self._on_text_changed)
        self.browse.clicked.connect(self._on_browse_clicked)

    def value(self) -> Path:
        """Return the folder."""
        return Path(self.line.text().strip()).expanduser()

    def checked(self) -> Path:
        """Return the folder; raises `InputError` unless its whole path is named: a part begins who knows where."""
        folder, named = self.value(), self.line.text().strip()
        if not folder.is_absolute():
            found = f"'{named}' is only a part of a path" if named else "The line Folder is empty"
            raise InputError(f"{found}; name a folder with its whole path, or choose one with the button beside it.")
        return folder

    def setValue(self, folder: Path) -> None:
        """Show a folder; its end, which tells folders apart, stays in sight."""
        self.line.setText(str(folder))
        self.line.setCursorPosition(len(str(folder)))

    def _on_text_changed(self, text: str) -> None:
        self.line.setToolTip(text)
        self.valueChanged.emit(self.value())

    def _on_browse_clicked(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, self._title, str(self.value().parent))
        if chosen:
            self.setValue(Path(chosen))


def data_folder() -> Path:
    """Return the folder for this user's runs."""
    base = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
    return Path(base) / "napari-rada" / "runs"


def folder_for_runs(source: Path | None) -> Path:
    """Return where runs on an image go: beside its file if one can write there, else among the user's data."""
    beside = None if source is None else _beside(source)
    return beside if beside is not None and can_be_made(beside) else data_folder()


def _beside(image: Path) -> Path:
    """Return a folder beside an image, or beside the run that keeps it as a copy of its own: no run holds others."""
    run = RunFolder(image.parent.parent)
    return run.path.parent if run.is_run and image.parent == run.annotations else image.parent / "rada-runs"


def can_be_made(folder: Path) -> bool:
    """Tell whether a folder is there, or can be made, and can be written in."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return there is not None and os.access(there, os.W_OK)


def fresh_run_folder(name: str, base: Path) -> Path:
    """Return a folder under `base` that does not exist yet, named after the case and the time."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "run"
    stem = f"{safe}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [base / stem, *(base / f"{stem}-{n}" for n in range(2, 1000))]
    return next(folder for folder in candidates if not folder.exists())
