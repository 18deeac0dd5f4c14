"""Synthetic scans of any size and number of classes: a lattice of noisy balls, three slices through them annotated.

The lattice grows with the scan, so that all sizes show the same scene and differ in the number of voxels alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.case import Case
from napari_rada.evaluation.reliability.scene import inside_balls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.box import Box
    from napari_rada.data.grid import Shape

BALLS = 4
"""Balls along each axis."""
MOST_CLASSES = 8
"""With more, some class would lie in no annotated slice."""
SMALLEST_SIDE = 16
"""Below this a ball has no voxels."""


def make_scan(shape: Shape, classes: int = 1, seed: int = 0, *, name: str = "balls") -> Case:
    """Make a scan of bright balls on a dark ground, one slice per axis annotated, with so many foreground classes."""
    rng = np.random.default_rng(seed)
    image, labels = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.uint16)
    for z in range(shape[0]):  # slice by slice: what is needed to make a scan is no part of what is measured
        labels[z] = _classes_in(((z, 0, 0), (z + 1, shape[1], shape[2])), shape, classes)[0]
        image[z] = 80 + 70 * (labels[z] > 0) + 12 * rng.standard_normal(shape[1:], dtype=np.float32)
    slices = [(axis, int(1.5 * size / BALLS)) for axis, size in enumerate(shape)]
    return Case.create(image, labels, slices=slices, name=name)


def _classes_in(box: Box, shape: Shape, classes: int) -> NDArray[np.uint16]:
    """Label values of a part of a scan; neighbouring balls are of different classes."""
    period = (shape[0] / BALLS, shape[1] / BALLS, shape[2] / BALLS)
    axes = np.ogrid[tuple(slice(first, end) for first, end in zip(*box, strict=True))]
    z, y, x = ((axis / step).astype(np.uint16) for axis, step in zip(axes, period, strict=True))
    return np.where(inside_balls(box, period), (z + 2 * y + 3 * x) % classes + 1, 0).astype(np.uint16)
