"""A choice among the runs of this session and run folders on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_rada._qt.folder_edit import data_folder
from napari_rada._qt.keys import QuietCombo
from napari_rada.errors import RunFolderError

if TYPE_CHECKING:
    from napari_rada._napari.session import Session


class RunCombo(QWidget):
    """Choose a run; the newest of the session is chosen when it appears."""

    valueChanged = Signal(object)
    """Another run folder, or None, is chosen."""
    refused = Signal(str)
    """A folder that was opened is no run; the sentence says why."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.combo = QuietCombo()
        self.combo.setAccessibleName("Run")
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(10)
        self.open_button = QPushButton("Open…")
        self.open_button.setToolTip("Take a run folder from disk")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.combo, 1)
        layout.addWidget(self.open_button)
        self.combo.currentIndexChanged.connect(self._on_index_changed)
        self.open_button.clicked.connect(self._on_open_clicked)
        session.runs_changed.connect(self._on_runs_changed)
        self._on_runs_changed()

    def value(self) -> Path | None:
        """Return the run folder, None if there is none."""
        index = self.combo.currentIndex()
        return self._session.runs[index].path if 0 <= index < len(self._session.runs) else None

    def setValue(self, run_dir: Path | str) -> None:
        """Choose a run folder, known or new.

        Raises
        ------
        RunFolderError
            If it holds no run.
        """
        path = Path(run_dir)
        if not (path / "config.yaml").is_file():
            raise RunFolderError(f"{path} is not a run folder (no config.yaml in it); choose the folder of a run.")
        self._session.add_run(path, path.name)

    def shut(self) -> None:
        """Let go of the session."""
        self._session.runs_changed.disconnect(self._on_runs_changed)

    def _on_runs_changed(self) -> None:
        self.combo.blockSignals(True)
        self.combo.clear()
        for run in self._session.runs:
            self.combo.addItem(run.label)
        if not self._session.runs:
            self.combo.addItem("no run yet")
        self.combo.setCurrentIndex(self.combo.count() - 1)
        self.combo.blockSignals(False)
        self._on_index_changed()

    def _on_index_changed(self, index: int = 0) -> None:
        del index
        self.combo.setToolTip(str(self.value() or "Train first, or open the folder of a run"))
        self.valueChanged.emit(self.value())

    def _on_open_clicked(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a run folder", str(data_folder()))
        if not chosen:
            return
        try:
            self.setValue(chosen)
        except RunFolderError as error:
            self.refused.emit(str(error))
