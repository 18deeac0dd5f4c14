"""Which slice to annotate next: the one near which the opinions contradict each other most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

REACH = 0.5
"""How far an annotated slice settles doubt to either side of it, as a share of how far doubt spreads along that axis
(its standard deviation)."""


@dataclass(frozen=True)
class Suggestion:
    """A slice worth annotating; `score` in 0..1 is the share of all doubt that it should settle."""

    plane: AnnotatedSlice
    score: float


def suggest_slice(disagreement: NDArray[np.float32], annotated: Sequence[AnnotatedSlice]) -> Suggestion:
    """Return the slice, not annotated yet, that should settle the most doubt.

    That is the sum of the disagreement in all slices parallel to it, each counted exp(-d / r): d is the distance
    between them, r the `REACH`. Slices of all axes compete, so that it does not matter how thick or how many they are.
    What lies around annotated slices need not be told apart, as there is little disagreement.

    Parameters
    ----------
    disagreement
        (z, y, x), not negative.
    """
    total = float(disagreement.sum(dtype=np.float64))
    best = Suggestion(AnnotatedSlice(0, 0), 0.0)
    for axis in range(3):
        settled = _settled(disagreement, axis)
        settled[[plane.index for plane in annotated if plane.axis == axis]] = 0.0
        index = int(np.argmax(settled))
        if total > 0 and settled[index] > best.score * total:
            best = Suggestion(AnnotatedSlice(axis, index), float(settled[index]) / total)
    return best


def _settled(disagreement: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """Doubt that each slice along an axis would settle."""
    doubt = disagreement.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
    index = np.arange(len(doubt))
    if not doubt.any():
        return np.asarray(doubt)
    middle = np.average(index, weights=doubt)
    reach = max(1.0, REACH * np.sqrt(np.average((index - middle) ** 2, weights=doubt)))
    return np.asarray(np.exp(-np.abs(index[:, None] - index) / reach) @ doubt)
