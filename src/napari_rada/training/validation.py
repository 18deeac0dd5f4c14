"""Honest figures while training: each network is judged in the view that it is not taught.

The propagation that such a network is given, and that it is measured against, was made without that view as well.

Shape legend: C classes, n voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_rada.inference.blending import blended
from napari_rada.inference.sliding import VolumeInput, blank_prior, predicted_softmax
from napari_rada.models.networks import begun_as
from napari_rada.training.team import ALONE
from napari_rada.training.volumes import third_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.training.team import Team
    from napari_rada.training.volumes import HeldOutView, Volume


class HeldOutScore(NamedTuple):
    """Mean Dice (0..1) over the foreground classes on held-out annotated voxels.

    `dice` is that of networks and propagation together, as for prediction, if the networks complete a propagation.
    Networks that work from the image alone are for scans that nobody annotated, and judged alone. `propagation` is that
    of the propagation alone.
    """

    dice: float
    propagation: float


def score_held_out(
    model: TripleViewModel, volumes: Sequence[Volume], config: RunConfig, control: RunControl, team: Team = ALONE
) -> HeldOutScore | None:
    """Judge every network where it was not taught; None if no volume has a view to hold out.

    Each process of a team judges on its share of the volumes; the result is that on all.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    counts_2C3 = np.zeros((2, model.num_classes, 3))
    for volume in [volume for volume in volumes if volume.held_out][team.rank :: team.size]:
        for network, pair in enumerate(config.training.view_pairs[: config.model.networks]):
            view = third_view(pair)
            held_out = volume.held_out.get(view)
            if held_out is not None:
                probability = predict_view(model, volume, view, held_out, network, config, control)
                found = as_judged(probability, held_out, config)
                counts_2C3 += [_count(found, held_out), _count(held_out.propagation, held_out)]
    counts_2C3 = team.total(torch.from_numpy(counts_2C3)).numpy()
    intersection, predicted, true = np.moveaxis(counts_2C3[:, 1:], 2, 0)
    present = true[0] > 0
    if not present.any():
        return None
    dice = 2 * intersection[:, present] / (predicted[:, present] + true[:, present])
    return HeldOutScore(*(float(mean) for mean in dice.mean(axis=1)))


def as_judged(probability_Cn: NDArray[np.float32], held_out: HeldOutView, config: RunConfig) -> NDArray[np.float32]:
    """Return what a network is judged by at the voxels of a held-out view; its probability (C, n) is taken over."""
    if not config.model.completion:
        return probability_Cn
    propagation = held_out.propagation
    return blended(probability_Cn, propagation, config.inference, begun_as(propagation))


def _count(probability_Cn: NDArray[np.float32], held_out: HeldOutView) -> NDArray[np.float64]:
    """Voxels of intersection, prediction and truth per class, (C, 3)."""
    predicted, counts = probability_Cn.argmax(axis=0), []
    for index in range(len(probability_Cn)):
        p, t = predicted == index, held_out.truth == index
        counts.append(((p & t).sum(), p.sum(), t.sum()))
    return np.asarray(counts, dtype=np.float64)


def predict_view(
    model: TripleViewModel,
    volume: Volume,
    view: int,
    held_out: HeldOutView,
    network: int,
    config: RunConfig,
    control: RunControl,
) -> NDArray[np.float32]:
    """Probability (C, n) of one network at the held-out voxels, from slabs as thick as a patch."""
    result = np.zeros_like(held_out.propagation)
    for plane in held_out.slices:
        start, slab = _slab(volume, plane, view, model, config.training.patch[plane.axis])
        softmax = predicted_softmax(model, slab, config.training.patch, config.inference, control, networks=(network,))
        in_plane = held_out.voxels[:, plane.axis] == plane.index
        z, y, x = (held_out.voxels[in_plane] - start).T
        result[:, in_plane] = softmax[0][:, z, y, x]
    return result


def _slab(
    volume: Volume, plane: AnnotatedSlice, view: int, model: TripleViewModel, thickness: int
) -> tuple[NDArray[np.intp], VolumeInput]:
    """Cut the slab around a slice; returns its first voxel (Z, Y, X) and the input made without `view`."""
    size = volume.image.shape[plane.axis]
    first = int(np.clip(plane.index - thickness // 2, 0, max(0, size - thickness)))
    start = np.zeros(3, dtype=np.intp)
    start[plane.axis] = first
    where = tuple(slice(first, first + thickness) if axis == plane.axis else slice(None) for axis in range(3))
    image = np.ascontiguousarray(volume.image[where])
    if volume.prior is None or volume.cues is None:
        return start, blank_prior(image, model.num_classes)
    fold = (view, slice(None), *where)
    return start, VolumeInput(image, volume.prior[fold], volume.cues[fold])
