"""The command that compares propagation with trained networks."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from tests.engine import ball, ball_image

from napari_rada.evaluation.training_benchmark import main

TINY = [
    "--set=training.iterations=2",
    "--set=training.patch=[16,16,16]",
    "--set=model.filters=2",
    "--set=model.blocks=[1,1]",
    "--set=device=cpu",
]


@pytest.fixture
def data(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        for kind, array in (("image", ball_image(ball(), seed)), ("label", ball().astype(np.uint8))):
            nib.save(nib.Nifti1Image(array.T, np.eye(4)), tmp_path / f"{name}_{kind}.nii.gz")
    return tmp_path


def test_every_scan_gets_both_figures(data, capsys):
    assert main([str(data), "--json", *TINY]) == 0
    scans = json.loads(capsys.readouterr().out)
    assert [scan["scan"] for scan in scans] == ["a", "b"]
    assert all(0.8 < scan["propagation"] <= 1 and 0.8 < scan["networks"] <= 1 for scan in scans)


def test_the_table_ends_with_mean_and_memory(data, capsys):
    assert main([str(data), "--limit", "1", *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| a | ")
    assert lines[3].startswith("| **mean of 1** | ")
    assert lines[-1].startswith("Peak memory: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--set=nonsense"], "is not a setting"), (["--preset=fast"], "There is no preset 'fast'")],
)
def test_bad_settings_are_one_line(data, capsys, arguments, message):
    assert main([str(data), *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def test_a_folder_without_labels_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no file called NAME_label" in capsys.readouterr().err
