from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage
from tests.engine import ball, ball_case, ball_image, tiny_config
from tests.zarrs import write_ome

from napari_rada import pipeline

if TYPE_CHECKING:
    from pathlib import Path

MICROMETRES = (2.0, 1.0, 1.0)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks that predict scans which nobody annotated, at full resolution, one tile at a time."""
    config = tiny_config(
        model__completion=False,
        model__filters=2,
        data__max_voxels=None,
        inference__tiles_per_batch=1,
        training__iterations=2,
    )
    return pipeline.train([ball_case()], tmp_path_factory.mktemp("outofcore") / "run", config).run_dir


@pytest.fixture(scope="session")
def coarse_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of a cohort, for a grid that is coarser than the scan, several tiles at a time."""
    config = tiny_config(model__filters=2, data__spacing=[0.004, 0.004, 0.002], training__iterations=2)
    cases = [ball_case(), ball_case("other", 1)]
    return pipeline.train(cases, tmp_path_factory.mktemp("outofcore") / "coarse", config).run_dir


@pytest.fixture(scope="session")
def values() -> np.ndarray:
    """A noisy ball, uint8, (42, 46, 37)."""
    grown = ndimage.zoom(ball_image(ball()), (2.1, 1.75, 1.55), order=1)
    return np.clip(80 + 60 * grown, 0, 255).astype(np.uint8)


@pytest.fixture
def scan(tmp_path: Path, values: np.ndarray) -> Path:
    return write_ome(tmp_path / "scan.ome.zarr", values, scale=MICROMETRES)
