"""What `napari-rada benchmark growth` leaves: tables with exponents to read, CSV and JSON, and log-log curves."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, fields
from math import prod
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from napari_rada.durable import write_text
from napari_rada.evaluation.benchmark.results import plain
from napari_rada.evaluation.growth.fit import LEAST_NOISE, Exponent, fit_exponent
from napari_rada.evaluation.growth.plot import log_plot
from napari_rada.evaluation.growth.point import Term
from napari_rada.evaluation.growth.task import Against, Point
from napari_rada.training.run_folder import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_rada.evaluation.growth.measure import GrowthRow
    from napari_rada.evaluation.growth.task import GrowthTask

Measure: TypeAlias = Literal["cpu_s", "seconds", "own_mib"]

UNITS: dict[Measure, str] = {
    "cpu_s": "Time of computing, s",
    "seconds": "Time by the clock, s",
    "own_mib": "Memory beyond the libraries, MiB",
}
SHOWN: tuple[Measure, ...] = ("cpu_s", "own_mib")
NAMES = {
    "propagation": "propagation",
    "uncapped": "propagation, no coarse grid",
    "quick preparation": "training `quick`: preparation",
    "quick step": "training `quick`: a step",
    "vnet preparation": "training a V-Net: preparation",
    "vnet step": "training a V-Net: a step",
    "prediction": "prediction by a `quick` run",
    "cohort preparation": "training a cohort: preparation, per scan",
    "cohort step": "training a cohort: a step",
    "whole": "prediction by a finished `quick` run",
}
GRID_ONLY = ("walk", "all three opinions")
LARGEST = 3
"""Points of which the exponent of the large end is fitted: constant parts weigh least there."""
PROMISED_S = 10.0
FLOATS_PER_MIB = 2**20 / 4
NOT_KNOWN = "-"


@dataclass(frozen=True)
class Curve:
    """One quantity of one part of the work against voxels, classes or scans.

    Parameters
    ----------
    x, y
        Sizes in rising order, and what was measured; None where nothing is known.
    """

    against: Against
    name: str
    measure: Measure
    x: tuple[int, ...]
    y: tuple[float | None, ...]

    @property
    def exponent(self) -> Exponent | None:
        """Slope over all points."""
        return fit_exponent(self.x, self.y)

    @property
    def at_large(self) -> Exponent | None:
        """Slope over the largest points."""
        return fit_exponent(self.x[-LARGEST:], self.y[-LARGEST:])

    @property
    def grows_too_fast(self) -> bool:
        """True if it grows faster than what it is measured against."""
        return any(found is not None and found.is_above_one for found in (self.exponent, self.at_large))


def curves_of(task: GrowthTask, rows: Mapping[Point, GrowthRow]) -> list[Curve]:
    """Arrange rows as curves."""
    found = []
    for against in get_args(Against):
        by_term: dict[str, list[tuple[int, Term]]] = {}
        for point in task.points(against):
            for term in rows[point].terms:
                if term.name in NAMES:
                    by_term.setdefault(term.name, []).append((point.size(against), term))
        for measure in get_args(Measure):
            for name, pairs in by_term.items():
                x, terms = zip(*pairs, strict=True)
                found.append(Curve(against, NAMES[name], measure, x, tuple(getattr(t, measure) for t in terms)))
    return found


def write_growth(folder: Path, task: GrowthTask, rows: Mapping[Point, GrowthRow], about: Mapping[str, object]) -> str:
    """Write ``growth.md``, ``growth.json``, ``growth.csv`` and ``growth.svg`` into a folder; returns the Markdown."""
    curves = curves_of(task, rows)
    text = markdown(task, rows, curves)
    data = {
        "about": dict(about),
        "table": text,
        "environment": environment(),
        "curves": [
            {**asdict(c), "exponent": _plain(c.exponent), "at_large": _plain(c.at_large), "fast": c.grows_too_fast}
            for c in curves
        ],
        "rows": [asdict(row) for row in rows.values()],
    }
    write_text(folder / "growth.json", json.dumps(plain(data), indent=1, allow_nan=False))
    write_text(folder / "growth.csv", growth_csv(rows))
    write_text(folder / "growth.md", text)
    panels = [(c.against, UNITS[c.measure], c.name, c.x, c.y) for c in curves if c.measure in SHOWN]
    write_text(folder / "growth.svg", log_plot(panels))
    return text


def markdown(task: GrowthTask, rows: Mapping[Point, GrowthRow], curves: Sequence[Curve]) -> str:
    """Write all tables, and what they say in sentences."""
    parts = [
        curve_table([c for c in curves if (c.against, c.measure) == (against, measure)], f"{UNITS[measure]}, {where}")
        for against, where in _settings(task).items()
        for measure in SHOWN
    ]
    return "\n".join([*parts, grid_table(task, rows), *_remarks(task, rows, curves)])


def curve_table(curves: Sequence[Curve], title: str) -> str:
    """Write a table of curves of one measure: one row each, one column per size, then the exponents."""
    sizes = sorted({x for curve in curves for x in curve.x})
    heads = [_size(curves[0].against, size) for size in sizes] if curves else []
    columns = [title, *heads, "exponent", f"of the largest {LARGEST}"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for curve in curves:
        by_size = dict(zip(curve.x, curve.y, strict=True))
        values = [_number(by_size.get(size), 2 if curve.measure != "own_mib" else 0) for size in sizes]
        slopes = [NOT_KNOWN if found is None else str(found) for found in (curve.exponent, curve.at_large)]
        lines.append("| " + " | ".join([curve.name, *values, *slopes]) + " |")
    return "\n".join(lines) + "\n"


def grid_table(task: GrowthTask, rows: Mapping[Point, GrowthRow]) -> str:
    """Write a table of the propagation's memory beyond libraries and scan, in multiples of its coarse grid."""
    columns = ["Memory of the propagation beyond the libraries and the scan", "coarse grid", "MiB as float32"]
    columns += ["times that: walk", "all three opinions", "and brought to the full grid"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for point in task.points("voxels"):
        terms = {term.name: term for term in rows[point].terms if term.grid_voxels}
        if point.work == "propagation" and terms:
            voxels = next(iter(terms.values())).grid_voxels
            times = [_grids(terms[name]) for name in (*GRID_ONLY, "propagation") if name in terms]
            cells = [_size("voxels", prod(point.shape)), f"{voxels:,}", f"{voxels / FLOATS_PER_MIB:.2f}"]
            lines.append("| " + " | ".join([*cells, *(_number(value, 0) for value in times)]) + " |")
    return "\n".join(lines) + "\n"


def growth_csv(rows: Mapping[Point, GrowthRow]) -> str:
    """Write one line per point and part of its work; a point that failed has a line with the reason."""
    own = [field.name for field in fields(Term)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["work", "z", "y", "x", "classes", "scans", *own, "error"])
    for point, row in rows.items():
        start = [point.work, *point.shape, point.classes, point.scans]
        for term in row.terms:
            writer.writerow([*start, *(getattr(term, name) for name in own), ""])
        if row.error:
            writer.writerow([*start, *[""] * len(own), row.error])
    return text.getvalue()


def _settings(task: GrowthTask) -> dict[Against, str]:
    """In words, what each kind of growth was measured with."""
    return {
        "voxels": "one scan, one class",
        "classes": f"one scan of {_size('voxels', task.classes_side**3)}, foreground classes",
        "scans": f"scans of {_size('voxels', task.scans_side**3)}, one class",
    }


def _remarks(task: GrowthTask, rows: Mapping[Point, GrowthRow], curves: Sequence[Curve]) -> list[str]:
    """Sentences: what grows too fast, the scan of usual size, the libraries, and what failed."""
    fast = [f"{c.name} ({UNITS[c.measure]}, against {c.against})" for c in curves if c.grows_too_fast]
    noise = f"two standard errors, at least {LEAST_NOISE}"
    remarks = [
        f"- Faster than what it is measured against, by more than noise ({noise}), grows: {'; '.join(fast)}."
        if fast
        else f"- Nothing grows faster than the voxels, the classes or the scans, within noise ({noise})."
    ]
    remarks += _whole_remarks(task, rows)
    libraries = [term.libraries_mib for row in rows.values() for term in row.terms]
    if libraries:
        span = f"{min(libraries):.0f} to {max(libraries):.0f}"
        remarks.append(f"- Libraries and networks take {span} MiB before any scan is loaded ({median(libraries):.0f}).")
    remarks += [f"- {point}: failed, {row.error}" for point, row in rows.items() if row.error]
    return [*remarks, ""]


def _whole_remarks(task: GrowthTask, rows: Mapping[Point, GrowthRow]) -> list[str]:
    shape = " x ".join(str(side) for side in task.whole)
    found = [term for term in rows[Point("whole", task.whole)].terms if term.name == "whole"]
    return [
        f"- A finished `quick` run predicts a whole scan of {shape} voxels in {term.seconds:.1f} s by the clock, "
        f"{term.cpu_s:.1f} s of computing ({PROMISED_S:.0f} s are promised), with {_number(term.own_mib, 0)} MiB "
        "beyond the libraries."
        for term in found
    ]


def _grids(term: Term) -> float | None:
    extra = term.extra_mib
    return None if extra is None else extra * FLOATS_PER_MIB / term.grid_voxels


def _size(against: Against, size: int) -> str:
    return f"{round(size ** (1 / 3))}³" if against == "voxels" else f"{size}"


def _number(value: float | None, digits: int) -> str:
    return NOT_KNOWN if value is None else f"{value:.{digits}f}"


def _plain(found: Exponent | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)
