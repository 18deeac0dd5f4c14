"""A field for a number."""

from __future__ import annotations

from qtpy.QtWidgets import QDoubleSpinBox, QWidget


class NumberBox(QDoubleSpinBox):
    """Takes a number with up to so many digits behind the point, and shows those that it has."""

    def __init__(self, digits: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setDecimals(digits)

    def stepBy(self, steps: int) -> None:
        """Go up or down; a step does not end on a least number that is a fraction and only keeps zero out."""
        before = self.value()
        super().stepBy(steps)
        if 0.0 < self.value() == self.minimum() < 1.0:
            self.setValue(min(before, self.singleStep()))

    def textFromValue(self, value: float) -> str:
        """Write a number without zeros at its end."""
        text, point = super().textFromValue(value), self.locale().decimalPoint()
        return text.rstrip("0").removesuffix(point) if point in text else text
