"""What a prediction adds to the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_rada._napari.layers import DISAGREEMENT, MASK, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT_TIPS = {
    MASK: "The label of every voxel",
    "probability": "How sure the three networks are of each class, 0 to 1",
    DISAGREEMENT: "How much the three networks contradict each other, 0 to 1",
}


class OutputChoice(QWidget):
    """Choose what is added to the viewer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.boxes = {name: QCheckBox(name.capitalize()) for name in OUTPUTS}
        for name, box in self.boxes.items():
            box.setToolTip(OUTPUT_TIPS[name])
            layout.addWidget(box)
        self.setValue((MASK,))

    def value(self) -> tuple[str, ...]:
        """Return the outputs that are ticked."""
        return tuple(name for name, box in self.boxes.items() if box.isChecked())

    def setValue(self, outputs: Sequence[str]) -> None:
        """Tick exactly these outputs."""
        for name, box in self.boxes.items():
            box.setChecked(name in outputs)
