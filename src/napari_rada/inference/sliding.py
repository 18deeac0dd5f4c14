"""Sliding-window prediction of the three networks over a whole working volume.

Shape legend: N networks, C classes, Z Y X volume, D H W tile, B tiles per batch.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_rada.inference.window import TileGrid, slide, widened
from napari_rada.memory import is_out_of_memory, release
from napari_rada.models import stopping
from napari_rada.models.device import autocast
from napari_rada.models.networks import NetworkInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.control import RunControl
    from napari_rada.data.grid import Shape
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.settings import InferenceConfig


SMALLEST_TILE = 16
"""Tiles are not halved below this many voxels."""


class VolumeInput(NamedTuple):
    """Network input for a whole volume: image (Z, Y, X), prior (C, Z, Y, X), cues (J, Z, Y, X), on the working grid."""

    image: NDArray[np.float32]
    prior: NDArray[np.floating]
    cues: NDArray[np.floating]


def blank_prior(image: NDArray[np.float32], num_classes: int) -> VolumeInput:
    """Input of V-Nets for a scan in which nobody annotated anything."""
    prior = np.full((num_classes, *image.shape), 1.0 / num_classes, dtype=np.float32)
    return VolumeInput(image, prior, np.zeros((1, *image.shape), dtype=np.float32))


def predicted_softmax(
    model: TripleViewModel,
    volume: VolumeInput,
    tile: Shape,
    config: InferenceConfig,
    control: RunControl,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
    networks: Sequence[int] | None = None,
    on_shortage: Callable[[str], None] = lambda change: None,
) -> NDArray[np.float32]:
    """Return the softmax of each network, predicted tile by tile, tiles overlapping and weighted by a Gaussian.

    Where memory runs out it begins again with one tile at a time, then with smaller ones, at last on the CPU.

    Parameters
    ----------
    on_tile
        Called with (batches of tiles done, in all) after each batch.
    networks
        Which of the networks to ask; by default all.
    on_shortage
        Called with what is changed when memory ran out.

    Returns
    -------
    numpy.ndarray
        (N, C, Z, Y, X) float32: the softmax of each network.

    Raises
    ------
    Stopped
        If a stop was requested; looked at before every batch of tiles, and within them on a processor.
    MemoryError, RuntimeError
        If memory runs out with the smallest tiles too.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        rungs = _ladder(tile, config, device)
        for rung, following in pairwise(rungs):
            try:
                return _predict(model, volume, rung, control, on_tile, networks)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            release()  # after the error, whose frames held the tensors
            on_shortage(following.change)
            model.moved_to(following.device)
        return _predict(model, volume, rungs[-1], control, on_tile, networks)
    finally:
        model.moved_to(device).train(was_training)


class _Rung(NamedTuple):
    """One step of the ladder: what was changed, and everything as it is then."""

    change: str
    tile: Shape
    config: InferenceConfig
    device: torch.device


def _ladder(tile: Shape, config: InferenceConfig, device: torch.device) -> list[_Rung]:
    rungs = [_Rung("", tile, config, device)]
    if config.tiles_per_batch > 1:
        single = config.model_copy(update={"tiles_per_batch": 1})
        rungs.append(rungs[-1]._replace(change="one tile at a time", config=single))
    for _ in range(2):
        depth, height, width = (max(min(side, SMALLEST_TILE), side // 2) for side in rungs[-1].tile)
        if (depth, height, width) != rungs[-1].tile:
            change = f"tiles of {[depth, height, width]} voxels"
            rungs.append(rungs[-1]._replace(change=change, tile=(depth, height, width)))
    if device.type != "cpu":
        change = "the processor instead of the graphics card"
        rungs.append(rungs[-1]._replace(change=change, device=torch.device("cpu")))
    return rungs


def _predict(
    model: TripleViewModel,
    volume: VolumeInput,
    rung: _Rung,
    control: RunControl,
    on_tile: Callable[[int, int], None],
    networks: Sequence[int] | None,
) -> NDArray[np.float32]:
    config, device = rung.config, rung.device
    depth, height, width = volume.image.shape
    grid = TileGrid((depth, height, width), rung.tile, config.overlap)
    total = ceil(len(grid.touching(grid.whole)) / config.tiles_per_batch)
    done = 0

    def predict_tiles(tiles_BIDHW: Tensor) -> Tensor:
        nonlocal done
        control.check()
        tiles = tiles_BIDHW.to(device, memory_format=model.memory_format)
        with autocast(device):
            logits_NBCDHW = model(as_input(tiles, model.num_classes), networks)
        done += 1
        on_tile(done, total)
        softmax_BNCDHW = torch.softmax(logits_NBCDHW.float(), dim=2).movedim(0, 1)
        return softmax_BNCDHW.flatten(1, 2).cpu()

    with torch.inference_mode(), stopping.looked_for(model, control, device):
        whole = widened(as_tensor(volume), grid)
        stacked = slide(whole, grid, grid.whole, config.tiles_per_batch, predict_tiles)
    return np.asarray(stacked.reshape(-1, model.num_classes, *volume.image.shape).numpy())


def as_tensor(volume: VolumeInput) -> Tensor:
    """Stack the input's channels: (1 + C + J, Z, Y, X), image first, cues last."""
    prior, cues = volume.prior.astype(np.float32), volume.cues.astype(np.float32)
    return torch.from_numpy(np.concatenate([volume.image[None], prior, cues]))


def as_input(tiles_BIDHW: Tensor, num_classes: int) -> NetworkInput:
    """Take the stacked channels of tiles apart again."""
    return NetworkInput(tiles_BIDHW[:, 0], tiles_BIDHW[:, 1 : 1 + num_classes], tiles_BIDHW[:, 1 + num_classes :])
