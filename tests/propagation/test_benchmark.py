"""The benchmark command on two small scans written to a folder."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.propagation.scenes import ellipsoids, scan

from napari_rada.data.grid import Grid
from napari_rada.evaluation.propagation_benchmark import main
from napari_rada.io import write_volume

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write two scans of two classes, and a file that belongs to neither."""
    data = tmp_path / "data"
    data.mkdir()
    labels = ellipsoids()
    grid = Grid.from_spacing((labels.shape[0], labels.shape[1], labels.shape[2]))
    for seed, name in enumerate(("a01", "a02")):
        write_volume(data / f"{name}_image.nii.gz", scan(labels, seed=seed), grid)
        write_volume(data / f"{name}_label.nii.gz", labels, grid)
    (data / "README.md").write_text("about")
    return data


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_table_has_a_row_per_scan_and_the_mean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| scan | Dice | HD95, mm | time, s | CPU time, s |"
    assert [row.split(" ")[1] for row in rows[2:]] == ["a01", "a02", "**mean"]
    assert re.match(r"\| \*\*mean of 2\*\* \| (1\.0000|0\.9\d{3}) ± 0\.0\d{3} \|", rows[4])


def test_json_tells_settings_scans_and_mean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--json", "--value", "2", "--set", "propagation.max_voxels=5000", "--held-out"]) == 0
    found = report(capsys)
    assert found["settings"]["value"] == 2
    assert found["settings"]["propagation"]["max_voxels"] == 5000
    assert found["dice_mean"] == pytest.approx(np.mean([one["dice"] for one in found["scans"]]))
    assert 0.8 < found["dice_mean"] <= 1
    assert found["hd95_mm_mean"] < 3


def test_it_goes_on_from_finished_scans(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "results.jsonl"
    assert main([str(folder), "--results", str(kept), "--limit", "1", "--json"]) == 0
    first = report(capsys)["scans"][0]
    assert main([str(folder), "--results", str(kept), "--json"]) == 0
    scans = report(capsys)["scans"]
    assert scans[0] == first
    assert [one["name"] for one in scans] == ["a01", "a02"]
    assert len(kept.read_text().splitlines()) == 2


def test_all_labels_can_be_one_structure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--whole", "--limit", "1", "--json"]) == 0
    assert report(capsys)["dice_mean"] > 0.95


def test_registration_is_measured_per_view(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ants", reason='antspyx is not installed: pip install "napari-rada[registration]"')
    coarse = ["--set", "data.max_voxels=5000"]
    assert main([str(folder), "--method", "registration", "--limit", "1", "--json", *coarse]) == 0
    found = report(capsys)
    assert len(found["scans"][0]["per_view"]) == 3
    assert found["dice_mean"] >= max(found["scans"][0]["per_view"]) - 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent is not a folder"),
        (["."], "holds no file called NAME_label"),
        (["data", "--set", "nonsense"], "is not a setting; write key=value"),
        (["data", "--set", "data.max_voxels=1"], "data.max_voxels"),
        (["data", "--value", "7"], "no label 7"),
        (["data", "--results", "data/README.md"], "holds no results of this benchmark"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_results_of_other_settings_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "results.jsonl"
    assert main([str(folder), "--results", str(kept), "--limit", "1"]) == 0
    assert main([str(folder), "--results", str(kept), "--limit", "1", "--whole"]) == 2
    assert "holds results of other settings" in capsys.readouterr().err


def test_two_images_for_one_label_file_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a01_other.nii.gz").write_bytes(b"")
    assert main([str(folder)]) == 2
    assert "2 files fit as its image" in capsys.readouterr().err
