"""Three buttons that turn the viewer: axial, coronal, sagittal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget

from napari_rada._qt.shortcuts import PLANES, with_key
from napari_rada.data.grid import PLANE_NAMES

if TYPE_CHECKING:
    from napari_rada.data.grid import Grid


class PlaneButtons(QWidget):
    """Choose the array axis to slice through, by the name of the plane."""

    valueChanged = Signal(int)
    """The user asked for the plane perpendicular to this array axis."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self._axes = dict(zip(reversed(PLANE_NAMES), range(3), strict=True))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.buttons: dict[str, QPushButton] = {}
        for number, name in enumerate(self._axes):
            button = QPushButton(name.capitalize())
            button.setCheckable(True)
            button.clicked.connect(lambda _checked=False, name=name: self._on_clicked(name))
            self._group.addButton(button, number)
            self.buttons[name] = button
            layout.addWidget(button)

    def value(self) -> int | None:
        """Return the array axis of the pressed button, None if none is."""
        return next((self._axes[name] for name, button in self.buttons.items() if button.isChecked()), None)

    def setValue(self, axis: int | None) -> None:
        """Press the button of an array axis, or none; emits nothing."""
        self._group.setExclusive(False)
        for name, button in self.buttons.items():
            button.setChecked(self._axes[name] == axis)
        self._group.setExclusive(True)

    def set_data(self, grid: Grid | None) -> None:
        """Name the array axes after the grid's planes; without a grid nothing can be pressed."""
        self.setEnabled(grid is not None)
        if grid is not None:
            self._axes = {name: grid.axis_of_plane(name) for name in self.buttons}
        for name, button in self.buttons.items():
            button.setToolTip(with_key(f"Turn the viewer to {name} slices", PLANES[self._axes[name]]))

    def _on_clicked(self, name: str) -> None:
        self.valueChanged.emit(self._axes[name])
