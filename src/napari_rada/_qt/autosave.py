"""Saving labels while they are painted, so that neither a crash nor a closed window loses a stroke."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QCoreApplication, QObject, QTimer

from napari_rada._napari.autosave import LabelsKeeper
from napari_rada._napari.job import Job
from napari_rada._qt.deletion import when_deleted
from napari_rada._qt.folder_edit import data_folder
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import RadaError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari.layers import Image, Labels, Layer

    from napari_rada._napari.session import Session

SAVE_MS = 3000
"""Time after the first stroke, tick or class that is not saved yet until the labels are saved."""
RETRY_MS = 10 * SAVE_MS
"""Time until it is tried again where they could not be, if nothing is painted meanwhile."""


class Autosaver(QObject):
    """Saves one Labels layer after its edits: into the run folder, or among the user's data while there is none.

    What is not saved yet when the dock or the window is closed, or the program quits, is saved then.
    """

    saved = Signal(object)
    """The labels are in this file."""
    failed = Signal(str)
    """They could not be saved; the sentence says why. The same reason is told once."""
    mended = Signal(str)
    """They are saved after all; the sentence is what was told before."""

    def __init__(self, session: Session, layers: Iterable[Layer], parent: QObject) -> None:
        super().__init__(parent)
        self.path: Path | None = None
        self._keeper = LabelsKeeper(lambda: session.run_dir or data_folder().parent, layers)
        self._told = ""
        self.job = Job("saving", spawn)
        self._pump = JobPump(self.job, self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SAVE_MS)
        self._timer.timeout.connect(self._on_due)
        self.job.succeeded.connect(self._on_saved)
        self.job.failed.connect(self._on_not_written)
        when_deleted(self, partial(_flush, self._keeper))  # a closed window takes its docks with it, untold
        application = QCoreApplication.instance()
        assert application is not None
        application.aboutToQuit.connect(self.flush)

    def set_layers(self, image: Image | None, labels: Labels | None) -> None:
        """Save other labels from now on; those before are saved first if they were edited."""
        self.flush()
        self._keeper.set_layers(image, labels)

    def earlier(self, image: Image) -> Path | None:
        """Return where labels of an image lie that no open layer shows, if there are any."""
        return self._keeper.earlier(image, [data_folder().parent])

    def keep_apart(self, image: Image, labels: Labels) -> None:
        """Save new labels beside the files of earlier ones, and over none of them."""
        self._keeper.keep_apart(image, labels)

    def touch(self) -> None:
        """Note what may be an edit; what follows within a few seconds is saved together."""
        if not self._timer.isActive() or self._timer.interval() > SAVE_MS:
            self._timer.start(SAVE_MS)

    def flush(self) -> None:
        """Save at once, in this thread, what is not saved yet."""
        self._timer.stop()
        try:
            self._on_saved(self._keeper.flush())
        except RadaError as error:
            self._on_failed(str(error))

    def _on_due(self) -> None:
        if self.job.is_running:
            self._timer.start(SAVE_MS)
            return
        try:
            write = self._keeper.take()
        except RadaError as error:
            self._on_failed(str(error))
            return
        if write is not None:
            self.job.start(lambda _control, _listener: write())

    def _on_saved(self, path: Path | None) -> None:
        if path is not None:
            self.path, told, self._told = path, self._told, ""
            self.saved.emit(path)
            if told:
                self.mended.emit(told)

    def _on_failed(self, reason: str) -> None:
        sentence = f"The labels could not be saved by themselves: {reason}"
        if sentence != self._told:
            self._told = sentence
            self.failed.emit(sentence)

    def _on_not_written(self, reason: str) -> None:
        self._on_failed(reason)
        if not self._timer.isActive():
            self._timer.start(RETRY_MS)


def _flush(keeper: LabelsKeeper) -> None:
    """Save what is not saved yet when there is no window any more to tell anything in."""
    try:
        keeper.flush()
    except RadaError as error:
        logging.getLogger(__name__).error("The labels could not be saved by themselves: %s", error)
