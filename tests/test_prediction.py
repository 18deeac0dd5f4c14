"""What a prediction says about itself."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.grid import Grid
from napari_rada.prediction import Prediction, disagreement, millilitres


@pytest.mark.parametrize(
    ("mm", "told"),
    [(10.0, "organ 1,000 ml, tumour 1 ml"), (1.0, "organ 1 ml, tumour 0.001 ml"), (0.001, "organ 1e-09")],
)
def test_sizes_have_three_digits_whatever_the_unit(mm: float, told: str) -> None:
    mask = np.zeros((10, 10, 11), dtype=np.uint8)
    mask[:, :, 1:] = 1
    mask[0, 0, 0] = 2
    classes = ClassTable((ClassInfo(0, "background"), ClassInfo(1, "organ"), ClassInfo(2, "tumour")))
    probability = np.moveaxis(np.eye(3, dtype=np.float32)[mask], -1, 0)
    found = Prediction("scan", mask, probability, None, Grid.from_spacing(mask.shape, (mm, mm, mm)), classes)
    assert found.sizes().startswith(told)
    assert found.sizes(2) == found.sizes()
    assert found.sizes(1) == f"{found.sizes().split(', ')[0]} and 1 more"


def test_there_is_no_less_than_no_doubt() -> None:
    probability = np.zeros((2, 4, 4, 4), dtype=np.float32)
    probability[0] = np.nextafter(np.float32(1), np.float32(2))
    probability[:, 0, 0, 0] = 0.25, 0.75
    mask = probability.argmax(axis=0).astype(np.uint8)
    classes = ClassTable.from_values([1])
    found = Prediction("scan", mask, probability, None, Grid.from_spacing(mask.shape), classes)
    assert found.doubt.dtype == np.float32
    assert found.doubt[0, 0, 0] == 0.25
    assert found.doubt.sum() == 0.25


@pytest.mark.parametrize(("opinions", "classes"), [(2, 4), (3, 3), (4, 2)])
def test_the_most_that_opinions_can_differ_is_one(opinions: int, classes: int) -> None:
    """They do if each is sure of a class of its own, or, with more opinions than classes, as many of each class."""
    sure = np.eye(classes, dtype=np.float32)[np.arange(opinions) % classes]
    found = disagreement(sure[..., None, None, None])
    assert found is not None
    assert found.item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("volume", "told"), [(1936.2, "1,936"), (100.4, "100"), (99.96, "100"), (2.345, "2.35"), (0, "0")]
)
def test_volumes_are_written_with_three_digits(volume: float, told: str) -> None:
    assert millilitres(volume) == told
