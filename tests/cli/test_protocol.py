"""The protocols from data in the published layouts to the table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from tests.evaluation.protocols.conftest import h5_layout, kits_layout  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., Any]

SET = [
    flag
    for setting in (
        "training.iterations=2",
        "training.patch=[16,16,16]",
        "model.filters=2",
        "model.blocks=[1,1]",
        "data.max_voxels=30000",
    )
    for flag in ("--set", setting)
]
QUICK = ["--method", "quick", "--device", "cpu", *SET]


def test_the_preprocessed_form_to_the_papers_table(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Run
) -> None:
    data, out = request.getfixturevalue("h5_layout")(6), tmp_path / "out"
    arguments = ["benchmark", "la2018", data, "-o", out, *QUICK]
    done = run_cli(*arguments)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "| method | scans | Dice | Jaccard | HD95, mm | ASD, mm |"
    assert lines[2].startswith("| quick, here | 1 |")
    assert lines[3] == "| RADA (paper) | 20 | 0.8652 | 0.7634 | - | - |"
    assert lines[4].startswith("| SGTC (paper) | 20 | 0.8429 |")
    assert "1 labelled, 4 unlabelled and 1 test scans, in sorted order" in done.out
    assert len(list((out / "prepared").glob("*_image.nii.gz"))) == 6
    again = run_cli(*arguments)
    assert again.out == done.out
    assert "iteration" not in again.err
    moved = run_cli("benchmark", "la2018", data, "-o", out.rename(tmp_path / "moved"), *QUICK)
    assert moved.out.splitlines()[:5] == lines[:5]
    assert "training in" in done.err
    assert "training in" not in moved.err


def test_official_cases_with_a_limit(request: pytest.FixtureRequest, tmp_path: Path, run_cli: Run) -> None:
    data, out = request.getfixturevalue("kits_layout"), tmp_path / "out"
    done = run_cli("benchmark", "kits19", data, "-o", out, "--limit", 1, "--json", *QUICK)
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert [row["scan"] for row in report["rows"]] == ["case_00003"]
    assert "Limited to 1 scans of each kind." in report["notes"]
    assert report["notes"][-2].startswith("Not the paper's settings: method quick, training.iterations=2, ")
    assert report["notes"][-1].startswith("Trained without guidance, because its weights are not here")
    assert "| RADA (paper) | 20 | 0.9448 |" in report["table"]
    assert len(list((out / "prepared").glob("*_image.nii.gz"))) == 3
    run = next((out / "runs").iterdir())
    assert "window:\n  - -125.0\n  - 275.0" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--voxel", "0"], "A voxel size of 0 mm"),
        (["--method", "diffusion"], "Only methods that train"),
        (["--limit", "-3"], "-3 is not possible"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, run_cli: Run, arguments: list[str], message: str) -> None:
    done = run_cli("benchmark", "lits", tmp_path, "-o", tmp_path / "out", *arguments)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert message in done.err


def test_real_scans_cut_small(shared_data: Path, tmp_path: Path, run_cli: Run) -> None:
    source = shared_data / "la2018"
    for folder, name in (("labeled", "la001"), ("unlabeled", "la009"), ("validation", "la021")):
        (tmp_path / "la2018" / folder).mkdir(parents=True)
        for kind in ("image", "label"):
            path = source / folder / f"{name}_{kind}.nii.gz"
            if path.exists():
                volume = nib.load(path)
                small = np.asanyarray(volume.dataobj)[::4, ::4, ::4]
                affine = volume.affine @ np.diag([4, 4, 4, 1])
                nib.save(nib.Nifti1Image(small, affine), tmp_path / "la2018" / folder / path.name)
    done = run_cli("benchmark", "la2018", tmp_path / "la2018", "-o", tmp_path / "out", "--json", *QUICK)
    assert done.status == 0, done.err
    (row,) = json.loads(done.out)["rows"]
    assert row["scan"] == "la021"
    assert row["train_s"] > 0
    assert 0 <= row["classes"][0]["dice"] <= 1
