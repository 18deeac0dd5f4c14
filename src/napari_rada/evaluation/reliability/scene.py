"""A tiny scan and tiny networks on which the real engine runs in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_rada import io
from napari_rada.config import RunConfig
from napari_rada.data.case import Case

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.box import Box

SHAPE = (20, 26, 24)
CENTRE = (10, 13, 12)
RADIUS = 6.0
SETTINGS = {
    "threads": "1",
    "device": "cpu",
    "model.architecture": "vnet",
    "model.filters": "4",
    "model.blocks": "[1, 1]",
    "model.dropout": "0.1",
    "training.patch": "[16, 16, 16]",
    "training.labelled_patches": "1",
    "training.unlabelled_patches": "1",
    "training.cross.noisy_passes": "1",
    "training.cross.on_labelled": "false",
    "training.pseudo_weight": "1",
    "training.bfloat16": "false",
}


@dataclass(frozen=True)
class SceneFiles:
    """The scan on disk: the image, and labels with a sidecar that names the annotated slices."""

    image: Path
    labels: Path

    @property
    def case(self) -> str:
        """The case as the command line takes it."""
        return f"{self.image},{self.labels}"


def make_case(seed: int = 0) -> Case:
    """Make a noisy ball with one annotated slice per axis through its centre."""
    z, y, x = np.indices(SHAPE)
    ball = (z - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (x - CENTRE[2]) ** 2 <= RADIUS**2
    noise = np.random.default_rng(seed).normal(0, 0.15, SHAPE)
    return Case.create(ball + noise, ball, slices=list(enumerate(CENTRE)), name="ball")


def write_scene(folder: Path) -> SceneFiles:
    """Write the scan to a folder."""
    case = make_case()
    files = SceneFiles(folder / "ball.nii.gz", folder / "ball_labels.nii.gz")
    io.write_volume(files.image, case.image, case.grid)
    io.save_labels(case, files.labels)
    return files


def tiny_config(**settings: str) -> RunConfig:
    """Make the quick preset tiny; `settings` with dots written as double underscores."""
    return RunConfig.from_preset("quick").with_settings(tiny_settings(**settings))


def tiny_settings(**settings: str) -> dict[str, str]:
    """Return the tiny settings, dotted, changed by `settings` with dots written as double underscores."""
    return SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}


def inside_balls(box: Box, period: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Which voxels of a part of a volume lie in balls that fill it like a lattice, one per `period` (z, y, x) voxels.

    A ball is half as wide as the period.
    """
    axes = np.ogrid[tuple(slice(first, end) for first, end in zip(*box, strict=True))]
    parts = [(axis % step - step / 2) / step for axis, step in zip(axes, period, strict=True)]
    return np.asarray(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 <= 1 / 16)
