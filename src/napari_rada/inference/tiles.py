"""Prediction of a part of a volume, equal to that part of the whole prediction.

The tiles are those of the sliding window over the whole volume (`napari_rada.inference.sliding`): a part is blended
of all tiles that touch it, in the same order and with the same weights, however far they reach beyond it. So parts join
without a seam. What differs from the whole prediction is how tiles fall into batches, if a batch has more than one.

Shape legend: N networks, C classes, Z Y X part, D H W tile, B tiles per batch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_rada.data.working import box_shape
from napari_rada.memory import is_out_of_memory, release
from napari_rada.models.device import autocast
from napari_rada.models.networks import NetworkInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.config import InferenceConfig
    from napari_rada.control import RunControl
    from napari_rada.data.grid import Shape
    from napari_rada.data.working import Box
    from napari_rada.models.triple_view import TripleViewModel


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


def predict_part(
    model: TripleViewModel,
    read: Callable[[Box], NDArray[np.float32]],
    grid: TileGrid,
    box: Box,
    config: InferenceConfig,
    control: RunControl,
) -> NDArray[np.float32]:
    """Predict a box of a volume in which nobody annotated anything.

    Where memory runs out it begins again with one tile at a time, then on the CPU; tiles are not made smaller, since
    the parts would no longer fit each other.

    Parameters
    ----------
    read
        Returns a box of the volume as the networks see it, intensities in 0..1.

    Returns
    -------
    numpy.ndarray
        (N, C, Z, Y, X) float32: the softmax of each network.

    Raises
    ------
    Stopped
        If a stop was requested; looked at before every batch of tiles.
    MemoryError, RuntimeError
        If memory runs out at the last step too.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        image = _widened(read, grid, grid.reach(box))
        rungs = list(dict.fromkeys([(config.tiles_per_batch, device), (1, device), (1, torch.device("cpu"))]))
        for batch, where in rungs[:-1]:
            try:
                return _blend(model.moved_to(where), image, grid, box, batch, control)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            release()  # after the error, whose frames held the tensors
        batch, where = rungs[-1]
        return _blend(model.moved_to(where), image, grid, box, batch, control)
    finally:
        model.moved_to(device).train(was_training)


def _widened(read: Callable[[Box], NDArray[np.float32]], grid: TileGrid, reach: Box) -> NDArray[np.float32]:
    """Read what tiles cover; beyond the volume its border voxels are repeated."""
    low = [max(0, a - b) for a, b in zip(reach[0], grid.before, strict=True)]
    high = [min(size, a - b) for size, a, b in zip(grid.shape, reach[1], grid.before, strict=True)]
    inside = read(((low[0], low[1], low[2]), (high[0], high[1], high[2])))
    pad = [
        (first + b - a, end - b - last)
        for first, last, a, end, b in zip(low, high, reach[0], reach[1], grid.before, strict=True)
    ]
    return np.pad(inside, pad, mode="edge") if any(map(any, pad)) else inside


def _blend(
    model: TripleViewModel,
    image: NDArray[np.float32],
    grid: TileGrid,
    box: Box,
    batch: int,
    control: RunControl,
) -> NDArray[np.float32]:
    """Predict all tiles that touch a box and blend them, on the CPU."""
    # MONAI takes seconds to import; nothing before the first prediction needs it.
    from monai.data.utils import compute_importance_map

    origin, before = grid.reach(box)[0], grid.before
    weight_DHW = compute_importance_map(grid.tile, mode="gaussian", sigma_scale=0.125)
    channels = len(model.networks) * model.num_classes
    blended = torch.zeros((channels, *box_shape(box)))
    weights = torch.zeros(box_shape(box))
    starts = grid.touching(box)
    with torch.inference_mode():
        whole = torch.from_numpy(image)
        for first in range(0, len(starts), batch):
            control.check()
            some = starts[first : first + batch]
            places = [_place(start, origin, grid.tile) for start in some]
            softmax_BNCDHW = _softmax(model, torch.stack([whole[place] for place in places]))
            for start, softmax_NCDHW in zip(some, softmax_BNCDHW, strict=True):
                inside, target = _overlap(start, grid.tile, box, before)
                blended[(slice(None), *target)] += (softmax_NCDHW.flatten(0, 1) * weight_DHW)[(slice(None), *inside)]
                weights[target] += weight_DHW[inside]
        blended /= weights
    return np.asarray(blended.reshape(-1, model.num_classes, *box_shape(box)).numpy())


def _softmax(model: TripleViewModel, tiles_BDHW: Tensor) -> Tensor:
    """Softmax of the networks, (B, N, C, D, H, W) on the CPU."""
    device = next(model.parameters()).device
    image = tiles_BDHW[:, None].to(device, memory_format=model.memory_format)[:, 0]
    classes = model.num_classes
    prior = torch.full((len(image), classes, *image.shape[1:]), 1.0 / classes, device=device)
    with autocast(device):
        logits_NBCDHW = model(NetworkInput(image, prior, torch.zeros_like(image[:, None])))
    return torch.softmax(logits_NBCDHW.float(), dim=2).movedim(0, 1).cpu()


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


def boxes(shape: Shape, side: Shape) -> Iterator[Box]:
    """Cut a volume into boxes of `side` voxels; the last ones along each axis are smaller."""
    for low in itertools.product(*(range(0, size, step) for size, step in zip(shape, side, strict=True))):
        high = [min(a + step, size) for a, step, size in zip(low, side, shape, strict=True)]
        yield (low[0], low[1], low[2]), (high[0], high[1], high[2])
