"""The live plot: losses of the three networks and, once it is known, Dice on held-out annotated voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyqtgraph as pg
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_rada._napari.history import NETWORKS, History
from napari_rada._qt.curve_plot import CurvePlot
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada._napari.history import LossKind
    from napari_rada._qt.theme import Colours

LOSS_HEIGHT, DICE_HEIGHT = 200, 100
RATES: dict[Literal["beta", "learning_rate"], str] = {"beta": "β", "learning_rate": "Learning rate"}
SIGNS = (("o", "●"), ("t1", "▲"), ("s", "■"))
"""What tells the networks apart without their colours, in the plot and in its legend."""
SIGN_SIZE, SIGNS_SHOWN = 6, 5
"""Pixels of a sign, and about how many there are on a curve: dashes are lost in a curve that goes up and down."""
KINDS: tuple[LossKind, ...] = ("supervised", "cross")


class LossPlot(QWidget):
    """One curve per network and loss kind on a logarithmic axis; under it the Dice.

    Each part is hidden until there is something to see in it; β and the learning rate until they are asked for.
    """

    refused = Signal(str)
    """The plot could not be saved; the sentence says why."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.losses = CurvePlot(LOSS_HEIGHT, log=True)
        self.dice = CurvePlot(DICE_HEIGHT)
        self.dice.box.setXLink(self.losses.box)
        self.dice.box.setLimits(yMin=-0.02, yMax=1.02, minYRange=0.04)  # a point at 0 or 1 is seen whole
        self.dice.hide()
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.dice_caption = QLabel()
        self.dice_caption.setWordWrap(True)
        self.dice_caption.hide()
        self.curves: dict[tuple[LossKind, int], pg.PlotDataItem] = {
            (kind, network): self.losses.add_curve() for kind in KINDS for network in range(NETWORKS)
        }
        self.signs = [
            self.losses.add_curve(pen=None, symbol=symbol, symbolSize=SIGN_SIZE, symbolPen=None) for symbol, _ in SIGNS
        ]
        self.dice_curve = self.dice.add_curve(antialias=True, symbol="o", symbolSize=5)
        self.propagation_line = self.dice.add_level()
        self.rates = {kind: CurvePlot(DICE_HEIGHT, log=kind == "learning_rate") for kind in RATES}
        self.rate_curves = {kind: plot.add_curve() for kind, plot in self.rates.items()}
        self.rate_boxes = {kind: QCheckBox(label) for kind, label in RATES.items()}
        self.save_button = QPushButton("Save plot…")
        self.save_button.setToolTip("Save the curves as a PNG picture")
        self._history = History()
        row = QHBoxLayout()
        for box in self.rate_boxes.values():
            row.addWidget(box)
            box.toggled.connect(lambda _on: self._draw_rates())
        row.addWidget(self.save_button)
        self.save_button.clicked.connect(lambda: self._on_save_clicked())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in (self.legend, self.losses, self.dice_caption, self.dice, *self.rates.values()):
            layout.addWidget(widget)
        layout.addLayout(row)
        for plot in self.rates.values():
            plot.box.setXLink(self.losses.box)
            plot.hide()
        self.hide()

    def set_data(self, history: History) -> None:
        """Draw a history; call it a few times a second at most."""
        self._history = history
        signed: list[list[tuple[float, float]]] = [[] for _sign in SIGNS]
        for (kind, network), curve in self.curves.items():
            x, y = history.losses(kind, network)
            y = np.where(y > 0, y, np.nan)
            curve.setData(x, y)
            step = max(1, len(x) // SIGNS_SHOWN)
            between = slice(network * step // NETWORKS, None, step)  # signs of several networks would cover each other
            signed[network] += [place for place in zip(x[between], y[between], strict=True) if place[1] > 0]
        for signs, places in zip(self.signs, signed, strict=True):
            signs.setData(*np.array(places).reshape(-1, 2).T)
        if history.steps:
            last = history.steps[-1]
            told = ", ".join(f"{loss:.3g}" for loss in last.supervised)
            self.losses.setAccessibleName(f"Supervised losses of the networks, iteration {last.iteration}: {told}")
        if history.validations:
            self._draw_dice(history)
        self._draw_rates()
        self.setVisible(bool(history.steps))
        for widget in (self.dice, self.dice_caption):
            widget.setVisible(bool(history.validations))

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        for plot in (self.losses, self.dice, *self.rates.values()):
            plot.setColours(colours)
        for curve in self.rate_curves.values():
            curve.setPen(pg.mkPen(colours.text, width=1))
        for (kind, network), curve in self.curves.items():
            curve.setPen(_pen(colours.networks[network], kind))
        for signs, colour in zip(self.signs, colours.networks, strict=True):
            signs.setSymbolBrush(colour)
        self.dice_curve.setPen(pg.mkPen(colours.text, width=1.5))
        self.dice_curve.setSymbolBrush(colours.text)
        self.dice_curve.setSymbolPen(None)
        self.propagation_line.setPen(pg.mkPen(colours.muted, style=Qt.PenStyle.DashLine))
        self.legend.setText(_legend(colours))

    def save(self, path: Path | str) -> None:
        """Save the curves as they are shown; raises `InputError` if the picture cannot be written."""
        if not self.grab().save(str(path)):
            raise InputError(f"{path} cannot be written; name a .png file in a folder that can.")

    def _on_save_clicked(self) -> None:
        chosen, _kind = QFileDialog.getSaveFileName(self, "Save the plot", "training.png", "PNG (*.png)")
        if not chosen:
            return
        try:
            self.save(chosen)
        except InputError as error:
            self.refused.emit(str(error))

    def _draw_rates(self) -> None:
        for kind, plot in self.rates.items():
            plot.setVisible(self.rate_boxes[kind].isChecked())
            if self.rate_boxes[kind].isChecked():
                self.rate_curves[kind].setData(*self._history.rate(kind))

    def _draw_dice(self, history: History) -> None:
        last = history.validations[-1]
        self.dice_curve.setData(*history.dice())
        self.propagation_line.setValue(last.propagation_dice)
        best = max(validation.dice for validation in history.validations)
        self.dice_caption.setText(
            f"Held-out Dice {last.dice:.3f}, best {best:.3f}; propagation alone {last.propagation_dice:.3f} (dashed)"
        )


def _pen(colour: str, kind: LossKind) -> Any:
    style = Qt.PenStyle.SolidLine if kind == "supervised" else Qt.PenStyle.DotLine
    return pg.mkPen(colour, width=1.5, style=style)


def _legend(colours: Colours) -> str:
    signs = zip(colours.networks, SIGNS, strict=True)
    networks = " ".join(f'<span style="color: {c}">{sign}</span> {n + 1}' for n, (c, (_, sign)) in enumerate(signs))
    return f"Loss of network {networks}<br>supervised solid, cross dotted"
