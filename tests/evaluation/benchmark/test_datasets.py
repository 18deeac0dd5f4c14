from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.engine import CENTRE, ball

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.datasets import load_datasets

ROOT = Path(__file__).resolve().parents[3]


def changed(file: Path, **changes: Any) -> Path:
    """Change the first data set of a file."""
    raw = yaml.safe_load(file.read_text())
    raw["datasets"][0].update(changes)
    file.write_text(yaml.safe_dump(raw))
    return file


def test_scans_are_read_with_the_values_of_a_structure_as_one(datasets_file: Path) -> None:
    collection = load_datasets(datasets_file)
    (halves,) = collection.chosen(["halves"]).datasets
    scan = collection.load(halves, "q")
    assert scan.labels is not None
    np.testing.assert_array_equal(scan.labels, ball())
    assert [info.name for info in scan.classes.classes] == ["background", "whole"]
    case = scan.case([(0, CENTRE[0])])
    assert case.labels is not None
    assert case.labels.sum() == ball()[CENTRE[0]].sum()
    assert case.source == datasets_file.parent / "halves" / "q_image.nii.gz"
    assert not collection.load(halves, "q", labelled=False).case().is_labelled


def test_splits_and_limits(datasets_file: Path) -> None:
    balls = load_datasets(datasets_file).datasets[0]
    assert balls.scans("reported") == ("b", "c")
    assert balls.scans("reported", 1) == ("b",)
    assert balls.scans("settings") == ("a",)


def test_the_root_can_be_another(datasets_file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.yaml"
    datasets_file.rename(moved)
    collection = load_datasets(moved, tmp_path / "data")
    assert collection.load(collection.datasets[0], "a").name == "a"
    with pytest.raises(InputError, match="does not exist"):
        load_datasets(moved).load(collection.datasets[0], "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "a.nii.gz"}, "image must hold {scan}"),
        ({"settings": ["b"]}, "both for choosing settings and for reporting"),
        ({"structures": {}}, "structures"),
        ({"colour": "red"}, "colour"),
        ({"name": "halves"}, "needs a name of its own"),
        ({"cohort": {"train": ["a"], "test": ["a"]}}, "both seen in training and in test"),
    ],
)
def test_wrong_data_sets_are_told(datasets_file: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_datasets(changed(datasets_file, **changes))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("[]", "it is empty"),
        ("datasets: 3", "it has none"),
        ("3", "it has none"),
        ("a: [", r"\("),
        ("datasets: []", "0 data sets"),
        ("datasets: [3]", "data set: "),
    ],
)
def test_other_files_are_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"x\.yaml.*{reason}"):
        load_datasets(tmp_path / "x.yaml")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml"):
        load_datasets(tmp_path / "absent.yaml")


def test_unknown_data_sets_are_told(datasets_file: Path) -> None:
    with pytest.raises(InputError, match="no data set livers; choose among balls, halves"):
        load_datasets(datasets_file).chosen(["balls", "livers"])


def test_the_projects_own_file_keeps_its_splits_apart() -> None:
    datasets = load_datasets(ROOT / "benchmarks" / "datasets.yaml").datasets
    assert len(datasets) == 10
    assert sum(len(dataset.reported) for dataset in datasets) == 8 + 8 * 2 + 18
    for dataset in datasets[1:]:
        assert len(dataset.settings) == 2
        assert max(dataset.settings) < min(dataset.reported)
    assert all(scan.startswith("validation/") for scan in datasets[0].settings)


def test_the_projects_own_file_fits_the_real_scans(shared_data: Path) -> None:
    collection = load_datasets(ROOT / "benchmarks" / "datasets.yaml", shared_data)
    for dataset in collection.datasets:
        for scan in (*dataset.settings, *dataset.reported):
            for pattern in (dataset.image, dataset.labels):
                assert (shared_data / pattern.replace("{scan}", scan)).is_file()
