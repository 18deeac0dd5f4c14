from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_rada.data.classes import ClassTable
from napari_rada.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.case import Case

SHAPE_IJK = (9, 8, 7)


def ball(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A ball of label 1 that touches no border, and a cap of label 2 on it."""
    axes = np.indices(shape)
    centre = [(size - 1) / 2 for size in shape]
    inside = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= (min(shape) / 2 - 0.6) ** 2
    return np.where(inside, np.where(axes[0] > centre[0], 2, 1), 0).astype(np.uint8)


@pytest.fixture
def image_ijk() -> NDArray[np.int16]:
    return np.random.default_rng(3).integers(-100, 900, SHAPE_IJK).astype(np.int16)


@pytest.fixture
def labels_ijk() -> NDArray[np.uint8]:
    return ball(SHAPE_IJK)


@pytest.fixture
def save_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write a NIfTI file through nibabel alone."""

    def save(name: str, data: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> Path:
        nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def prediction_for() -> Callable[..., Prediction]:
    """Make a certain prediction of given labels (z, y, x)."""
    return _prediction


def _prediction(case: Case, labels_zyx: NDArray[np.uint8], disagreement: bool = True) -> Prediction:
    classes = ClassTable.from_values(np.unique(labels_zyx))
    index = classes.encode(labels_zyx)
    probability = np.moveaxis(np.eye(len(classes), dtype=np.float32)[index], -1, 0)
    return Prediction(
        name=case.name,
        mask=classes.decode(index),
        probability=np.ascontiguousarray(probability),
        disagreement=np.full(index.shape, 0.25, np.float32) if disagreement else None,
        grid=case.grid,
        classes=classes,
        source=case.source,
    )
