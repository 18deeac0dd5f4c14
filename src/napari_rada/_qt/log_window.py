"""A window with the log of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDialog, QPlainTextEdit, QVBoxLayout, QWidget

from napari_rada.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

LOG_NAME = "run.log"
RELOAD_MS = 1000
MOST_LINES = 5000


class LogWindow(QDialog):
    """Shows `run.log` of a run folder, and follows it while it is open."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowFlag(Qt.WindowType.Window)
        self.resize(700, 400)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setMaximumBlockCount(MOST_LINES)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        self._file: Path | None = None
        self._read = 0
        self._follow = QTimer(self)
        self._follow.setInterval(RELOAD_MS)
        self._follow.timeout.connect(self._read_on)
        self.finished.connect(lambda _result: self._follow.stop())

    def set_data(self, run_dir: Path) -> None:
        """Show the log of a run; raises `InputError` if there is none yet."""
        file = run_dir / LOG_NAME
        if not file.is_file():
            raise InputError(f"{file} does not exist yet; the log begins with the first message of a run.")
        self._file, self._read = file, 0
        self.text.clear()
        self.setWindowTitle(f"Log of {run_dir}")
        self._read_on()
        self._follow.start()

    def _read_on(self) -> None:
        """Add what was written since."""
        assert self._file is not None
        try:
            with self._file.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except OSError:  # the folder is gone; what was read stays
            self._follow.stop()
            return
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        if whole:
            self.text.appendPlainText(whole.decode("utf-8", errors="replace").rstrip("\n"))
