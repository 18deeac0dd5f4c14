"""What a benchmark leaves: tables to read, CSV and JSON to compute with, a plot, and a page that is kept up to date."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from napari_rada.durable import write_text
from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.plot import dot_plot
from napari_rada.evaluation.benchmark.results import plain
from napari_rada.evaluation.benchmark.summary import Spread, macro_means, summarise
from napari_rada.training.run_folder import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_rada.evaluation.benchmark.results import Row
    from napari_rada.evaluation.benchmark.summary import Summary

METRICS = ("dice", "jaccard", "hd95_mm", "asd_mm")
NOT_KNOWN = "-"


def write_report(
    folder: Path, rows: Sequence[Row], about: Mapping[str, object], *, table: str = "", notes: Sequence[str] = ()
) -> str:
    """Write ``report.json``, ``scans.csv``, ``report.md`` and ``plot.svg`` into a folder.

    Parameters
    ----------
    about
        What was asked for, for the JSON file.
    table
        The main table as Markdown; by default the summary of every data set and method.
    notes
        Sentences that whoever reads the figures must know.

    Returns
    -------
    str
        The main table and the notes, as Markdown.
    """
    summaries = summarise(rows)
    text = "\n".join([table or summary_table(summaries), *(f"{note}\n" for note in notes)])
    data = {
        "about": dict(about),
        "notes": list(notes),
        "table": text,
        "environment": environment(),
        "summary": [asdict(found) for found in summaries],
        "macro_mean_dice": macro_means(summaries),
        "rows": [asdict(row) for row in rows],
    }
    write_text(folder / "report.json", json.dumps(plain(data), indent=1, allow_nan=False))
    write_text(folder / "scans.csv", scans_csv(rows))
    write_text(
        folder / "report.md", "\n".join([text, *([summary_table(summaries)] if table else []), scans_table(rows)])
    )
    values = [(row.dataset, row.method, row.mean("dice")) for row in rows if not row.error]
    write_text(folder / "plot.svg", dot_plot(values, "Dice"))
    return text


def summary_table(summaries: Sequence[Summary]) -> str:
    """Write a Markdown table: one row per data set and method, then the macro means and what failed."""
    columns = ["data set", "method", "scans", "Dice", "worst", "Jaccard", "HD95, mm", "ASD, mm", "time, s", "CPU, s"]
    columns.append("memory, GiB")
    seeds, training = (any(getattr(s, name) is not None for s in summaries) for name in ("seed_std", "train_s"))
    columns += ["over seeds"] * seeds + ["training, s"] * training
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_cells(found, seeds, training)) + " |" for found in summaries]
    for method, dice in macro_means(summaries).items():
        cells = ["**macro mean**", escaped(method), "", f"**{dice:.4f}**"]
        lines.append("| " + " | ".join(cells + [""] * (len(columns) - len(cells))) + " |")
    return "\n".join([*lines, "", *_remarks(summaries)])


def scans_table(rows: Sequence[Row]) -> str:
    """Write a Markdown table of the Dice of every scan, one column per method; seeds are averaged."""
    methods = list(dict.fromkeys(row.method for row in rows))
    dice: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        found = dice.setdefault((row.dataset, row.scan), {}).setdefault(row.method, [])
        found.append(math.nan if row.error else row.mean("dice"))
    lines = ["| data set | scan | " + " | ".join(map(escaped, methods)) + " |", "|---" * (len(methods) + 2) + "|"]
    for (dataset, scan), by_method in dice.items():
        cells = [_number(Spread.of(by_method.get(method, [])).mean, 4) for method in methods]
        lines.append(f"| {escaped(dataset)} | {escaped(scan)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def scans_csv(rows: Sequence[Row]) -> str:
    """Write one line per row and class; parts and errors stand in columns of their own."""
    parts = list(dict.fromkeys(name for row in rows for name in row.parts))
    own = ("dataset", "scan", "method", "seed", "seconds", "cpu_s", "peak_gib", "train_s", "note", "error")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*own, "class", *METRICS, *(f"dice of {name}" for name in parts)])
    for row in rows:
        start = [getattr(row, name) for name in own]
        end = [row.parts.get(name, "") for name in parts]
        for found in row.classes or (None,):
            middle = ["", *[""] * len(METRICS)]
            if found is not None:
                middle = [found.name, *(f"{getattr(found, metric):.6g}" for metric in METRICS)]
            writer.writerow([*start, *middle, *end])
    return text.getvalue()


def insert_table(page: Path, name: str, table: str) -> None:
    """Replace what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` in a page.

    Raises
    ------
    InputError
        If the page cannot be read or has no such place.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{page} cannot be read ({error.strerror}).") from None
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise InputError(f"{page} must hold one place between {begin} and {end} for the table.")
    write_text(page, pattern.sub(lambda _: f"{begin}\n{table.strip()}\n{end}", text))


def _cells(found: Summary, seeds: bool, training: bool) -> list[str]:
    worst = f"{_number(found.worst, 4)} ({escaped(found.worst_scan)})" if found.worst_scan else NOT_KNOWN
    return [
        escaped(found.dataset),
        escaped(found.method),
        f"{found.scans}" + (f", {found.seeds} seeds" if found.seeds > 1 else ""),
        spread(found.dice, 4),
        worst,
        spread(found.jaccard, 4),
        spread(found.hd95_mm, 2),
        spread(found.asd_mm, 2),
        spread(found.seconds, 2),
        spread(found.cpu_s, 2),
        _number(found.peak_gib, 2),
        *([_number(found.seed_std, 4)] if seeds else []),
        *([spread(found.train_s, 0) if found.train_s else NOT_KNOWN] if training else []),
    ]


def _remarks(summaries: Sequence[Summary]) -> list[str]:
    remarks = []
    for found in summaries:
        where = f"{found.dataset}, {found.method}"
        for name, part in found.parts.items():
            remarks.append(f"- {where}, {name}: Dice {spread(part, 4)}")
        if found.failed:
            remarks.append(f"- {where}: failed {_times(found.failed)}; what failed is missing from its means.")
        if found.empty:
            remarks.append(
                f"- {where}: {_times(found.empty)} mask or reference was empty; Dice counts as 0 then, and distances, "
                "which are not defined, are missing from their means."
            )
    return [*remarks, ""] if remarks else []


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def escaped(name: str) -> str:
    """Write a name for a cell of a Markdown table, which ends at a bar."""
    return name.replace("|", "\\|")


def spread(found: Spread, digits: int) -> str:
    """Write mean ± standard deviation."""
    if not math.isfinite(found.mean):
        return NOT_KNOWN
    return f"{found.mean:.{digits}f} ± {found.std:.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return NOT_KNOWN if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
