"""A dot plot as SVG text: a dot per scan, a bar at the mean, one line per group and series. Needs no plot library."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Told apart by people who are colour-blind, too (Okabe and Ito)."""
LINE, GAP, TOP, LEFT, WIDTH, RIGHT = 18, 12, 34, 190, 460, 20
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)


def dot_plot(values: Sequence[tuple[str, str, float]], label: str) -> str:
    """Draw values between 0 and 1.

    Parameters
    ----------
    values
        (group, series, value), for example data set, method and Dice of a scan.
    label
        What the axis shows.
    """
    groups = list(dict.fromkeys(group for group, _, _ in values))
    series = list(dict.fromkeys(name for _, name, _ in values))
    low, step = _axis([value for _, _, value in values])
    lines, y = [], float(TOP)
    for group in groups:
        lines.append(text_at(LEFT - 10, y + 4, group, "end"))
        for name in series:
            found = [value for g, s, value in values if (g, s) == (group, name)]
            if found:
                lines += _dots(found, y, low, COLOURS[series.index(name) % len(COLOURS)])
                y += LINE
        y += GAP
    legend = _legend(series, y + 24)
    height = y + 40 + LINE * len(series)
    frame = _grid(low, step, TOP - LINE / 2, y - GAP, label)
    return drawing(LEFT + WIDTH + RIGHT, height, [*frame, *lines, *legend])


def drawing(width: float, height: float, parts: Sequence[str]) -> str:
    """Put the parts of a picture onto a white sheet."""
    size = f'width="{width:.0f}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _axis(values: Sequence[float]) -> tuple[float, float]:
    """Return the lower end and the distance of the grid lines; the upper end is 1."""
    least = max(0.0, min(values, default=0.0))
    step = next((step for step in STEPS if (1.0 - least) / step <= 8), STEPS[-1])
    return max(0.0, math.floor(least / step) * step), step


def _x(value: float, low: float) -> float:
    return LEFT + WIDTH * (value - low) / (1.0 - low or 1.0)


def _dots(values: Sequence[float], y: float, low: float, colour: str) -> list[str]:
    mean = _x(sum(values) / len(values), low)
    dots = [f'<circle cx="{_x(v, low):.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" opacity="0.5"/>' for v in values]
    return [*dots, f'<rect x="{mean - 1.5:.1f}" y="{y - 7:.1f}" width="3" height="14" fill="{colour}"/>']


def _grid(low: float, step: float, top: float, bottom: float, label: str) -> list[str]:
    lines = []
    for number in range(round((1.0 - low) / step) + 1):
        value = low + number * step
        x = _x(value, low)
        lines.append(f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="#ddd"/>')
        lines.append(text_at(x, bottom + 14, f"{value:.2f}", "middle"))
    return [*lines, text_at(LEFT + WIDTH, top - 6, f"{label}; bar: mean", "end")]


def _legend(series: Sequence[str], y: float) -> list[str]:
    lines = []
    for number, name in enumerate(series):
        at = y + number * LINE
        colour = COLOURS[number % len(COLOURS)]
        lines.append(f'<circle cx="{LEFT + 5}" cy="{at - 4:.1f}" r="4" fill="{colour}"/>')
        lines.append(text_at(LEFT + 16, at, name, "start"))
    return lines


def text_at(x: float, y: float, text: str, anchor: str) -> str:
    """Write text; `anchor` is the part of it that lies at x: start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
