"""Every malformed or hostile input has its answer: one line, no traceback, nothing written, nothing run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.hostile import ROWS, Bench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_table_is_long_enough() -> None:
    assert len(ROWS) >= 60


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
        assert ran.err.count("\n") == 1 + ran.err.count("preparing") + ran.err.count("propagating")
        assert len(line) < 1000
        assert not (tmp_path / "out.nii.gz").is_file() or (tmp_path / "out.nii.gz").is_symlink()
    assert not any(path.exists() for path in bench.made)
