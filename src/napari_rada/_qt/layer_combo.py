"""A choice among the viewer's layers of one kind, kept in step with the layer list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from napari_rada._napari.layers import is_output
from napari_rada._qt.keys import QuietCombo

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image, Labels


class LayerCombo(QuietCombo):
    """Choose an Image or a Labels layer.

    A layer that appears when none is chosen is chosen; outputs of this plugin are offered, but chosen by themselves
    only where nothing else is there.

    Parameters
    ----------
    fits
        If given, only layers of which it is true, and no outputs, are chosen by themselves; there may be none.
    first
        The layer to begin with, where it is not the topmost one.
    """

    valueChanged = Signal(object)
    """Another layer, or None, is chosen."""

    def __init__(
        self,
        viewer: ViewerModel,
        kind: type[Image] | type[Labels],
        *,
        empty: str = "",
        optional: bool = False,
        fits: Callable[[Any], bool] | None = None,
        first: Any = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._kind = kind
        self._empty = empty
        self._optional = optional
        self._fits = fits
        self._layers: list[Any] = []
        self._value: Any = None
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        events = viewer.layers.events
        self._emitters = [events.inserted, events.removed, events.reordered]
        for emitter in self._emitters:
            emitter.connect(self._on_layers_changed)
        self.currentIndexChanged.connect(self._on_index_changed)
        self._on_layers_changed()
        if first is not None:
            self.setValue(first)

    def value(self) -> Any:
        """Return the chosen layer or None."""
        return self._value

    def setValue(self, layer: Any) -> None:
        """Choose a layer of the list, or None where that is offered."""
        choices = self._choices()
        if layer not in choices:
            raise ValueError(f"{layer} is not a {self._kind.__name__} layer of this viewer")
        self.setCurrentIndex(choices.index(layer))

    def shut(self) -> None:
        """Let go of the viewer."""
        for emitter in self._emitters:
            emitter.disconnect(self._on_layers_changed)
        for layer in self._layers:
            layer.events.name.disconnect(self._on_layers_changed)
        self._layers, self._value = [], None

    def _choices(self) -> list[Any]:
        return [None, *self._layers] if self._optional or not self._layers else list(self._layers)

    def _on_layers_changed(self, event: object = None) -> None:
        del event
        for layer in self._layers:
            layer.events.name.disconnect(self._on_layers_changed)
        self._layers = [layer for layer in reversed(self._viewer.layers) if isinstance(layer, self._kind)]
        for layer in self._layers:
            layer.events.name.connect(self._on_layers_changed)
        self.blockSignals(True)
        self.clear()
        for choice in self._choices():
            self.addItem(self._empty if choice is None else str(choice.name))
        choices, best = self._choices(), self._best()
        self.setCurrentIndex(choices.index(best) if best in choices else -1)
        self.blockSignals(False)
        self._on_index_changed()

    def _best(self) -> Any:
        """Return the present choice while it is there, else the topmost layer that may be chosen by itself."""
        if self._value in self._layers or self._optional:
            return self._value if self._value in self._layers else None
        own = [layer for layer in self._layers if not is_output(layer)]
        if self._fits is not None:
            return next(filter(self._fits, own), None)
        return next(iter(own or self._layers), None)

    def _on_index_changed(self, index: int = 0) -> None:
        del index
        choices = self._choices()
        value = choices[self.currentIndex()] if 0 <= self.currentIndex() < len(choices) else None
        self.setToolTip("" if value is None else str(value.name))
        if value is not self._value:
            self._value = value
            self.valueChanged.emit(value)
