"""Which slice to annotate next: the one near which the mask is most in doubt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

REACH = 0.25
"""How far an annotated slice settles doubt to either side of it, as a share of how far doubt spreads along that axis
(its standard deviation)."""


@dataclass(frozen=True)
class Suggestion:
    """A slice worth annotating; `score` in 0..1 is the share of all doubt that it should settle."""

    plane: AnnotatedSlice
    score: float


def suggest_slice(doubt: NDArray[np.float32], annotated: Sequence[AnnotatedSlice]) -> Suggestion:
    """Return the slice, not annotated yet, that should settle the most doubt.

    That is the sum of the doubt in all slices parallel to it, each counted exp(-d / r): d is the distance between them,
    r the `REACH`. Slices of all axes compete, so that it does not matter how thick or how many they are. What lies
    around annotated slices need not be told apart, as there is little doubt. Where there is none anywhere, the score is
    0, and the slice is one in the middle of the scan.

    Parameters
    ----------
    doubt
        (z, y, x), not negative: how likely each voxel is wrong.
    """
    total = float(doubt.sum(dtype=np.float64))
    in_doubt = total > 0.0
    if not in_doubt:
        doubt, total = np.ones_like(doubt), float(doubt.size)
    best = Suggestion(AnnotatedSlice(0, 0), 0.0)
    for axis in range(3):
        settled = _settled(doubt, axis)
        settled[[plane.index for plane in annotated if plane.axis == axis]] = 0.0
        index = int(np.argmax(settled))
        if settled[index] > best.score * total:
            best = Suggestion(AnnotatedSlice(axis, index), min(float(settled[index]) / total, 1.0))
    return best if in_doubt else replace(best, score=0.0)


def _settled(doubt: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """Doubt that each slice along an axis would settle."""
    by_slice = doubt.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
    index = np.arange(len(by_slice))
    middle = np.average(index, weights=by_slice)
    reach = max(1.0, REACH * np.sqrt(np.average((index - middle) ** 2, weights=by_slice)))
    return np.asarray(np.exp(-np.abs(index[:, None] - index) / reach) @ by_slice)
