"""Tiny stand-ins for published data sets, in the layouts in which people have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from tests.engine import ball, ball_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def scan(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return image and labels (x, y, z)."""
    labels = ball().astype(np.uint8)
    return ball_image(ball(), seed).T.copy(), labels.T.copy()


@pytest.fixture
def h5_layout(tmp_path: Path) -> Callable[[int], Path]:
    """Write scans as ``NAME/mri_norm2.h5``."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install h5py")

    def write(count: int) -> Path:
        folder = tmp_path / "h5"
        for number in range(count):
            (folder / f"P{number:02d}").mkdir(parents=True)
            image, labels = scan(number)
            with h5py.File(folder / f"P{number:02d}" / "mri_norm2.h5", "w") as file:
                file["image"], file["label"] = image, labels
        return folder

    return write


@pytest.fixture
def kits_layout(tmp_path: Path) -> Path:
    """Write KiTS19's cases: slices along the first axis, the kidney 1 and a tumour 2; a test case without labels."""
    folder = tmp_path / "kits19" / "data"
    affine = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
    for number in range(5):
        case = folder / f"case_{number:05d}"
        case.mkdir(parents=True)
        image, labels = scan(number)
        labels[labels.nonzero()[0][0]] *= 2
        hounsfield = (image * 100).transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(hounsfield.astype(np.float32), affine), case / "imaging.nii.gz")
        if number < 4:
            nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), affine), case / "segmentation.nii.gz")
    return folder
