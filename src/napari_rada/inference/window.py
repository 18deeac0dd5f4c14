"""A window slides over a volume: overlapping tiles, each computed, weighted by a Gaussian and added up.

The tiles and weights are those of MONAI's `sliding_window_inference`, which the tests compare with. MONAI itself is
not used for it, because importing it takes longer than predicting a small scan.

Shape legend: I input channels, O output channels, Z Y X box, D H W tile, B tiles per batch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_rada.data.box import box_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from napari_rada.data.box import Box
    from napari_rada.data.grid import Shape

SIGMA = 0.125
"""Standard deviation of a tile's weights along each axis, as a share of its side (MONAI's)."""
LEAST_WEIGHT = 1e-3
"""What voxels in the corners of a tile weigh at least."""


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of a whole volume lie, by MONAI's rule.

    A volume smaller than a tile is widened on both sides; positions count from the widened volume's first voxel.

    Parameters
    ----------
    shape
        Of the volume.
    tile
        Of a tile.
    overlap
        Share of a tile that overlaps the next.
    """

    shape: Shape
    tile: Shape
    overlap: float

    @property
    def whole(self) -> Box:
        """The volume as a box of itself."""
        return (0, 0, 0), self.shape

    @property
    def before(self) -> Shape:
        """By how many voxels the volume is widened at its beginning."""
        z, y, x = (max(0, side - size) // 2 for size, side in zip(self.shape, self.tile, strict=True))
        return (z, y, x)

    def starts(self, axis: int) -> list[int]:
        """First voxels of the tiles along an axis; the last tile ends with the volume."""
        side = self.tile[axis]
        size = max(self.shape[axis], side)
        step = side if size == side else max(1, int(side * (1 - self.overlap)))
        return [min(number * step, size - side) for number in range(ceil((size - side) / step) + 1)]

    def touching(self, box: Box) -> list[Shape]:
        """First voxels of all tiles that touch a box of the volume, in the order in which they are blended."""
        per_axis = []
        for axis in range(3):
            low, high = box[0][axis] + self.before[axis], box[1][axis] + self.before[axis]
            per_axis.append([start for start in self.starts(axis) if start < high and start + self.tile[axis] > low])
        return [(z, y, x) for z, y, x in itertools.product(*per_axis)]

    def reach(self, box: Box) -> Box:
        """Box, of the widened volume, that the tiles which touch a box of the volume cover."""
        starts = self.touching(box)
        low, high = np.min(starts, axis=0), np.max(starts, axis=0) + self.tile
        return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def slide(whole_IZYX: Tensor, grid: TileGrid, box: Box, batch: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute a box of a volume tile by tile.

    Parameters
    ----------
    whole_IZYX
        What the tiles that touch the box cover (`TileGrid.reach`), of the widened volume, on the CPU.
    grid
        The tiles.
    box
        In voxels of the volume, not of the widened one.
    batch
        Tiles that are computed at a time.
    compute
        From tiles (B, I, D, H, W) to what is wanted of them (B, O, D, H, W), on the CPU.

    Returns
    -------
    Tensor
        (O, Z, Y, X) float32, on the CPU.
    """
    origin, starts = grid.reach(box)[0], grid.touching(box)
    weight_DHW = tile_weights(grid.tile)
    total_OZYX, weights_ZYX = None, torch.zeros(box_shape(box))
    for first in range(0, len(starts), batch):
        some = starts[first : first + batch]
        places = [_place(start, origin, grid.tile) for start in some]
        found_BODHW = compute(torch.stack([whole_IZYX[(slice(None), *place)] for place in places]))
        if total_OZYX is None:
            total_OZYX = torch.zeros((found_BODHW.shape[1], *box_shape(box)))
        for start, found_ODHW in zip(some, found_BODHW, strict=True):
            inside, target = _overlap(start, grid.tile, box, grid.before)
            part_ODHW = found_ODHW[(slice(None), *inside)]
            total_OZYX[(slice(None), *target)].addcmul_(part_ODHW, weight_DHW[inside])
            weights_ZYX[target] += weight_DHW[inside]
    assert total_OZYX is not None  # a box touches one tile at least
    return total_OZYX.div_(weights_ZYX)


def widened(whole_IZYX: Tensor, grid: TileGrid) -> Tensor:
    """Widen a volume that is smaller than a tile; its border voxels are repeated."""
    pad: list[int] = []
    for axis in (2, 1, 0):  # F.pad counts axes from the last
        missing = max(0, grid.tile[axis] - grid.shape[axis])
        pad += [grid.before[axis], missing - grid.before[axis]]
    return F.pad(whole_IZYX[None], pad, mode="replicate")[0] if any(pad) else whole_IZYX


def tile_weights(tile: Shape) -> Tensor:
    """Return the weights of a tile's voxels, a Gaussian, (D, H, W) float32."""
    weights = torch.ones(())
    for side in tile:
        offset = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(offset**2) / (2 * (SIGMA * side) ** 2))
    return weights.clamp_(min=max(float(weights.min()), LEAST_WEIGHT))


def boxes(shape: Shape, side: Shape) -> Iterator[Box]:
    """Cut a volume into boxes of `side` voxels; the last ones along each axis are smaller."""
    for low in itertools.product(*(range(0, size, step) for size, step in zip(shape, side, strict=True))):
        high = [min(a + step, size) for a, step, size in zip(low, side, shape, strict=True)]
        yield (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _place(start: Shape, origin: Shape, tile: Shape) -> tuple[slice, ...]:
    low = [a - b for a, b in zip(start, origin, strict=True)]
    return tuple(slice(a, a + side) for a, side in zip(low, tile, strict=True))


def _overlap(start: Shape, tile: Shape, box: Box, before: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a tile and a box lie over each other: in the tile, and in the box."""
    low = [max(a, b + c) for a, b, c in zip(start, box[0], before, strict=True)]
    high = [min(a + side, b + c) for a, side, b, c in zip(start, tile, box[1], before, strict=True)]
    inside = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    target = tuple(slice(a - b - c, e - b - c) for a, e, b, c in zip(low, high, box[0], before, strict=True))
    return inside, target
