"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_rada.data.sample import Sample, make_sample

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Use one thread: on volumes this small more of them only wait for each other, above all on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real scans, which lies beside the project and is no part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real scans are not at {SHARED_DATA}; they are not distributed with the project")
    return SHARED_DATA


@pytest.fixture(scope="session")
def sample() -> Sample:
    """Return the built-in sample of seed 0; do not write to its arrays."""
    return make_sample()
