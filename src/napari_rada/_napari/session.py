"""What the dock widgets of one viewer share: runs, settings, and annotation and classes of each Labels layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_rada._napari.annotation import AnnotationModel
from napari_rada._napari.classes import ClassModel
from napari_rada._napari.layers import annotated_slices, lies_on, open_images
from napari_rada._napari.pairing import brush_layer, image_of, paintable

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_rada.config import RunConfig


@dataclass(frozen=True)
class KnownRun:
    """A run folder that can predict."""

    path: Path
    label: str


class Session:
    """Shared state of one viewer.

    `runs` are the runs that can predict, `config` is what the Train dock shows (None until it was opened), `run_dir`
    is the folder of the run that was started or loaded last.
    """

    runs_changed = Signal()
    """A run was added; the newest is last."""

    config_changed = Signal()
    """`config` is another one."""

    annotation_changed = Signal()
    """The annotated slices of some Labels layer changed."""

    def __init__(self) -> None:
        self.runs: tuple[KnownRun, ...] = ()
        self.config: RunConfig | None = None
        self.run_dir: Path | None = None
        self._annotations: WeakKeyDictionary[Labels, AnnotationModel] = WeakKeyDictionary()
        self._classes: WeakKeyDictionary[Labels, ClassModel] = WeakKeyDictionary()

    def add_run(self, path: Path, label: str) -> None:
        """Remember a run as the newest; a run known already moves to the end."""
        self.runs = (*(run for run in self.runs if run.path != path), KnownRun(path, label))
        self.runs_changed.emit()

    def set_config(self, config: RunConfig) -> None:
        """Remember the settings that the Train dock shows, for whoever computes with them."""
        if config != self.config:
            self.config = config
            self.config_changed.emit()

    def annotation(self, layer: Labels) -> AnnotationModel:
        """Return the one annotation model of a layer."""
        if layer not in self._annotations:
            model = AnnotationModel(layer)
            model.changed.connect(self._on_annotation_changed)
            self._annotations[layer] = model
        return self._annotations[layer]

    def classes(self, layer: Labels) -> ClassModel:
        """Return the one model of a layer's classes."""
        if layer not in self._classes:
            self._classes[layer] = ClassModel(layer, self.annotation(layer))
        return self._classes[layer]

    def labels_on(self, viewer: ViewerModel, image: Image) -> Labels | None:
        """Return the annotation to use on an image: one that belongs to it, or one that belongs to no other.

        One with annotated slices comes before one without, then one that belongs to it before one that may not, then
        the one that is painted in, then that with most slices.
        """
        images, brush = open_images(viewer), brush_layer(viewer)
        owners = {layer: image_of(layer, images) for layer in paintable(viewer) if lies_on(image, layer)}
        fitting = [layer for layer, owner in owners.items() if owner in (image, None)]

        def rank(layer: Labels) -> tuple[bool, bool, bool, int]:
            count = len(annotated_slices(layer))
            return count > 0, owners[layer] is image, layer is brush, count

        return max(fitting, key=rank, default=None)

    def _on_annotation_changed(self) -> None:
        self.annotation_changed.emit()


_sessions: WeakKeyDictionary[ViewerModel, Session] = WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """Return the session of a viewer, the same for every widget in it.

    napari hands every dock a proxy of its own, which dies with the dock; the viewer behind them is one.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _sessions:
        _sessions[viewer] = Session()
    return _sessions[viewer]
