"""Tiny volumes and settings on which the real engine runs in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.config import RunConfig
from napari_rada.data.case import Case

if TYPE_CHECKING:
    from numpy.typing import NDArray

CENTRE = (10, 13, 12)
SHAPE = (20, 26, 24)


def ball(shape: tuple[int, int, int] = SHAPE, radius: float = 6.0) -> NDArray[np.uint16]:
    """Make the dense labels of a ball, value 1."""
    z, y, x = np.indices(shape)
    inside = (z - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (x - CENTRE[2]) ** 2 <= radius**2
    return inside.astype(np.uint16)


def ball_image(labels: NDArray[np.uint16], seed: int = 0) -> NDArray[np.float32]:
    """Make a noisy scan of the ball."""
    noise = np.random.default_rng(seed).normal(0, 0.15, labels.shape)
    return (labels + noise).astype(np.float32)


def ball_case(name: str = "ball", seed: int = 0, *, labelled: bool = True) -> Case:
    """Make a case with three annotated slices through the centre of the ball."""
    labels = ball()
    image = ball_image(labels, seed)
    if not labelled:
        return Case.create(image, name=name)
    return Case.create(image, labels, slices=list(enumerate(CENTRE)), name=name)


def dice(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    """Of all that is not 0."""
    found, wanted = mask > 0, truth > 0
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def overfitting_config(**settings: Any) -> RunConfig:
    """Make a run that learns a tiny volume by heart, from the image alone."""
    alone = {"model__completion": False, "model__blocks": [1, 1, 1], "model__filters": 8, "inference__blend": 1.0}
    steps = {"training__iterations": 100, "training__learning_rate": 0.01, "training__patch": [16, 24, 24]}
    return tiny_config(**alone | steps | {"training__validate_every": 1000} | settings)


def fully_annotated() -> Case:
    """Make a case of which every axial slice is annotated."""
    dense = ball()
    return Case.create(ball_image(dense), dense, slices=[(0, index) for index in range(len(dense))])


def tiny_config(**settings: Any) -> RunConfig:
    """Make a run of seconds: tiny V-Nets on patches; `settings` with dots written as double underscores."""
    tiny = {
        "data.max_voxels": 300_000,
        "model.architecture": "vnet",
        "propagation.method": "diffusion",
        "training.patch_voxels": None,
        "training.learning_rate": 3e-3,
        "training.decay.warmup": 0.05,
        "training.cross.on_labelled": False,
        "training.pseudo_weight": 1.0,
        "training.centred": 0.7,
        "training.bfloat16": False,
        "inference.blend": 0.5,
        "model.filters": 4,
        "model.blocks": [1, 1],
        "training.iterations": 4,
        "training.patch": [16, 16, 16],
        "training.labelled_patches": 1,
        "training.unlabelled_patches": 1,
        "training.validate_every": 2,
        "data.crop_margin": None,
        "guidance.source": "none",
    }
    return RunConfig.from_preset("quick").with_settings(
        tiny | {name.replace("__", "."): value for name, value in settings.items()}
    )
