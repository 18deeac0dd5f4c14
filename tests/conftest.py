"""What all tests share."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.clip import MODEL, architecture

from napari_rada.data.sample import Sample, make_sample
from napari_rada.guidance.store import CACHE_VARIABLE
from napari_rada.io import write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from napari_rada.guidance.weights import GuidanceWeights

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Use one thread: on volumes this small more of them only wait for each other, above all on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_weights_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look for weights in an empty folder, whatever this machine has in its cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture(scope="session")
def _weights_of_a_tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> GuidanceWeights:
    from napari_rada.guidance.random_weights import save_random_weights

    with architecture():
        return save_random_weights(MODEL, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def tiny_clip(_weights_of_a_tiny_clip: GuidanceWeights) -> Iterator[GuidanceWeights]:
    """Let ViT-B/16 be tiny for a test, and return random weights for it."""
    with architecture():
        yield _weights_of_a_tiny_clip


@pytest.fixture
def ending_before_the_sidecar(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Return what lets a program end when labels are written and their sidecar is not."""

    def end(*arguments: Any, **settings: Any) -> None:
        write_volume(*arguments, **settings)
        raise SystemExit

    @contextmanager
    def ending() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr("napari_rada.io.annotations.write_volume", end)
            with pytest.raises(SystemExit):
                yield

    return ending
