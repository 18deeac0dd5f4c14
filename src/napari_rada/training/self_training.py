"""Self-training: scans that nobody annotated teach as earlier networks label them.

Networks are trained on the annotated scans alone first. They label the others, and networks that begin anew learn from
all (Xie et al., Self-training with Noisy Student improves ImageNet classification, CVPR 2020). Networks that only went
on would keep their own mistakes (docs/tries.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.inference.cleanup import but_the_largest
from napari_rada.inference.sliding import blank_prior, predicted_softmax
from napari_rada.training.pace import ToCome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.settings import TrainingConfig
    from napari_rada.training.volumes import Volume

FORWARD = 1 / 3
"""Share of the time of learning from a patch that it takes to look at it."""


def teaches_itself(config: RunConfig, scans: Sequence[Case] | Sequence[Volume]) -> bool:
    """Tell whether a run has two halves, the second with scans that the networks of the first label."""
    training = config.training
    return training.self_training and training.unlabelled_patches > 0 and not all(scan.is_labelled for scan in scans)


def halves(config: RunConfig) -> tuple[RunConfig, RunConfig]:
    """Return the settings on the annotated scans alone, and on all; a time budget is shared evenly."""
    minutes = config.training.minutes
    second = config if minutes is None else config.with_settings({"training.minutes": minutes / 2})
    return second.with_settings({"training.unlabelled_patches": 0}), second


def smallest_batch(config: RunConfig, scans: Sequence[Case]) -> TrainingConfig:
    """Return the settings of training where it takes the fewest patches: in the first half, if a run has two."""
    return (halves(config)[0] if teaches_itself(config, scans) else config).training


def after(first: RunConfig, second: RunConfig) -> ToCome:
    """Return what is left when the first half is done, whose iterations take fewer patches."""
    training = second.training
    cost = _patches(training) / _patches(first.training)
    if training.minutes is not None:
        return ToCome(0, cost, training.minutes)
    return ToCome(training.iterations, cost)


def _patches(training: TrainingConfig) -> float:
    """Count the patches of an iteration, those that are only looked at for the time that they take."""
    learned = training.labelled_patches + training.unlabelled_patches
    noisy = learned if training.cross.on_labelled else training.unlabelled_patches
    return learned + FORWARD * training.cross.noisy_passes * noisy


def labelled_by(model: TripleViewModel, volume: Volume, config: RunConfig, control: RunControl) -> Volume:
    """Return an unlabelled volume with what the networks together find in it as labels, trusted everywhere.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    whole = blank_prior(volume.image, model.num_classes)
    softmax = predicted_softmax(model, whole, config.training.patch, config.inference, control)
    found = softmax.mean(axis=0).argmax(axis=0).astype(np.int16)
    for index in range(1, model.num_classes) if config.inference.largest_part else ():
        found[but_the_largest(found == index)] = 0
    each = (len(config.training.view_pairs), *found.shape)
    return replace(
        volume,
        pseudo=np.broadcast_to(found, each),
        pseudo_distance=np.broadcast_to(np.float32(0.0), each),
    )
