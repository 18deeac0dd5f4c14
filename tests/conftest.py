"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_rada.data.sample import Sample, make_sample

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Use at most two threads, so that timings mean the same on any machine."""
    torch.set_num_threads(min(2, torch.get_num_threads()))


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
