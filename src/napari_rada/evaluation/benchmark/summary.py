"""From rows to figures: mean, spread, worst case, time and memory per data set and method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_rada.evaluation.benchmark.results import Row


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (that of the values themselves, not of a larger population)."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise the finite values; NaN if there is none."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return cls(math.nan, math.nan)
        return cls(float(np.mean(finite)), float(np.std(finite)))


@dataclass(frozen=True)
class Summary:
    """One method on one data set.

    Parameters
    ----------
    scans, seeds
        How many scans, and how often each was done.
    failed
        Scans (times seeds) on which the method failed; they are missing from all means.
    empty
        Classes (times scans, times seeds) of which mask or reference was empty; distances are not defined there and are
        missing from their means.
    dice, jaccard, hd95_mm, asd_mm
        Over all rows; each row is the mean over its classes, of distances over those classes that have one.
    worst, worst_scan
        The lowest Dice and where it happened.
    seed_std
        Standard deviation over the seeds of the mean Dice; None for a single seed.
    seconds, cpu_s, peak_gib, train_s
        As in `Row`; memory is the largest, None where it is not known.
    parts
        Dice of intermediate masks.
    """

    dataset: str
    method: str
    scans: int
    seeds: int
    failed: int
    empty: int
    dice: Spread
    worst: float
    worst_scan: str
    seed_std: float | None
    jaccard: Spread
    hd95_mm: Spread
    asd_mm: Spread
    seconds: Spread
    cpu_s: Spread
    peak_gib: float | None
    train_s: Spread | None
    parts: Mapping[str, Spread] = field(default_factory=dict)


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Summarise rows by data set and method, in the order in which these first occur."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.method), []).append(row)
    return [_summary(dataset, method, group) for (dataset, method), group in groups.items()]


def macro_means(summaries: Sequence[Summary]) -> dict[str, float]:
    """Mean over the data sets of each method's mean Dice, for methods that did all of several data sets."""
    datasets = {found.dataset for found in summaries}
    by_method: dict[str, list[float]] = {}
    for found in summaries:
        if math.isfinite(found.dice.mean):
            by_method.setdefault(found.method, []).append(found.dice.mean)
    complete = {method: dice for method, dice in by_method.items() if len(dice) == len(datasets) > 1}
    return {method: float(np.mean(dice)) for method, dice in complete.items()}


def _summary(dataset: str, method: str, rows: Sequence[Row]) -> Summary:
    good = [row for row in rows if not row.error]
    worst = min(good, key=lambda row: row.mean("dice"), default=None)
    peaks = [row.peak_gib for row in good if row.peak_gib is not None]
    training = [row.train_s for row in good if row.train_s is not None]
    names = dict.fromkeys(name for row in good for name in row.parts)
    return Summary(
        dataset=dataset,
        method=method,
        scans=len({row.scan for row in rows}),
        seeds=len({row.seed for row in rows}),
        failed=len(rows) - len(good),
        empty=sum(not math.isfinite(found.hd95_mm) for row in good for found in row.classes),
        dice=Spread.of(row.mean("dice") for row in good),
        worst=worst.mean("dice") if worst else math.nan,
        worst_scan=worst.scan if worst else "",
        seed_std=_seed_std(good),
        jaccard=Spread.of(row.mean("jaccard") for row in good),
        hd95_mm=Spread.of(Spread.of(found.hd95_mm for found in row.classes).mean for row in good),
        asd_mm=Spread.of(Spread.of(found.asd_mm for found in row.classes).mean for row in good),
        seconds=Spread.of(row.seconds for row in good),
        cpu_s=Spread.of(row.cpu_s for row in good),
        peak_gib=max(peaks, default=None),
        train_s=Spread.of(set(training)) if training else None,
        parts={name: Spread.of(row.parts[name] for row in good if name in row.parts) for name in names},
    )


def _seed_std(rows: Sequence[Row]) -> float | None:
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(row.mean("dice"))
    return float(np.std([np.mean(dice) for dice in by_seed.values()])) if len(by_seed) > 1 else None
