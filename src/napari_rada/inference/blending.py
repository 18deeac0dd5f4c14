"""What networks and propagation say together about a scan with annotated slices.

Shape legend: C classes, … voxels, as a volume or in a row.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.settings import InferenceConfig

SWEEPS = 20
"""How often the classes are gone through at the most, since the voxels of one depend on the others."""
SETTLED = 0.01
"""Change of a constant, in log-odds, that is too small to go on for."""
LARGEST = 2.0
"""Largest constant, in log-odds: networks that say something else altogether are not turned round."""
FLOOR = 1e-4
"""Smallest probability that is told from 0."""
SAMPLE = 2**21
"""Values, those of all classes together, from which sizes are told."""


def blended(
    networks: NDArray[np.float32],
    propagation: NDArray[np.float32],
    config: InferenceConfig,
    begun: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Put the probabilities (C, …) of networks and propagation together by the configured share.

    Parameters
    ----------
    networks
        Taken over: what is returned is made in this array.
    begun
        What the networks said before they learned anything (C, …), which is a propagation that can be coarser than
        this one. None if they began from nothing; then the two are mixed, whatever the settings say of corrections.
    """
    if config.corrections and begun is not None:
        _correct(networks, begun, propagation, config.blend)
    else:
        _mix(networks, propagation, np.float32(config.blend))
    if config.keep_size:
        size_like(networks, propagation)
    return networks


def _mix(own: NDArray[np.float32], other: NDArray[np.float32], share: np.float32) -> None:
    """Make a probability (C, …), in place, the mean of it and another, by its share."""
    own *= share
    for one, two in zip(own, other, strict=True):  # a class at a time, for large volumes
        one += (np.float32(1.0) - share) * two


def _correct(
    after: NDArray[np.float32], before: NDArray[np.float32], probability: NDArray[np.float32], share: float
) -> None:
    """Make `after`, in place, a probability changed by a share of what `before` was changed to it, in log-odds.

    All are (C, …).
    """
    for changed, old, own in zip(after, before, probability, strict=True):  # a class at a time
        np.maximum(changed, np.float32(FLOOR), out=changed)
        changed /= np.maximum(old, np.float32(FLOOR))
        np.power(changed, np.float32(share), out=changed)
        changed *= np.maximum(own, np.float32(FLOOR))
    after /= after.sum(axis=0)


def size_like(probability: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    """Make every foreground class take as many voxels as in a reference, all (C, …), by a constant in log-odds.

    The probability is changed in place. The constants are found on at most `SAMPLE` values, evenly spread. A class that
    the reference does not have there stays as it is.
    """
    if not probability.size:
        return
    step = -(-probability.size // SAMPLE)
    while gcd(step, probability[0].size) > 1:  # else the same few places along an axis
        step += 1
    some = [values.reshape(len(values), -1)[:, ::step] for values in (probability, reference)]
    shift(probability, size_offsets(*some))


def size_offsets(probability: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find the constant in log-odds (C,) for each class by which it is as large as in a reference, all (C, …)."""
    classes = len(probability)
    wanted = np.bincount(reference.argmax(axis=0).ravel(), minlength=classes)
    scores_Cn = np.log(np.maximum(probability, np.float32(FLOOR))).reshape(classes, -1)
    offsets = np.zeros(classes, dtype=np.float32)
    for _ in range(SWEEPS):
        before = offsets.copy()
        for index in np.flatnonzero(wanted[1:]) + 1:
            offsets[index] = _offset(scores_Cn, offsets, int(index), int(wanted[index]))
        if np.abs(offsets - before).max() < SETTLED:
            break
    return offsets


def shift(probability: NDArray[np.float32], offsets_C: NDArray[np.float32]) -> None:
    """Add a constant to the log-odds of each class of a probability (C, …), in place."""
    np.maximum(probability, np.float32(FLOOR), out=probability)
    probability *= np.exp(offsets_C).reshape(-1, *[1] * (probability.ndim - 1))
    probability /= probability.sum(axis=0)


def _offset(scores_Cn: NDArray[np.float32], offsets: NDArray[np.float32], index: int, wanted: int) -> float:
    """Return the constant with which a class beats the others in the wanted number of voxels."""
    others = [other for other in range(len(scores_Cn)) if other != index]
    needed_n = np.max(scores_Cn[others] + offsets[others, None], axis=0) - scores_Cn[index]
    last = min(wanted, needed_n.size) - 1
    return float(np.clip(np.partition(needed_n, last)[last] + np.float32(FLOOR), -LARGEST, LARGEST))
