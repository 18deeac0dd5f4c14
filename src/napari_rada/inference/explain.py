"""Where the networks look for a class: Grad-CAM (Selvaraju et al. 2017) for segmentation (Vinogradova et al. 2020).

The score of a class is the sum of its logits over the voxels that a network gives to it. Its gradient at the
bottleneck, which both the decoder and the guidance read, averaged over space, weighs the bottleneck's channels.

Shape legend: B tiles per batch, C classes, F channels of the bottleneck, D H W tile, Z Y X volume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F

from napari_rada.inference.sliding import as_input, as_tensor
from napari_rada.inference.window import TileGrid, slide, widened

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.control import RunControl
    from napari_rada.data.grid import Shape
    from napari_rada.inference.sliding import VolumeInput
    from napari_rada.models.networks import ViewNetwork
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.settings import InferenceConfig


def class_heat(
    model: TripleViewModel,
    volume: VolumeInput,
    class_index: int,
    tile: Shape,
    config: InferenceConfig,
    control: RunControl,
    on_network: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Return the mean over the networks of their heat for a class, (Z, Y, X) in 0..1; all 0 if none finds it.

    Every network goes over the volume twice: for the weights of its channels, then for the heat.

    Parameters
    ----------
    on_network
        Called with (passes done, passes in all).

    Raises
    ------
    Stopped
        If a stop was requested; looked at before every batch of tiles.
    """
    was_training = model.training
    model.eval()
    inputs, heats = as_tensor(volume), []
    passes = 2 * len(model.networks)
    try:
        for number, network in enumerate(cast("list[ViewNetwork]", list(model.networks))):
            on_network(2 * number, passes)
            weights_F = _channel_weights(model, network, inputs, class_index, tile, config, control)
            on_network(2 * number + 1, passes)
            heat = _heat(network, inputs, weights_F, tile, config, control)
            heats.append(heat / max(float(heat.max()), torch.finfo(torch.float32).tiny))
    finally:
        model.train(was_training)
    on_network(passes, passes)
    return np.asarray(torch.stack(heats).mean(dim=0).numpy(), dtype=np.float32)


def _channel_weights(
    model: TripleViewModel,
    network: ViewNetwork,
    inputs: Tensor,
    class_index: int,
    tile: Shape,
    config: InferenceConfig,
    control: RunControl,
) -> Tensor:
    """Gradient of the class's score by each channel of the bottleneck, summed over the volume, (F,).

    The score is that of the voxels that the network gives to the class in a prediction.
    """
    gradients: list[Tensor] = []

    def score(tiles_BIDHW: Tensor) -> Tensor:
        parts = as_input(tiles_BIDHW, network.num_classes)
        with torch.enable_grad():
            features = network.features(parts)
            logits = network.logits(features, parts)
            found = model.corrected(logits[None], parts)[0].argmax(dim=1) == class_index
            total = (logits[:, class_index] * found).sum()
            (gradient,) = torch.autograd.grad(total, features.bottleneck_BCDHW)
        gradients.append(gradient.mean(dim=(2, 3, 4)).sum(dim=0))
        return found[:, None].float()

    _slide(network, inputs, score, tile, config, control)
    return torch.stack(gradients).sum(dim=0)


def _heat(
    network: ViewNetwork, inputs: Tensor, weights_F: Tensor, tile: Shape, config: InferenceConfig, control: RunControl
) -> Tensor:
    """Positive part of the weighted bottleneck, brought to the volume's grid, (Z, Y, X) on the CPU."""

    def heat(tiles_BIDHW: Tensor) -> Tensor:
        with torch.no_grad():
            bottleneck = network.features(as_input(tiles_BIDHW, network.num_classes)).bottleneck_BCDHW
        coarse = F.relu(torch.einsum("f,bfdhw->bdhw", weights_F, bottleneck))[:, None]
        padded = [size * network.stride for size in coarse.shape[2:]]
        fine = F.interpolate(coarse, size=padded, mode="trilinear", align_corners=False)
        depth, height, width = tiles_BIDHW.shape[2:]
        return fine[:, :, :depth, :height, :width]

    return _slide(network, inputs, heat, tile, config, control)[0]


def _slide(
    network: ViewNetwork,
    inputs: Tensor,
    compute: Callable[[Tensor], Tensor],
    tile: Shape,
    config: InferenceConfig,
    control: RunControl,
) -> Tensor:
    """Apply `compute` to overlapping tiles on the network's device and blend what it returns: (O, Z, Y, X)."""
    device = next(network.parameters()).device
    depth, height, width = inputs.shape[1:]
    grid = TileGrid((depth, height, width), tile, config.overlap)

    def on_device(tiles_BIDHW: Tensor) -> Tensor:
        control.check()
        return compute(tiles_BIDHW.to(device)).cpu()

    return slide(widened(inputs, grid), grid, grid.whole, config.tiles_per_batch, on_device)
