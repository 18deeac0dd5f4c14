"""A choice among the devices; those that cannot be used are greyed out and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QWidget

from napari_rada._napari.devices import AUTOMATIC
from napari_rada._qt.keys import QuietCombo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada._napari.devices import DeviceChoice


class DeviceCombo(QuietCombo):
    """Choose a device by the name that the configuration uses."""

    valueChanged = Signal(str)

    def __init__(self, preferred: str = AUTOMATIC.name, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._preferred = preferred
        self._choices: tuple[DeviceChoice, ...] = ()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.set_data([AUTOMATIC])
        self.currentIndexChanged.connect(lambda _index: self.valueChanged.emit(self.value()))

    def value(self) -> str:
        """Return the device's name in the configuration."""
        return self._choices[self.currentIndex()].name

    def setValue(self, name: str) -> None:
        """Choose a device by its name in the configuration."""
        self.setCurrentIndex([choice.name for choice in self._choices].index(name))

    def choose(self, name: str) -> None:
        """Choose a device if it is offered and can be used, else leave the choice to the program."""
        usable = [choice.name for choice in self._choices if not choice.unusable]
        self.setValue(name if name in usable else AUTOMATIC.name)

    def set_data(self, choices: Sequence[DeviceChoice]) -> None:
        """Offer other devices; the choice stays if it is among them."""
        before = self._choices[self.currentIndex()].name if self._choices else AUTOMATIC.name
        names = [choice.name for choice in choices]
        if self._preferred in [choice.name for choice in choices if not choice.unusable]:
            before, self._preferred = self._preferred, ""  # once: from then on the choice is the user's
        self.blockSignals(True)
        self.clear()
        self._choices = tuple(choices)
        for choice in choices:
            self.addItem(choice.label)
        model = self.model()
        assert isinstance(model, QStandardItemModel)
        for row, choice in enumerate(choices):
            if choice.unusable:
                item = model.item(row)
                assert item is not None
                item.setEnabled(False)
                self.setItemData(row, f"Cannot be used: {choice.unusable}.", Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(names.index(before) if before in names else 0)
        self.blockSignals(False)
        self.valueChanged.emit(self.value())
