"""Two tiny data sets on disk, and settings with which training takes a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from tests.engine import ball, ball_image

from napari_rada.data.grid import Grid
from napari_rada.io import write_volume

if TYPE_CHECKING:
    from pathlib import Path

TINY = {
    "training.iterations": 2,
    "training.patch": [16, 16, 16],
    "model.filters": 2,
    "model.blocks": [1, 1],
    "data.max_voxels": 5000,
}


@pytest.fixture
def tiny() -> dict[str, object]:
    return dict(TINY)


@pytest.fixture
def datasets_file(tmp_path: Path) -> Path:
    """Write a set of four balls with a cohort, and one of two scans in which the values 3 and 5 are one structure."""
    grid = Grid.from_spacing(ball().shape, (2.0, 1.0, 1.0))
    for folder, names in (("balls", "abcd"), ("halves", "pq")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for seed, name in enumerate(names):
            labels = ball()
            image = ball_image(labels, seed)
            if folder == "halves":
                labels[:, :13] *= 3
                labels[:, 13:] *= 5
                labels[0, 0, 0] = 9
            write_volume(tmp_path / "data" / folder / f"{name}_image.nii.gz", image, grid)
            write_volume(tmp_path / "data" / folder / f"{name}_label.nii.gz", labels.astype(np.uint8), grid)
    sets = [
        {
            "name": "balls",
            "image": "balls/{scan}_image.nii.gz",
            "labels": "balls/{scan}_label.nii.gz",
            "structures": {"ball": [1]},
            "settings": ["a"],
            "reported": ["b", "c"],
            "cohort": {"train": ["a"], "unlabelled": ["b"], "test": ["c", "d"]},
        },
        {
            "name": "halves",
            "image": "halves/{scan}_image.nii.gz",
            "labels": "halves/{scan}_label.nii.gz",
            "structures": {"whole": [3, 5]},
            "modality": "MRI",
            "window": [-0.5, 1.5],
            "settings": ["p"],
            "reported": ["q"],
        },
    ]
    file = tmp_path / "data" / "datasets.yaml"
    file.write_text(yaml.safe_dump({"datasets": sets}))
    return file
