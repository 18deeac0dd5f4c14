"""Keeping the brush inside annotated slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_rada._napari.annotation import AnnotationModel
    from napari_rada.data.slices import AnnotatedSlice

STILL = "pan_zoom"


class BrushLock:
    """While it is on, the layer's painting tools work in listed slices only.

    Outside them the tool is put down, and taken up again when the viewer comes back to a listed slice. Nothing else
    of the layer is changed: its history stays, so that Ctrl+Z goes on working.
    """

    held_back = Signal()
    """Somebody took up a tool in a slice that is not listed."""

    def __init__(self) -> None:
        self._model: AnnotationModel | None = None
        self._plane: AnnotatedSlice | None = None
        self._on = False
        self._tool = STILL
        self._busy = False

    def set_on(self, on: bool) -> None:
        """Confine painting, or let it go."""
        self._on = on
        self._apply()

    def set_model(self, model: AnnotationModel | None) -> None:
        """Guard another layer; the one before gets its tool back."""
        if self._model is not None:
            self._model.layer.events.mode.disconnect(self._on_mode_changed)
            self._model.changed.disconnect(self._apply)
            self._take_up()
        self._model, self._tool = model, STILL
        if model is not None:
            model.layer.events.mode.connect(self._on_mode_changed)
            model.changed.connect(self._apply)
        self._apply()

    def set_plane(self, plane: AnnotatedSlice | None) -> None:
        """Follow the viewer to another slice."""
        self._plane = plane
        self._apply()

    def _confined(self) -> bool:
        listed = [row.plane for row in self._model.rows] if self._model else []
        return self._on and self._plane not in listed

    def _apply(self) -> None:
        if self._model is None:
            return
        if not self._confined():
            self._take_up()
        elif self._layer_mode() not in (STILL, "transform"):
            self._tool = self._layer_mode()
            self._set_mode(STILL)

    def _take_up(self) -> None:
        if self._model is not None and self._tool != STILL and self._layer_mode() == STILL:
            self._set_mode(self._tool)
        self._tool = STILL

    def _on_mode_changed(self, event: object = None) -> None:
        del event
        if self._busy or self._model is None:
            return
        if self._confined() and self._layer_mode() not in (STILL, "transform"):
            self._apply()
            self.held_back.emit()

    def _layer_mode(self) -> str:
        assert self._model is not None
        layer: Labels = self._model.layer
        return str(layer.mode)

    def _set_mode(self, mode: str) -> None:
        assert self._model is not None
        self._busy = True
        try:
            self._model.layer.mode = mode
        finally:
            self._busy = False
