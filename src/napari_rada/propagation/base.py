"""Propagation: from a few annotated slices to dense pseudo-labels. The interface, not the ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_rada.data.classes import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_rada.control import RunControl
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.stacking import Pool

Probability: TypeAlias = NDArray[np.float32]
OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (pieces done, pieces in all)."""
Pools: TypeAlias = "Mapping[int | None, Pool]"
"""How opinions are weighed, by the view that is left out, None for none."""


@dataclass(frozen=True, eq=False)
class Opinion:
    """One of several opinions: probability (C, Z, Y, X), and the case on the grid that it was formed on."""

    probability: Probability
    case: WorkingCase


@dataclass(frozen=True, eq=False)
class Shared:
    """What several opinions on one grid of a scan leave for the other grids of the same box.

    Parameters
    ----------
    pools
        How the opinions are weighed.
    carried_VCZYX
        What every view's slices say alone, carried outward on the grid of `carried`.
    carried
        All of them together.
    """

    pools: Pools
    carried_VCZYX: NDArray[np.float32]
    carried: Opinion


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
        (3, Z, Y, X) float32: away from the nearest annotated slice of each view, in units of the finest spacing; 0
        inside it, infinite where the view has none. Trust in `labels` is alpha ** distance.
    held_out
        Per view, the probability (C, Z, Y, X) made *without* that view's slices, for honest comparison with
        them; None where no other slice exists, or if it was not asked for.
    disagreement
        (Z, Y, X) float32 in 0..1: how much the opinions differ that `probability` is made of; None of one alone.
    opinions
        What was pooled, without what was held out; empty of one opinion alone.
    shared
        What other grids of the scan can take over; None of one opinion alone.
    """

    method: str
    probability: Probability
    labels: NDArray[np.int16]
    distance: NDArray[np.float32]
    held_out: tuple[Probability | None, ...]
    disagreement: NDArray[np.float32] | None = None
    opinions: tuple[Opinion, ...] = ()
    shared: Shared | None = None


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


def distance_to_slices(
    case: WorkingCase, slices: Sequence[Sequence[AnnotatedSlice]] | None = None
) -> NDArray[np.float32]:
    """Distance (3, Z, Y, X) to the nearest annotated slice of each view, in units of the finest spacing.

    Slices are whole planes, so the distance is along their axis; infinite for a view without slices.

    Parameters
    ----------
    slices
        Per view; None takes those of the case.
    """
    finest = min(case.spacing)
    slices = case.slices if slices is None else slices
    distance = np.full((len(slices), *case.shape), np.inf, dtype=np.float32)
    for view, planes in enumerate(slices):
        for plane in planes:
            along = np.abs(np.arange(case.shape[plane.axis]) - plane.index) * (case.spacing[plane.axis] / finest)
            column = along.reshape([-1 if axis == plane.axis else 1 for axis in range(3)])
            np.minimum(distance[view], column.astype(np.float32), out=distance[view])
    return distance


def truth_without(case: WorkingCase, view: int) -> NDArray[np.int16]:
    """Truth (Z, Y, X) of all slices but those of a view.

    The voxels in which slices of this view cross others are left out too: on a coarse grid their class may have
    been voted by this view.
    """
    return np.where(case.views & np.uint8(1 << view), np.int16(UNKNOWN), case.truth)


def can_hold_out(case: WorkingCase, view: int) -> bool:
    """Tell whether a view has slices and those of others are left to propagate without them."""
    others = any(planes for other, planes in enumerate(case.slices) if other != view)
    return bool(case.slices[view]) and others and bool((truth_without(case, view) != UNKNOWN).any())


def stamped(probability: Probability, truth: NDArray[np.int16]) -> Probability:
    """Make the annotated voxels exact, which interpolation blurs."""
    known = truth != UNKNOWN
    exact = probability.copy()
    exact[:, known] = np.eye(len(probability), dtype=np.float32)[truth[known]].T
    return exact
