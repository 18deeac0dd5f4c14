from __future__ import annotations

import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.plot import dot_plot
from napari_rada.evaluation.benchmark.report import insert_table, scans_csv, scans_table, summary_table, write_report
from napari_rada.evaluation.benchmark.results import Row
from napari_rada.evaluation.benchmark.summary import Spread, macro_means, summarise
from napari_rada.evaluation.metrics import ClassMetrics

if TYPE_CHECKING:
    from pathlib import Path


def row(dataset: str, scan: str, method: str, dice: float, seed: int = 0, hd95: float = 2.0) -> Row:
    classes = (ClassMetrics(1, "ball", dice, dice / 2, hd95, hd95 / 4),)
    return Row("t", dataset, scan, method, seed, classes, seconds=1.0, cpu_s=0.5, peak_gib=1.0)


ROWS = [
    row("A", "a1", "one", 0.8),
    row("A", "a1", "two", 0.7, seed=0),
    row("A", "a1", "two", 0.9, seed=1),
    row("A", "a2", "one", 0.6, hd95=math.inf),
    row("A", "a2", "two", 0.5, seed=0),
    row("A", "a2", "two", 0.5, seed=1),
    row("B", "b1", "one", 1.0),
]


def test_means_spreads_and_worst_cases() -> None:
    one, two, b = summarise(ROWS)
    assert one.dice == Spread(pytest.approx(0.7), pytest.approx(0.1))
    assert (one.worst, one.worst_scan, one.scans, one.seeds) == (0.6, "a2", 2, 1)
    assert (one.empty, one.hd95_mm) == (1, Spread(2.0, 0.0))
    assert one.seed_std is None
    assert two.seeds == 2
    assert two.seed_std == pytest.approx(0.05)
    assert b.dice.mean == 1.0


def test_a_class_without_distances_takes_none_from_the_others() -> None:
    empty = ClassMetrics(2, "cube", 0.0, 0.0, math.inf, math.inf)
    one, other = row("A", "a1", "one", 0.8, hd95=2.0), row("A", "a2", "one", 0.8, hd95=4.0)
    (found,) = summarise([replace(one, classes=(*one.classes, empty)), other])
    assert found.empty == 1
    assert found.dice.mean == pytest.approx(0.6)
    assert (found.hd95_mm, found.asd_mm) == (Spread(3.0, 1.0), Spread(0.75, 0.25))


def test_the_macro_mean_is_that_of_methods_that_did_every_set() -> None:
    assert macro_means(summarise(ROWS)) == {"one": pytest.approx(0.85)}
    assert macro_means(summarise(ROWS[:3])) == {}


def test_a_failure_is_no_zero_and_is_told() -> None:
    failed = replace(ROWS[0], classes=(), error="out of memory", scan="a9")
    (summary,) = summarise([ROWS[0], failed])
    assert (summary.failed, summary.dice.mean, summary.scans) == (1, 0.8, 2)
    assert "A, one: failed once;" in summary_table([summary])
    (nothing,) = summarise([failed, failed])
    assert "A, one: failed 2 times" in summary_table([nothing])
    assert "| A | one | 1 | - | - |" in summary_table([nothing])


def test_the_table_has_a_row_per_method_and_the_macro_mean() -> None:
    lines = summary_table(summarise(ROWS)).splitlines()
    assert lines[0].startswith("| data set | method | scans | Dice | worst |")
    assert lines[0].endswith("| over seeds |")
    assert lines[2].startswith("| A | one | 2 | 0.7000 ± 0.1000 | 0.6000 (a2) |")
    assert lines[3].startswith("| A | two | 2, 2 seeds | ")
    assert lines[5].startswith("| **macro mean** | one |  | **0.8500** |")
    assert {line.count("|") for line in lines[:6]} == {lines[0].count("|")}
    assert "once mask or reference was empty" in lines[7]


def test_scans_side_by_side() -> None:
    assert scans_table(ROWS).splitlines()[2:] == [
        "| A | a1 | 0.8000 | 0.8000 |",
        "| A | a2 | 0.6000 | 0.5000 |",
        "| B | b1 | 1.0000 | - |",
    ]


def test_a_bar_in_a_name_ends_no_cell() -> None:
    rows = [row("A|B", "a|1", "x|y", 0.8), row("C", "c", "x|y", 0.6)]
    for table in (summary_table(summarise(rows)), scans_table(rows)):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {lines[1].count("|")}
    assert r"| A\|B | x\|y | 1 | 0.8000 ± 0.0000 | 0.8000 (a\|1) |" in summary_table(summarise(rows))
    assert r"| **macro mean** | x\|y |" in summary_table(summarise(rows))
    assert r"| A\|B | a\|1 | 0.8000 |" in scans_table(rows)


def test_csv_has_a_line_per_class_and_columns_for_parts() -> None:
    with_parts = replace(ROWS[0], parts={"axis 0 alone": 0.25})
    lines = list(csv.DictReader(io.StringIO(scans_csv([with_parts, replace(ROWS[1], classes=(), error="broke")]))))
    assert lines[0]["dice"] == "0.8"
    assert lines[0]["dice of axis 0 alone"] == "0.25"
    assert (lines[1]["error"], lines[1]["dice"]) == ("broke", "")


def test_everything_is_written(tmp_path: Path) -> None:
    text = write_report(tmp_path, ROWS, {"split": "reported"}, notes=["Weights are random."])
    assert "Weights are random." in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["macro_mean_dice"] == {"one": pytest.approx(0.85)}
    assert report["rows"][3]["classes"][0]["hd95_mm"] is None
    assert report["table"] == text
    assert report["environment"]["torch"]
    assert (tmp_path / "report.md").read_text().startswith(text)
    ET.fromstring((tmp_path / "plot.svg").read_text())  # noqa: S314 - our own file


def test_the_plot_has_a_dot_per_value_within_the_frame() -> None:
    values = [("A & B", "one", 0.0), ("A & B", "one", 1.0), ("A & B", "two", 0.5), ("C", "two", 0.93)]
    drawing = ET.fromstring(dot_plot(values, "Dice"))  # noqa: S314 - our own text
    circles = [c for c in drawing.iter("{http://www.w3.org/2000/svg}circle") if c.get("opacity")]
    assert len(circles) == 4
    x = [float(circle.get("cx", "nan")) for circle in circles]
    assert x[1] - x[0] == pytest.approx(460)
    assert x[2] - x[0] == pytest.approx(230)
    assert "A & B" in {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert dot_plot([("A", "one", 1.0)], "Dice").count("<circle") == 2


def test_a_page_gets_its_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin x -->\nold\n<!-- end x -->\nafter\n")
    insert_table(page, "x", r"| \1 |")
    assert page.read_text() == "before\n<!-- begin x -->\n| \\1 |\n<!-- end x -->\nafter\n"
    with pytest.raises(InputError, match=re.escape("<!-- begin y -->")):
        insert_table(page, "y", "t")
    with pytest.raises(InputError, match="cannot be read"):
        insert_table(tmp_path / "absent.md", "x", "t")
