"""The dock `Guidance weights`: which files of CLIP and Alpha-CLIP are here; download, import, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QMessageBox, QPushButton

from napari_rada._napari.job import Job, RunState
from napari_rada._napari.preferences import preferences
from napari_rada._napari.weights import consent_question, fetching, importing, states_of, verifying
from napari_rada._qt.dock import Dock, form
from napari_rada._qt.job_row import JobRow
from napari_rada._qt.keys import QuietCombo
from napari_rada._qt.message import breakable
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import WeightsError
from napari_rada.events import Notice
from napari_rada.guidance.registry import CLIP_MODELS
from napari_rada.guidance.store import WeightStore

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_rada._napari.job import Work
    from napari_rada._napari.weights import FileState
    from napari_rada._qt.theme import Colours
    from napari_rada.events import Event

BASE, ALPHA = "CLIP base", "Alpha-CLIP"


class WeightsWidget(Dock):
    """Get and check the files that region and text guidance need; without them everything else works.

    `download`, `import_file`, `verify` and `cancel` do what the buttons do.
    """

    def __init__(self, napari_viewer: ViewerModel, *, store: WeightStore | None = None) -> None:
        super().__init__(napari_viewer)
        self.store = store or WeightStore(preferences().cache)
        self.job = Job("work on the weights", spawn)
        self._pump = JobPump(self.job, self)
        self.model = QuietCombo()
        self.model.addItems(CLIP_MODELS)
        self.model.setToolTip("Larger models see more and take more memory; the first is the preset's")
        self.alpha = QuietCombo()
        for combo in (self.model, self.alpha):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(10)
        self.files = QLabel()
        self.files.setWordWrap(True)
        self.row = JobRow(self.job, "Download…", "Download what is missing, after you agreed to size, licence and host")
        self.import_button = QPushButton("Import file…")
        self.import_button.setToolTip("Take a file that you downloaded elsewhere")
        self.verify_button = QPushButton("Verify")
        self.verify_button.setToolTip("Read the files and compare their checksums")
        self._notices: list[str] = []
        self._build()
        self._connect()
        self.apply_colours(self.colours)
        self._on_model_changed()

    def value(self) -> tuple[FileState, FileState]:
        """Return the two files that are chosen: CLIP base and Alpha-CLIP."""
        base, *alpha = states_of(self.model.currentText(), self.store)
        return base, alpha[max(0, self.alpha.currentIndex())]

    def download(self) -> None:
        """Download the chosen files that are missing, after asking."""
        with self.telling_errors():
            missing = [state.entry for state in self.value() if state.path is None]
            if not missing:
                raise WeightsError("Both files are here already.")
            buttons = QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No
            answer = QMessageBox.question(self, "Download weights", consent_question(missing), buttons)
            if answer == QMessageBox.StandardButton.Yes:
                self._start(fetching(missing, self.store))

    def import_file(self, file: Path | str) -> None:
        """Take a file as one of the two that are chosen: the one of its name, else the Alpha-CLIP file."""
        with self.telling_errors():
            base, alpha = self.value()
            entry = base.entry if Path(file).name == base.entry.name else alpha.entry
            self._start(importing(entry, Path(file), self.store))

    def verify(self) -> None:
        """Compare the checksums of the chosen model's files."""
        with self.telling_errors():
            self._start(verifying(states_of(self.model.currentText(), self.store), self.store))

    def cancel(self) -> None:
        """Stop; what has come of a download is kept."""
        self.job.stop()

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme."""
        super().apply_colours(colours)
        self.row.setColours(colours)

    def _start(self, work: Work) -> None:
        self._notices = []
        self.job.start(work)

    def _build(self) -> None:
        self.column.addLayout(form(**{"CLIP_model": self.model, ALPHA: self.alpha}))
        self.column.addWidget(self.files)
        self.column.addWidget(self.row)
        buttons = QHBoxLayout()
        for button in (self.import_button, self.verify_button):
            buttons.addWidget(button)
        self.column.addLayout(buttons)
        self.column.addWidget(self.message)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.model.currentIndexChanged.connect(lambda: self._on_model_changed())
        self.alpha.currentIndexChanged.connect(lambda: self._draw())
        self.row.startRequested.connect(self.download)
        self.row.cancelRequested.connect(self.cancel)
        self.import_button.clicked.connect(lambda: self._on_import_clicked())
        self.verify_button.clicked.connect(lambda: self.verify())
        self.job.state_changed.connect(self._on_state_changed)
        self.job.event.connect(self._on_event)
        self.job.succeeded.connect(self._on_done)
        self.job.failed.connect(self.show_error)
        self.on_shut(self.job.stop)

    def _on_model_changed(self) -> None:
        states = states_of(self.model.currentText(), self.store)
        here = next((number for number, state in enumerate(states[1:]) if state.path is not None), 0)
        self.alpha.clear()
        self.alpha.addItems([state.entry.name for state in states[1:]])
        self.alpha.setCurrentIndex(here)
        self._draw()

    def _draw(self) -> None:
        if self.alpha.currentIndex() < 0:  # between two models
            return
        lines = [f"{name}: {state}" for name, state in zip((BASE, ALPHA), self.value(), strict=True)]
        self.files.setText(breakable("\n".join([*lines, f"Folder: {self.store.folder}"])))

    def _on_state_changed(self, state: RunState) -> None:
        for widget in (self.model, self.alpha, self.import_button, self.verify_button):
            widget.setEnabled(state is RunState.IDLE)
        self._draw()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._notices.append(event.message)

    def _on_done(self, told: str) -> None:
        self.message.setValue(" ".join([told, *self._notices]))

    def _on_import_clicked(self) -> None:
        chosen, _kind = QFileDialog.getOpenFileName(self, "Import a weights file", "", "PyTorch weights (*.pt *.pth)")
        if chosen:
            self.import_file(chosen)
