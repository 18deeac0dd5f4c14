from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.errors import InputError
from napari_rada.evaluation.reliability import fuzz
from napari_rada.evaluation.reliability.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_damaged_files_are_answered_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "--count", "240", "--seed", "7"]) == 0
    assert "240 damaged files, 0 answered with anything but one sentence" in capsys.readouterr().out


def test_another_error_is_found_and_its_file_kept(tmp_path: Path) -> None:
    path = tmp_path / "good"
    path.write_bytes(bytes(100))

    def read(path: Path) -> None:
        raise KeyError("a bug")

    def refuse(path: Path) -> None:
        raise InputError("no")

    report = fuzz.FuzzReport()
    fuzz._try("bad", fuzz.Target(path, read), np.random.default_rng(0), report, tmp_path / "kept")
    fuzz._try("fine", fuzz.Target(path, refuse), np.random.default_rng(0), report, tmp_path / "other")
    assert len(report.failures) == 1
    assert report.failures[0].startswith("bad: KeyError: 'a bug'")
    assert (tmp_path / "kept").read_bytes() != path.read_bytes()
    assert not (tmp_path / "other").exists()
    assert (report.tried, report.refused) == ({"bad": 1, "fine": 1}, {"fine": 1})
    assert path.read_bytes() == bytes(100)


def test_damage_is_damage_and_can_be_repeated() -> None:
    good = gzip.compress(bytes(range(256)) * 8)
    made = [fuzz.damaged(good, np.random.default_rng(seed)) for seed in range(40)]
    assert made == [fuzz.damaged(good, np.random.default_rng(seed)) for seed in range(40)]
    assert len(set(made)) > 30
    assert any(content[:2] == b"\x1f\x8b" and content != good for content in made)
