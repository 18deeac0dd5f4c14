"""Line charts as SVG."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from napari_rada.report.chart import Series, _ticks, line_chart


def polylines(chart: str) -> list[list[tuple[float, float]]]:
    svg = ET.fromstring(chart[chart.index("<svg") : chart.index("</svg>") + 6])  # noqa: S314 - our own text
    lines = [line.get("points") or "" for line in svg.iter("polyline")]
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in lines]


def test_a_curve_runs_from_left_to_right_and_higher_values_lie_higher():
    ((first, second, third),) = polylines(line_chart([Series("a", [1, 2, 3], [1, 5, 3], "#000")], "t"))
    assert first[0] < second[0] < third[0]
    assert second[1] < third[1] < first[1]


def test_what_cannot_be_drawn_is_skipped():
    series = [Series("a", [1, 2, 3], [0.0, math.nan, 2.0], "#000"), Series("b", [1, 2], [1.0, 10.0], "#111")]
    one, two = polylines(line_chart(series, "t", log=True))
    assert len(one) == 1
    assert len(two) == 2
    assert line_chart([Series("a", [1], [0.0], "#000")], "t", log=True) == ""
    assert line_chart([], "t") == ""


def test_text_is_escaped_and_one_value_makes_a_chart():
    chart = line_chart([Series("<b>", [1], [2.0], "#000", dashed=True)], "a & b")
    assert "&lt;b&gt;" in chart
    assert "a &amp; b" in chart
    assert "<circle" in chart


@pytest.mark.parametrize(
    ("limits", "log", "expected"),
    [
        ((0, 10), False, [0, 2, 4, 6, 8, 10]),
        ((0.1, 0.32), False, [0.1, 0.15, 0.2, 0.25, 0.3]),
        ((-1, 0), True, [0.1, 0.2, 0.5, 1]),
    ],
)
def test_ticks_are_round(limits, log, expected):
    assert _ticks(*limits, log=log) == pytest.approx(expected)
