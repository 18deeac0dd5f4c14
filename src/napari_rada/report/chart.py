"""Line charts as SVG text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 30


@dataclass(frozen=True)
class Series:
    """A curve; values that cannot be drawn (NaN, or 0 on a logarithmic axis) are skipped."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dashed: bool = False


def line_chart(series: Sequence[Series], title: str, *, log: bool = False) -> str:
    """Draw curves on shared axes; an empty text if there is nothing to draw."""
    drawn = [
        (s, [(x, y) for x, y in zip(s.x, s.y, strict=True) if math.isfinite(y) and (y > 0 or not log)]) for s in series
    ]
    points = [point for _s, found in drawn for point in found]
    if not points:
        return ""
    x0, x1 = _widened(min(x for x, _ in points), max(x for x, _ in points))
    values = [math.log10(y) if log else y for _, y in points]
    y0, y1 = _widened(min(values), max(values))

    def place(x: float, y: float) -> tuple[float, float]:
        height = math.log10(y) if log else y
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (height - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in _ticks(y0, y1, log=log):
        _, height = place(x0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    base = points[0][1]
    for value in _ticks(x0, x1, log=False):
        across, _ = place(value, base)
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{value:g}</text>')
    for one, found in drawn:
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in found))
        dash = ' stroke-dasharray="4 3"' if one.dashed else ""
        parts.append(
            f'<polyline points="{line}" stroke="{one.colour}"{dash}><title>{escape(one.name)}</title></polyline>'
        )
        if len(found) == 1:
            across, height = place(*found[0])
            parts.append(f'<circle cx="{across:.1f}" cy="{height:.1f}" r="3" fill="{one.colour}"/>')
    legend = " ".join(
        f'<span style="color:{s.colour}">{"┅" if s.dashed else "━"} {escape(s.name)}</span>' for s in series
    )
    return f"<figure><figcaption>{escape(title)}<br>{legend}</figcaption>{''.join(parts)}</svg></figure>"


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round numbers between two limits; on a logarithmic axis the limits are exponents."""
    if log:
        steps = (1, 2, 5) if high - low <= 2 else (1,)
        found = [step * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for step in steps]
        return [value for value in found if low <= math.log10(value) <= high]
    raw = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= raw)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]
