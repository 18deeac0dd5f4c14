"""The class table of one Labels layer, kept in step with the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_rada._qt.class_table import ClassTable
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_rada._napari.classes import ClassModel


class ClassPanel(QWidget):
    """Shows a `ClassModel` and writes to it what the user asks for."""

    changed = Signal()
    """The classes of the layer are others than before: their names, prompts, colours, or which of them are painted."""
    refused = Signal(str)
    """What was asked for cannot be done; the sentence says why."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: ClassModel | None = None
        self.table = ClassTable()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        self.table.chosen.connect(lambda label: self._ask(lambda m: m.select(label)))
        self.table.renamed.connect(lambda label, name: self._ask(lambda m: m.describe(label, name=name)))
        self.table.prompted.connect(lambda label, text: self._ask(lambda m: m.describe(label, prompt=text)))
        self.table.coloured.connect(lambda label, colour: self._ask(lambda m: m.set_colour(label, colour)))
        self.table.addRequested.connect(self._on_add_requested)
        self.table.removeRequested.connect(lambda label: self._ask(lambda m: m.remove(label)))

    def set_model(self, model: ClassModel | None) -> None:
        """Show the classes of another layer."""
        self.shut()
        self._model = model
        if model is not None:
            model.changed.connect(self._on_changed)
            model.layer.events.selected_label.connect(self._on_label_selected)
        self._draw()

    def shut(self) -> None:
        """Let go of the layer; what is shown stays, as widgets that are being deleted bear no change."""
        if self._model is not None:
            self._model.changed.disconnect(self._on_changed)
            self._model.layer.events.selected_label.disconnect(self._on_label_selected)
        self._model = None

    def _draw(self) -> None:
        self.table.set_data(self._model.rows if self._model else ())
        if self._model is not None:
            self.table.setValue(int(self._model.layer.selected_label))

    def _ask(self, command: Callable[[ClassModel], object]) -> None:
        if self._model is None:
            return
        try:
            command(self._model)
        except InputError as error:
            self.refused.emit(str(error))
            self._draw()

    def _on_changed(self) -> None:
        self._draw()
        self.changed.emit()

    def _on_add_requested(self) -> None:
        def add(model: ClassModel) -> None:
            model.layer.selected_label = model.add()

        self._ask(add)

    def _on_label_selected(self, event: object = None) -> None:
        del event
        if self._model is not None:
            self.table.setValue(int(self._model.layer.selected_label))
