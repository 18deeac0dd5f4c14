from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_rada.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE_IJK = (24, 22, 20)
AFFINE = np.diag([-1.0, 1.5, 2.0, 1.0])
SLICES = "0:12,1:11,2:10"
TINY = [
    flag
    for setting in (
        "training.iterations=2",
        "training.patch=[16,16,16]",
        "training.labelled_patches=1",
        "model.architecture=vnet",
        "model.filters=2",
        "model.blocks=[1,1]",
        "data.max_voxels=5000",
        "threads=1",
    )
    for flag in ("--set", setting)
]
"""Settings with which training takes a second."""


@dataclass(frozen=True)
class Scan:
    """A tiny scan on disk: a bright ball, its dense labels, and what a person would have painted."""

    image: str
    dense: str
    labels: str
    truth_ijk: NDArray[np.uint8]


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = tmp_path_factory.mktemp("scan")
    z, y, x = np.indices(SHAPE_IJK)
    truth = ((z - 12) ** 2 + (y - 11) ** 2 + 1.5 * (x - 10) ** 2 <= 49).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.1, SHAPE_IJK)
    sparse = np.zeros_like(truth)
    sparse[12], sparse[:, 11], sparse[:, :, 10] = truth[12], truth[:, 11], truth[:, :, 10]
    contents = {"ball": (truth + noise).astype(np.float32), "ball_dense": truth, "ball_labels": sparse}
    for name, data in contents.items():
        nib.save(nib.Nifti1Image(data, AFFINE), folder / f"{name}.nii.gz")
    image, dense, labels = (str(folder / f"{name}.nii.gz") for name in contents)
    return Scan(image, dense, labels, truth)


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command in this process."""

    def run(*arguments: Any) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return Ran(status, shown.out, shown.err)

    return run


@pytest.fixture(scope="session")
def run_dir(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished tiny run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", f"{scan.image},{scan.labels}", "-o", str(folder), *TINY]) == 0
    return folder


@pytest.fixture
def tiny() -> list[str]:
    """Return the flags with which training takes a second."""
    return list(TINY)


@pytest.fixture
def save_nifti(tmp_path: Path) -> Callable[..., str]:
    """Write a NIfTI file on the scan's grid, or another."""

    def save(name: str, data: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> str:
        nib.save(nib.Nifti1Image(data, affine), tmp_path / name)
        return str(tmp_path / name)

    return save
