"""Saving labels while they are painted, so that neither a crash nor a closed window loses a stroke."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from napari_rada._napari.job import Job
from napari_rada._napari.layers import annotated_slices, class_infos, full_resolution, grid_of, is_lazy
from napari_rada._napari.run_files import autosave, autosave_path
from napari_rada._qt.folder_edit import data_folder
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import RadaError

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image, Labels

    from napari_rada._napari.job import Work
    from napari_rada._napari.session import Session
    from napari_rada.control import RunControl
    from napari_rada.data.classes import ClassInfo
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Listener

QUIET_MS = 3000
"""Quiet time after the last stroke before the labels are saved."""


class Autosaver(QObject):
    """Saves one Labels layer after its edits: into the run folder, or among the user's data while there is none."""

    saved = Signal(object)
    """The labels are in this file."""
    failed = Signal(str)
    """They could not be saved; the sentence says why."""

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._layers: tuple[Image, Labels] | None = None
        self._dirty = False
        self._written: tuple[Path, tuple[AnnotatedSlice, ...], tuple[ClassInfo, ...], int] | None = None
        self.path: Path | None = None
        self.job = Job("saving", spawn)
        self._pump = JobPump(self.job, self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.timeout.connect(self._on_quiet)
        self.job.succeeded.connect(self._on_saved)
        self.job.failed.connect(self._on_failed)

    def set_layers(self, image: Image | None, labels: Labels | None) -> None:
        """Save other labels from now on; those before are saved first if they were edited."""
        self.flush()
        none = image is None or labels is None or is_lazy(labels)  # nobody can paint in labels that are read in parts
        self._layers = None if none else (image, labels)

    def touch(self) -> None:
        """Note an edit; what follows within a few seconds is saved together."""
        if self._layers is not None:
            self._dirty = True
            self._timer.start()

    def flush(self) -> None:
        """Save at once, in this thread, what is not saved yet."""
        self._timer.stop()
        if self._dirty and self._layers is not None:
            try:
                work, self.path = self._work()
                work_now(work)
            except RadaError as error:
                self._on_failed(str(error))
            self._dirty = False

    def _work(self) -> tuple[Work, Path]:
        assert self._layers is not None
        image, layer = self._layers
        folder = self._session.run_dir or data_folder().parent
        path = autosave_path(folder, str(image.name))
        labels, planes, grid = np.array(full_resolution(layer)), annotated_slices(layer), grid_of(layer)
        classes = class_infos(layer)

        def work(control: RunControl | None, listener: Listener | None) -> Path:
            del control, listener
            state = (path, planes, classes, zlib.crc32(labels.tobytes()))
            if state != self._written:  # the viewer tells of edits also when it only turns to another slice
                autosave(path, labels, planes, grid, classes)
                self._written = state
            return path

        return work, path

    def _on_quiet(self) -> None:
        if self.job.is_running:
            self._timer.start()
            return
        try:
            work, _path = self._work()
        except RadaError as error:
            self._on_failed(str(error))
            return
        self._dirty = False
        self.job.start(work)

    def _on_saved(self, path: Path) -> None:
        self.path = path
        self.saved.emit(path)

    def _on_failed(self, sentence: str) -> None:
        self.failed.emit(f"The labels could not be saved by themselves: {sentence}")


def work_now(work: Work) -> object:
    """Do a piece of work in this thread, without a way to stop it."""
    from napari_rada.control import RunControl
    from napari_rada.events import ignore

    return work(RunControl(), ignore)
