"""Log-log curves as SVG text: a panel per quantity and what it is measured against. Needs no plot library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from napari_rada.evaluation.benchmark.plot import COLOURS, drawing, text_at

if TYPE_CHECKING:
    from collections.abc import Sequence

Series: TypeAlias = "tuple[str, str, str, Sequence[float], Sequence[float | None]]"
"""What it is measured against, the quantity, the name, and the points; values that are not positive are left out."""
Range: TypeAlias = tuple[float, float]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 240, 60, 20, 30, 44
LINE = 18
TICKS = (1, 2, 5)
MOST_TICKS = 8


def log_plot(series: Sequence[Series]) -> str:
    """Draw curves in panels: one row per what they are measured against, one column per quantity.

    A dashed line in every panel grows as fast as what is measured against.
    """
    rows = list(dict.fromkeys(against for against, *_ in series))
    columns = list(dict.fromkeys(quantity for _, quantity, *_ in series))
    names = list(dict.fromkeys(name for _, _, name, *_ in series))
    parts: list[str] = []
    for row, against in enumerate(rows):
        for column, quantity in enumerate(columns):
            found = [(name, _points(x, y)) for a, q, name, x, y in series if (a, q) == (against, quantity)]
            curves = [(COLOURS[names.index(name) % len(COLOURS)], points) for name, points in found if points]
            corner = (column * (LEFT + WIDTH + RIGHT) + LEFT, row * (TOP + HEIGHT + BOTTOM) + TOP)
            parts += _panel(corner, against, quantity, curves)
    bottom = len(rows) * (TOP + HEIGHT + BOTTOM)
    for number, name in enumerate(names):
        at, colour = bottom + LINE * (number + 1), COLOURS[number % len(COLOURS)]
        parts += [f'<circle cx="{LEFT}" cy="{at - 4}" r="4" fill="{colour}"/>', text_at(LEFT + 12, at, name, "start")]
    at = bottom + LINE * (len(names) + 1)
    parts.append(text_at(LEFT + 12, at, "dashed: as fast as what it is measured against", "start"))
    return drawing(len(columns) * (LEFT + WIDTH + RIGHT), at + LINE, parts)


def _points(x: Sequence[float], y: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in zip(x, y, strict=True) if b is not None and b > 0]


def _panel(
    corner: tuple[float, float],
    against: str,
    quantity: str,
    curves: Sequence[tuple[str, Sequence[tuple[float, float]]]],
) -> list[str]:
    left, top = corner
    across = _range([x for _, points in curves for x, _ in points])
    up = _range([y for _, points in curves for _, y in points])

    def place(x: float, y: float) -> str:
        return f"{left + WIDTH * _share(x, across):.1f},{top + HEIGHT * (1 - _share(y, up)):.1f}"

    lines = [text_at(left, top - 10, quantity, "start"), *_grid(corner, against, across, up)]
    if curves:
        steps = min(across[1] / across[0], up[1] / up[0])
        start, end = place(across[0], up[0]), place(across[0] * steps, up[0] * steps)
        lines.append(f'<polyline points="{start} {end}" fill="none" stroke="#999" stroke-dasharray="4 4"/>')
    for colour, points in curves:
        places = [place(x, y) for x, y in points]
        lines.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        dots = [spot.split(",") for spot in places]
        lines += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in dots]
    return lines


def _range(values: Sequence[float]) -> Range:
    """Return the ends of an axis; a single value gets some room."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    return (low, high) if high > low else (low / 2, high * 2)


def _share(value: float, ends: Range) -> float:
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


def _grid(corner: tuple[float, float], against: str, across: Range, up: Range) -> list[str]:
    left, top = corner
    lines = []
    for value in _ticks(across):
        x = left + WIDTH * _share(value, across)
        lines.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + HEIGHT}" stroke="#ddd"/>')
        lines.append(text_at(x, top + HEIGHT + 14, _short(value), "middle"))
    for value in _ticks(up):
        y = top + HEIGHT * (1 - _share(value, up))
        lines.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(text_at(left - 6, y + 4, _short(value), "end"))
    return [*lines, text_at(left + WIDTH, top + HEIGHT + 30, against, "end")]


def _ticks(ends: Range) -> list[float]:
    """1, 2, 5, 10, … within an axis; powers of ten alone where these are many."""
    powers = range(math.floor(math.log10(ends[0])), math.ceil(math.log10(ends[1])) + 1)
    found = [factor * 10.0**power for power in powers for factor in TICKS]
    inside = [value for value in found if ends[0] <= value <= ends[1]]
    whole = [10.0**power for power in powers if ends[0] <= 10.0**power <= ends[1]]
    return whole if len(inside) > MOST_TICKS else inside


def _short(value: float) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
