"""Looking at the mask while the networks are still learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_rada._napari.engine import previewing
from napari_rada._napari.job import Job, RunState
from napari_rada._napari.preview import RUN_PREVIEW, show_preview
from napari_rada._qt.message import Message
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import RadaError
from napari_rada.events import CheckpointSaved, Event, Validated

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_rada._napari.engine import LoadEngine
    from napari_rada._napari.layers import Snapshot
    from napari_rada._qt.theme import Colours
    from napari_rada.prediction import Prediction


@dataclass(frozen=True, eq=False)
class PreviewedRun:
    """A run, what it was started from, and the device that predicts."""

    run_dir: Path
    snapshot: Snapshot
    image: Image
    labels: Labels
    device: str


class PreviewPanel(QWidget):
    """Shows what the networks make of the annotated slices, or of the volume, from the latest checkpoint.

    It asks the running training for a checkpoint and predicts from the file: the networks that learn are not touched.
    """

    checkpointRequested = Signal()
    """The running training should save its weights; the `CheckpointSaved` event goes to `take_in`."""

    def __init__(self, viewer: ViewerModel, load_engine: LoadEngine, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._load_engine = load_engine
        self.run: PreviewedRun | None = None
        self._state = RunState.IDLE
        self._wanted: str | None = None
        self._asked: tuple[PreviewedRun, str] | None = None
        self.job = Job("preview", spawn)
        self._pump = JobPump(self.job, self)
        self.live = QCheckBox("Show annotated slices at every validation")
        self.live.setToolTip(
            "Draw what the networks make of your slices as if they had not seen them, in a layer of its own"
        )
        self.slices_button = QPushButton("Slices now")
        self.slices_button.setToolTip("Preview the annotated slices with the weights of this moment")
        self.volume_button = QPushButton("Volume now")
        self.volume_button.setToolTip("Predict the whole volume with the weights of this moment")
        self.message = Message()
        row = QHBoxLayout()
        row.addWidget(self.slices_button)
        row.addWidget(self.volume_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.live)
        layout.addLayout(row)
        layout.addWidget(self.message)
        self.slices_button.clicked.connect(lambda: self.request("slices"))
        self.volume_button.clicked.connect(lambda: self.request("volume"))
        self.job.succeeded.connect(self._on_previewed)
        self.job.interrupted.connect(self._draw)
        self.job.failed.connect(self._on_failed)
        self._draw()

    def set_run(self, run: PreviewedRun | None) -> None:
        """Preview another run, on the layers that it was started from, or none."""
        self.run = run
        self._wanted = None
        self.message.setValue("")
        self._draw()

    def set_state(self, state: RunState) -> None:
        """Follow the run: while it trains, weights are asked for; while it is paused or over, they lie on the disk."""
        self._state = state
        if state is RunState.IDLE and self._wanted is not None:
            self._wanted = None
            self.message.setValue("")
        self._draw()

    def take_in(self, event: Event) -> None:
        """Preview when a checkpoint that was asked for is there, and at a validation if wanted."""
        if isinstance(event, Validated) and self.live.isChecked() and not self.job.is_running:
            self.request("slices")
        elif isinstance(event, CheckpointSaved) and self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            self._start(wanted)

    def request(self, what: str) -> None:
        """Preview the `slices` or the `volume`."""
        if self.run is None or self.job.is_running:
            return
        if self._state is RunState.TRAINING:
            self._wanted = what
            self.message.setValue("Waiting for the present iteration…")
            self.checkpointRequested.emit()
        else:
            self._start(what)
        self._draw()

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        self.message.setColours(colours)

    def _start(self, what: str) -> None:
        run = self.run
        if run is None or self.job.is_running:
            return
        whole = what == "volume"
        self._asked = (run, what)
        self.message.setValue(f"Computing a preview of the {what}…")
        self.job.start(previewing(self._load_engine, run.run_dir, run.snapshot, run.device, whole=whole))
        self._draw()

    def _on_previewed(self, prediction: Prediction) -> None:
        """Show it on the layers of the run that it was asked of, which need not be the present one."""
        assert self._asked is not None
        (run, what), self._asked = self._asked, None
        if run.image not in self._viewer.layers:
            self.message.setValue("")
            self._draw()
            return
        try:
            layer: Any = show_preview(self._viewer, prediction, run.image, run.labels, kind=f"{RUN_PREVIEW} {what}")
        except RadaError as error:
            self._on_failed(str(error))
            return
        iteration = prediction.provenance.get("iteration", 0)
        self.message.tellOf([layer], f"Layer '{layer.name}' shows iteration {iteration}.")
        self._draw()

    def _on_failed(self, sentence: str) -> None:
        self.message.setValue(sentence, "error")
        self._draw()

    def _draw(self) -> None:
        ready = self._state in (RunState.TRAINING, RunState.PAUSED, RunState.IDLE)
        free = self.run is not None and ready and not self.job.is_running and self._wanted is None
        self.slices_button.setEnabled(free)
        self.volume_button.setEnabled(free)
