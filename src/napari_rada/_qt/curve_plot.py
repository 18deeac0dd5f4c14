"""A small plot of curves on shared axes.

It is put together from pyqtgraph's parts: a whole `PlotItem` brings menus and control panels that are not wanted here
and that stay behind as windows without a parent when the dock is closed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_rada._qt.theme import Colours

AXIS_WIDTH = 40
MAX_DECADES = 3
"""Decades up to which ticks at 2 and 5 fit between those at 1."""


class CurvePlot(QWidget):
    """Curves over a horizontal axis; the vertical one is logarithmic if asked for."""

    def __init__(self, height: int, *, log: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._log = log
        self._view = pg.GraphicsLayoutWidget()
        self._view.setFixedHeight(height)
        self._view.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._view.ci.setContentsMargins(0, 4, 8, 0)
        self._view.ci.setSpacing(0)
        self.box = pg.ViewBox(enableMenu=False, enableMouse=False)
        self._left, self._bottom = pg.AxisItem("left"), pg.AxisItem("bottom")
        self._left.setWidth(AXIS_WIDTH)
        self._left.setLogMode(y=log)
        for axis in (self._left, self._bottom):
            axis.linkToView(self.box)
        if log:
            self.box.sigYRangeChanged.connect(self._on_range_changed)
        self._view.addItem(self._left, 0, 0)
        self._view.addItem(self.box, 0, 1)
        self._view.addItem(self._bottom, 1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._view)

    def add_curve(self, **settings: Any) -> pg.PlotDataItem:
        """Add an empty curve; update it with `setData`. Smooth edges (`antialias=True`) cost several times as much."""
        curve = pg.PlotDataItem(**{"antialias": False, **settings})
        curve.setLogMode(False, self._log)
        self.box.addItem(curve)
        return curve

    def add_level(self) -> pg.InfiniteLine:
        """Add a horizontal line; move it with `setValue`."""
        line = pg.InfiniteLine(angle=0)
        self.box.addItem(line)
        return line

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        self._view.setBackground(colours.background)
        for axis in (self._left, self._bottom):
            axis.setPen(colours.line)
            axis.setTextPen(colours.muted)

    def _on_range_changed(self, box: object, limits: tuple[float, float]) -> None:
        del box
        self._left.setTicks([log_ticks(*limits)])


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return the ticks of a logarithmic axis from 10**low to 10**high as (exponent, text): 1, 2, 5, 10 and so on."""
    steps = (1, 2, 5) if high - low <= MAX_DECADES else (1,)
    exponents = [(decade, step) for decade in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    ticks = [(decade + math.log10(step), f"{step * 10.0**decade:g}") for decade, step in exponents]
    return [(exponent, text) for exponent, text in ticks if low <= exponent <= high]
