from __future__ import annotations

import math
from pathlib import Path

import pytest

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.measure import measured
from napari_rada.evaluation.benchmark.results import Row, fingerprint
from napari_rada.evaluation.finished_lines import FinishedLog
from napari_rada.evaluation.metrics import ClassMetrics

GOOD = ClassMetrics(1, "ball", 0.9, 0.8, 2.0, 0.5)
EMPTY = ClassMetrics(2, "cube", 0.0, 0.0, math.inf, math.inf)


def row(scan: str = "a", task: str = "t", **changes: object) -> Row:
    return Row(**{"task": task, "dataset": "d", "scan": scan, "method": "m", "seed": 0, "classes": (GOOD,), **changes})


def log_in(path: Path) -> FinishedLog[Row]:
    return FinishedLog(path, Row.from_json)


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    log = log_in(tmp_path / "r.jsonl")
    rows = [row("a", classes=(GOOD, EMPTY), parts={"axis 0": 0.5}, peak_gib=1.5), row("b", classes=(), error="no")]
    for one in rows:
        log.add(one)
    again = log_in(tmp_path / "r.jsonl")
    assert [again.row(("t", scan)) for scan in "ab"] == rows
    assert again.has(("t", "a"))
    assert not again.has(("other", "a"))
    assert not again.has(("t", "b")), "what failed is tried again"
    again.add(row("b"))
    assert log_in(tmp_path / "r.jsonl").row(("t", "b")).error == ""
    assert rows[0].mean("dice") == pytest.approx(0.45)
    assert rows[0].mean("hd95_mm") == math.inf


def test_a_line_cut_off_by_a_kill_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    log = log_in(path)
    log.add(row("a"))
    log.add(row("b"))
    path.write_text(path.read_text()[:-20])
    again = log_in(path)
    assert (again.has(("t", "a")), again.has(("t", "b"))) == (True, False)
    again.add(row("b"))
    assert log_in(path).has(("t", "b"))


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("# notes\n# more\n")
    with pytest.raises(InputError, match="line 1 is no result of this benchmark"):
        log_in(tmp_path / "r.jsonl")


def test_fingerprints_differ_with_every_detail() -> None:
    tasks = [{"a": 1, "b": (2.5, None)}, {"a": 1, "b": (2.5, 0)}, {"a": "1", "b": (2.5, None)}]
    assert len({fingerprint(task) for task in tasks}) == 3
    assert fingerprint({"b": [2.5, None], "a": 1}) == fingerprint(tasks[0])


def test_time_and_memory_of_a_block() -> None:
    with measured() as small:
        pass
    with measured() as large:
        data = bytearray(300 * 2**20)
        data[::4096] = b"x" * len(data[::4096])
    assert large.seconds > small.seconds >= 0
    assert large.cpu_s > 0
    if small.peak_gib is not None and large.peak_gib is not None:
        assert large.peak_gib >= small.peak_gib
        if Path("/proc/self/clear_refs").exists():
            assert large.peak_gib > small.peak_gib + 0.2
            del data
            with measured() as after:
                pass
            assert after.peak_gib is not None
            assert after.peak_gib < large.peak_gib - 0.2
