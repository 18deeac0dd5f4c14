"""Finished measurements, one JSON object a line, so that a long benchmark can be interrupted and go on."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.evaluation.metrics import ClassMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_rada.evaluation.finished_lines import FinishedLog


@dataclass(frozen=True)
class Row:
    """One scan, segmented once.

    Parameters
    ----------
    task
        Fingerprint of everything that was asked for: two rows with the same one measured the same thing.
    dataset, scan, method, seed
        What was measured.
    classes
        Agreement with the dense labels over the whole volume; empty if the method failed.
    seconds, cpu_s
        By the clock, and of computing on all cores together; files and metrics are not counted.
    peak_gib
        Largest memory of the process meanwhile, in GiB; None where the system does not tell.
    train_s
        Seconds of the training iterations that the method needed before, if it serves several scans.
    parts
        Dice of intermediate masks, for example of single views.
    error
        Why the method failed; empty if it did not.
    note
        What guided the networks; empty if nothing did.
    content
        Hash of the scan's files; empty if it was not noted.
    """

    task: str
    dataset: str
    scan: str
    method: str
    seed: int
    classes: tuple[ClassMetrics, ...] = ()
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_gib: float | None = None
    train_s: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    note: str = ""
    content: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Task and scan."""
        return self.task, self.scan

    def mean(self, metric: str) -> float:
        """Mean of a metric over the classes: ``dice``, ``jaccard``, ``hd95_mm`` or ``asd_mm``."""
        return float(np.mean([getattr(found, metric) for found in self.classes]))

    def to_json(self) -> str:
        """Return one line; infinite distances become null."""
        return json.dumps(plain(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Row:
        """Read a line that `to_json` made; raises what a wrong line raises."""
        entry = json.loads(line)
        return cls(classes=tuple(_metrics(found) for found in entry.pop("classes")), **entry)


def measured_before(log: FinishedLog[Row], key: tuple[str, str], content: str | None) -> bool:
    """Tell whether a log has the row of a scan whose files have not changed since; None if they are not there."""
    return log.has(key) and (content is None or log.row(key).content in ("", content))


def _metrics(entry: dict[str, Any]) -> ClassMetrics:
    infinite = {name: math.inf for name, value in entry.items() if value is None}
    return ClassMetrics(**{**entry, **infinite})


def fingerprint(task: Mapping[str, Any]) -> str:
    """Return a short, stable name for a description of a task in plain data."""
    text = json.dumps(plain(task), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """Turn nested data into what JSON knows; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)
