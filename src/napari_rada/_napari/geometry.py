"""Where napari's world and the scanner's world meet.

A `Grid` speaks RAS: x to the right, y to the front, z to the head. On a napari canvas the last two world axes run to
the right and down, so a scan stands upright, the patient's right on the left, when the world axes (0, 1, 2) are
(feet, back, left): RAS in reverse order with every sign turned. That is the one convention of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.grid import Grid

if TYPE_CHECKING:
    from napari_rada.data.grid import Affine, Shape

WORLD_TO_RAS: Affine = np.array(
    [[0.0, 0.0, -1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Takes napari's world (feet, back, left, 1) to RAS (right, front, head, 1); its own inverse."""

OBLIQUE = 1e-4
"""Direction cosines beyond this off the axes count as oblique."""


@dataclass(frozen=True, eq=False)
class Placement:
    """How a layer shows a grid.

    Parameters
    ----------
    scale
        mm along (z, y, x), positive.
    affine
        (4, 4); applied after `scale`. Its linear part only mirrors axes: napari slices along world axes and paints
        beside the slice shown when they are not the data's own.
    """

    scale: tuple[float, float, float]
    affine: Affine

    @property
    def matrix(self) -> Affine:
        """(4, 4) from voxel index (z, y, x, 1) to napari's world."""
        return np.asarray(self.affine @ np.diag([*self.scale, 1.0]))


def upright(grid: Grid) -> Placement:
    """Show a scan upright: head up, front up, the patient's right on the left.

    The placement is exact unless the grid is oblique or stores its axes in another order than (z, y, x). Then
    only spacing, mirroring and the centre are shown; the layer's metadata keeps the true affine.
    """
    ideal = WORLD_TO_RAS @ grid.affine
    cosines = ideal[:3, :3] / np.asarray(grid.spacing)
    along = np.abs(cosines).argmax(axis=0)
    signs = np.where(cosines[along, range(3)] < 0, -1.0, 1.0)
    affine = np.diag([*signs, 1.0])
    centre = np.append((np.asarray(grid.shape) - 1) / 2, 1.0)
    affine[:3, 3] = (ideal @ centre)[:3] - signs * grid.spacing * centre[:3]
    if np.abs(cosines - np.diag(signs)).max() < OBLIQUE:
        affine[:3, 3] = ideal[:3, 3]
    return Placement(grid.spacing, affine)


def as_stored(grid: Grid) -> Placement:
    """Show a volume without anatomy, such as a TIFF stack: first row on top, first slice first."""
    return Placement(grid.spacing, np.eye(4))


def grid_of_world(shape: Shape, matrix: Affine) -> Grid:
    """Return the grid of a volume that napari shows with `matrix`, from (z, y, x, 1) to world millimetres."""
    return Grid(shape, WORLD_TO_RAS @ matrix)
