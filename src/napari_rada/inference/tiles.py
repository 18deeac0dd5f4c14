"""Prediction of a part of a volume, equal to that part of the whole prediction.

The tiles are those of the sliding window over the whole volume (`napari_rada.inference.window`): a part is blended
of all tiles that touch it, in the same order and with the same weights, however far they reach beyond it. So parts join
without a seam. What differs from the whole prediction is how tiles fall into batches, if a batch has more than one.

Shape legend: N networks, C classes, Z Y X part, D H W tile, B tiles per batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_rada.data.box import box_shape
from napari_rada.inference.window import slide
from napari_rada.memory import is_out_of_memory, release
from napari_rada.models.device import autocast
from napari_rada.models.networks import NetworkInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.control import RunControl
    from napari_rada.data.box import Box
    from napari_rada.inference.window import TileGrid
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.settings import InferenceConfig


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
    """Predict all tiles that touch a box and blend them."""

    def softmax(tiles_BIDHW: Tensor) -> Tensor:
        control.check()
        return _softmax(model, tiles_BIDHW[:, 0]).flatten(1, 2)

    with torch.inference_mode():
        blended = slide(torch.from_numpy(image)[None], grid, box, batch, softmax)
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
