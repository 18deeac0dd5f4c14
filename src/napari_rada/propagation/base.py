"""Propagation: from a few annotated slices to dense pseudo-labels. The interface, not the ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_rada.control import RunControl
    from napari_rada.data.working import WorkingCase

Probability: TypeAlias = NDArray[np.float32]
OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (pieces done, pieces in all)."""


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What propagation says about every voxel of a working grid.

    Parameters
    ----------
    method
        The way that made it.
    probability
        (C, Z, Y, X) float32, sums to 1 over C: the fused opinion of all annotated slices, which themselves are exact.
    labels
        (V, Z, Y, X) int16 class index: one dense labelling per view, or V = 1 if the way does not tell views apart.
    distance
        (V, Z, Y, X) float32: slices away from the annotation, in units of the finest spacing; 0 inside it, infinite
        where the view has none. Trust in `labels` is alpha ** distance.
    held_out
        Per view, the probability (C, Z, Y, X) made *without* that view's slices, for honest comparison with
        them; None where no other slice exists, or if it was not asked for.
    """

    method: str
    probability: Probability
    labels: NDArray[np.int16]
    distance: NDArray[np.float32]
    held_out: tuple[Probability | None, ...]


class Propagator(Protocol):
    """One way to propagate."""

    def propagate(
        self, case: WorkingCase, *, held_out: bool, control: RunControl, on_progress: OnProgress
    ) -> PseudoLabels:
        """Make the pseudo-labels of a labelled case; looks at `control` at least once a second.

        Raises
        ------
        Stopped
            If a stop was requested.
        """
        ...
