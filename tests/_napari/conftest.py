"""What the viewer's tests share."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

# The OpenGL driver of a software display brings an LLVM that does not bear triton's beside it; see load_pipeline.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

SHAPE = (12, 14, 16)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).normal(100.0, 20.0, SHAPE).astype(np.float32)


@pytest.fixture
def image(volume: np.ndarray) -> Image:
    return Image(volume, name="scan", scale=(3.0, 1.5, 1.0), units=("mm",) * 3)


@pytest.fixture
def labels(image: Image) -> Labels:
    data = np.zeros(SHAPE, dtype=np.uint8)
    data[6, 4:10, 5:11] = 1
    data[3:9, 7, 5:11] = 1
    data[3:9, 4:10, 8] = 1
    return Labels(data, name="labels", scale=image.scale, units=image.units)


@pytest.fixture
def viewer(image: Image, labels: Labels) -> ViewerModel:
    model = ViewerModel()
    model.add_layer(image)
    model.add_layer(labels)
    return model
