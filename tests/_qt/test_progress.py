from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_rada._qt.progress import volumes

if TYPE_CHECKING:
    from napari_rada.prediction import Prediction


class Sized:
    def __init__(self, **volumes: float) -> None:
        self._volumes = volumes

    def volumes_ml(self) -> dict[str, float]:
        return self._volumes


@pytest.mark.parametrize(
    ("ml", "told"), [(1943.2, "1,943"), (217.4, "217"), (99.96, "100"), (17.26, "17.3"), (0.0213, "0.0213"), (0.0, "0")]
)
def test_volumes_are_told_without_powers_of_ten(ml: float, told: str) -> None:
    prediction: Prediction = Sized(organ=ml, other=1.0)  # type: ignore[assignment]
    assert volumes(prediction) == f"organ: {told} ml, other: 1 ml"
