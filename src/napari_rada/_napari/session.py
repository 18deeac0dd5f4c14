"""What the dock widgets of one viewer share: the runs of this session and the annotation of each Labels layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_rada._napari.annotation import AnnotationModel

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Labels


@dataclass(frozen=True)
class KnownRun:
    """A run folder that can predict."""

    path: Path
    label: str


class Session:
    """Shared state of one viewer."""

    runs_changed = Signal()
    """A run was added; the newest is last."""

    annotation_changed = Signal()
    """The annotated slices of some Labels layer changed."""

    def __init__(self) -> None:
        self.runs: tuple[KnownRun, ...] = ()
        self._annotations: WeakKeyDictionary[Labels, AnnotationModel] = WeakKeyDictionary()

    def add_run(self, path: Path, label: str) -> None:
        """Remember a run as the newest; a run known already moves to the end."""
        self.runs = (*(run for run in self.runs if run.path != path), KnownRun(path, label))
        self.runs_changed.emit()

    def annotation(self, layer: Labels) -> AnnotationModel:
        """Return the one annotation model of a layer."""
        if layer not in self._annotations:
            model = AnnotationModel(layer)
            model.changed.connect(self._on_annotation_changed)
            self._annotations[layer] = model
        return self._annotations[layer]

    def _on_annotation_changed(self) -> None:
        self.annotation_changed.emit()


_sessions: WeakKeyDictionary[ViewerModel, Session] = WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """Return the session of a viewer, the same for every widget in it."""
    if viewer not in _sessions:
        _sessions[viewer] = Session()
    return _sessions[viewer]
