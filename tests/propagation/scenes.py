"""Small annotated scenes with a known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.control import RunControl
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.working import WorkingCase, make_working_case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.propagation.base import Propagator, PseudoLabels

SHAPE = (24, 28, 32)
CENTRE = (11, 13, 15)
THREE = tuple(enumerate(CENTRE))


def ellipsoids(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint16]:
    """Dense labels: 1 a large ellipsoid, 2 a small one inside its right half; 0 elsewhere."""
    z, y, x = np.indices(shape)
    outer = ((z - 11) / 8) ** 2 + ((y - 13) / 9) ** 2 + ((x - 15) / 11) ** 2 <= 1
    inner = ((z - 11) / 4) ** 2 + ((y - 13) / 5) ** 2 + ((x - 18) / 5) ** 2 <= 1
    return np.where(inner & outer, 2, outer).astype(np.uint16)


def redrawn(labels: NDArray[np.uint16], view: int) -> NDArray[np.uint16]:
    """Draw something else in the annotated slice of one view: a few pixels in a corner."""
    plane = np.zeros_like(labels.take(0, view))
    plane[:2, :2] = 1
    other = labels.copy()
    np.moveaxis(other, view, 0)[CENTRE[view]] = plane
    return other


def scan(labels: NDArray[np.uint16], noise: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    """Make an image of intensity 0, 1, 2 plus noise."""
    return (labels + np.random.default_rng(seed).normal(0, noise, labels.shape)).astype(np.float32)


def working(
    image: NDArray[np.float32],
    labels: NDArray[np.uint16],
    slices: Sequence[tuple[int, int]] = THREE,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    max_voxels: int | None = None,
) -> WorkingCase:
    """Bring a scene to its working grid."""
    case = Case.create(image, labels, slices=list(slices), spacing=spacing)
    return make_working_case(case, check_trainable([case]), max_voxels=max_voxels)


def tube(shape: tuple[int, int, int] = (9, 48, 48)) -> NDArray[np.uint16]:
    """Dense labels of a tube along z that moves by 1.5 pixels a slice and changes from a circle to an ellipse."""
    z, y, x = np.indices(shape)
    along = z - shape[0] // 2
    wide, high = 9 + 0.4 * along, 9 - 0.4 * along
    return (((x - 24 - 1.5 * along) / wide) ** 2 + ((y - 24 - along) / high) ** 2 <= 1).astype(np.uint16)


TUBE_THREE = [(0, 4), (1, 24), (2, 24)]


def tube_case(
    slices: Sequence[tuple[int, int]],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    labels: NDArray[np.uint16] | None = None,
) -> WorkingCase:
    """Make a scan of the tube, annotated with the tube itself or with other labels."""
    image = tube() + np.random.default_rng(0).normal(0, 0.05, tube().shape)
    return working(image.astype(np.float32), tube() if labels is None else labels, slices, spacing)


def run(propagator: Propagator, case: WorkingCase, *, held_out: bool = False) -> PseudoLabels:
    """Propagate without listening."""
    return propagator.propagate(case, held_out=held_out, control=RunControl(), on_progress=lambda done, total: None)


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))
