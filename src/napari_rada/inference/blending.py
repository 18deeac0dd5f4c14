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
    begun
        What the networks said before they learned anything (C, …), which is a propagation that can be coarser than
        this one. None if they began from nothing; then the two are mixed, whatever the settings say of corrections.
    """
    if config.corrections and begun is not None:
        found = corrected(propagation, begun, networks, config.blend)
        return sized_like(found, propagation) if config.keep_size else found
    mixed = sized_like(networks, propagation) if config.keep_size else networks.copy()
    share = np.float32(config.blend)
    mixed *= share
    for own, other in zip(mixed, propagation, strict=True):  # a class at a time, for large volumes
        own += (np.float32(1.0) - share) * other
    return mixed


def corrected(
    probability: NDArray[np.float32], before: NDArray[np.float32], after: NDArray[np.float32], share: float
) -> NDArray[np.float32]:
    """Change a probability by a share of what another one was changed, in log-odds; all (C, …)."""
    found = np.empty_like(probability)
    for own, old, new, changed in zip(probability, before, after, found, strict=True):  # a class at a time
        np.maximum(new, np.float32(FLOOR), out=changed)
        changed /= np.maximum(old, np.float32(FLOOR))
        np.power(changed, np.float32(share), out=changed)
        changed *= np.maximum(own, np.float32(FLOOR))
    found /= found.sum(axis=0)
    return found


def sized_like(probability: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make every foreground class take as many voxels as in a reference, all (C, …), by a constant in log-odds.

    The constants are found on at most `SAMPLE` values, evenly spread. A class that the reference does not have there
    stays as it is.
    """
    step = -(-probability.size // SAMPLE)
    while gcd(step, probability[0].size) > 1:  # else the same few places along an axis
        step += 1
    some = [values.reshape(len(values), -1)[:, ::step] for values in (probability, reference)]
    return shifted(probability, size_offsets(*some))


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


def shifted(probability: NDArray[np.float32], offsets_C: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a probability (C, …) with a constant added to the log-odds of each class."""
    moved = np.maximum(probability, np.float32(FLOOR))
    moved *= np.exp(offsets_C).reshape(-1, *[1] * (moved.ndim - 1))
    moved /= moved.sum(axis=0)
    return moved


def _offset(scores_Cn: NDArray[np.float32], offsets: NDArray[np.float32], index: int, wanted: int) -> float:
    """Return the constant with which a class beats the others in the wanted number of voxels."""
    others = [other for other in range(len(scores_Cn)) if other != index]
    needed_n = np.max(scores_Cn[others] + offsets[others, None], axis=0) - scores_Cn[index]
    last = min(wanted, needed_n.size) - 1
    return float(np.clip(np.partition(needed_n, last)[last] + np.float32(FLOOR), -LARGEST, LARGEST))
