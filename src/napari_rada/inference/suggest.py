"""Which slice to annotate next: where the networks disagree most, far from what is annotated already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.grid import Spacing

REACH = 10.0
"""What an annotated slice is taken to settle around it, in units of the finest spacing."""


@dataclass(frozen=True)
class Suggestion:
    """A slice worth annotating; `score` in 0..1 compares it with the most disputed slice of the volume."""

    plane: AnnotatedSlice
    score: float


def suggest_slice(
    disagreement: NDArray[np.float32], spacing: Spacing, annotated: Sequence[AnnotatedSlice]
) -> Suggestion:
    """Return the slice with the largest sum of disagreement times novelty.

    Novelty is 1 - exp(-d / `REACH`), d the distance to the nearest annotated parallel slice: 0 in it, 1 far away.

    Parameters
    ----------
    disagreement
        (z, y, x), not negative.
    spacing
        mm along (z, y, x).
    """
    scores = [_axis_scores(disagreement, axis, spacing, annotated) for axis in range(3)]
    raw = [disagreement.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    axis = int(np.argmax([score.max() for score in scores]))
    index = int(np.argmax(scores[axis]))
    highest = max(float(total.max()) for total in raw)
    return Suggestion(AnnotatedSlice(axis, index), float(scores[axis][index]) / highest if highest > 0 else 0.0)


def _axis_scores(
    disagreement: NDArray[np.float32], axis: int, spacing: Spacing, annotated: Sequence[AnnotatedSlice]
) -> NDArray[np.float64]:
    total = disagreement.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
    parallel = [plane.index for plane in annotated if plane.axis == axis]
    if not parallel:
        return np.asarray(total)
    index = np.arange(len(total))
    distance = np.min([np.abs(index - other) for other in parallel], axis=0) * spacing[axis] / min(spacing)
    return np.asarray(total * (1.0 - np.exp(-distance / REACH)))
