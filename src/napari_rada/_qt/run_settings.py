"""The few settings of a run that a person chooses in the Train dock, and how they become a `RunConfig`."""

from __future__ import annotations

import os
from typing import Any, get_args

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QWidget

from napari_rada.config import PresetName, RunConfig

PRESET_LABELS = {
    "quick": "Quick (minutes on a CPU)",
    "standard": "Standard (one GPU)",
    "paper": "Paper (as published, one GPU)",
}
ITERATIONS, MINUTES = "iterations", "minutes"


def viewer_threads() -> int:
    """CPU threads for a computation beside a window: all cores but one."""
    return max(1, (os.cpu_count() or 2) - 1)


def viewer_config(preset: str, device: str, length: dict[str, Any]) -> RunConfig:
    """Return the configuration of a run started from the viewer; raises `ConfigError`."""
    base = RunConfig.from_preset(preset, device=device, threads=viewer_threads())
    return base.with_settings(length)


class PresetCombo(QComboBox):
    """Choose a preset."""

    valueChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        for name in get_args(PresetName):
            self.addItem(PRESET_LABELS.get(name, name), name)
        self.currentIndexChanged.connect(lambda _index: self.valueChanged.emit(self.value()))

    def value(self) -> str:
        """Return the preset's name."""
        return str(self.currentData())

    def setValue(self, name: str) -> None:
        """Choose a preset by name."""
        self.setCurrentIndex(self.findData(name))


class RunLength(QWidget):
    """How long to train: a number of iterations, or of minutes."""

    valueChanged = Signal(dict)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.amount = QDoubleSpinBox()
        self.amount.setMinimumWidth(70)
        self.unit = QComboBox()
        self.unit.addItems([ITERATIONS, MINUTES])
        self._amounts = {ITERATIONS: 1000.0, MINUTES: 5.0}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.amount, 1)
        layout.addWidget(self.unit, 1)
        self.unit.currentTextChanged.connect(self._on_unit_changed)
        self.amount.valueChanged.connect(self._on_amount_changed)
        self._on_unit_changed(ITERATIONS)

    def value(self) -> dict[str, Any]:
        """Return the settings that this length stands for."""
        if self.unit.currentText() == MINUTES:
            return {"training.minutes": self.amount.value()}
        return {"training.minutes": None, "training.iterations": int(self.amount.value())}

    def setValue(self, *, iterations: int | None = None, minutes: float | None = None) -> None:
        """Set the number of iterations, or the minutes, and switch to that unit."""
        unit = MINUTES if minutes is not None else ITERATIONS
        amount = minutes if minutes is not None else iterations
        assert amount is not None
        self._amounts[unit] = float(amount)
        self.unit.setCurrentText(unit)
        self.amount.setValue(float(amount))

    def set_data(self, config: RunConfig) -> None:
        """Take over the length of a preset."""
        self.setValue(iterations=config.training.iterations)
        if config.training.minutes is not None:
            self.setValue(minutes=config.training.minutes)

    def _on_unit_changed(self, unit: str) -> None:
        amount = self._amounts[unit]
        self.amount.blockSignals(True)
        self.amount.setDecimals(1 if unit == MINUTES else 0)
        self.amount.setRange(*((0.1, 10_000.0) if unit == MINUTES else (1.0, 1_000_000.0)))
        self.amount.setSingleStep(1.0 if unit == MINUTES else 100.0)
        self.amount.setValue(amount)
        self.amount.blockSignals(False)
        self.valueChanged.emit(self.value())

    def _on_amount_changed(self, amount: float) -> None:
        self._amounts[self.unit.currentText()] = amount
        self.valueChanged.emit(self.value())
