"""Every malformed or hostile input has its answer: one line, no traceback, nothing written, nothing run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.hostile import ROWS, Bench

if TYPE_CHECKING:
    from collections.abc import Callable


RELIABILITY = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def test_the_table_is_as_long_as_the_documentation_says() -> None:
    refused = sum(row.status == 2 for row in ROWS.values())
    assert all(row.status in (0, 2) for row in ROWS.values())
    assert (
        f"{len(ROWS)} inputs and a check of their number, {len(ROWS) + 1} passed: {refused} inputs are refused, "
        f"{len(ROWS) - refused} are taken."
    ) in RELIABILITY.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ROWS)
def test_answer(name: str, run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path) -> None:
    row = ROWS[name]
    bench = Bench(tmp_path, scan, run_dir)
    try:
        command = row.make(bench)
    except OSError:  # Windows makes no symbolic links without the right to do so, and has no such names
        if os.name != "nt":
            raise
        pytest.skip("this system cannot make such a file")
    ran = run_cli(*command)
    assert ran.status == row.status, ran.err
    assert row.answer in ran.err + ran.out
    if row.status:
        assert ran.out == ""
        line = ran.err.splitlines()[-1]
        assert line.startswith("napari-rada: error: ")
        told = sum(ran.err.count(word) for word in ("preparing", "propagating", "note: "))
        assert ran.err.count("\n") == 1 + told
        assert len(line) < 1000
        assert not (tmp_path / "out.nii.gz").is_file() or (tmp_path / "out.nii.gz").is_symlink()
    assert not any(path.exists() for path in bench.made)
