"""Carrying annotated slices outward, slice by slice: what registration and optical flow share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import WorkingCase


BEYOND = 0.9
"""Weight per slice beyond the outermost of parallel slices."""


class Chain(NamedTuple):
    """One annotated slice and the slices that it is carried to, one after the other."""

    view: int
    start: AnnotatedSlice
    targets: range


def chains_of_case(case: WorkingCase) -> list[Chain]:
    """Chains of all views."""
    return [chain for view, planes in enumerate(case.slices) for chain in chains_of_view(view, planes, case)]


def chains_of_view(view: int, planes: Sequence[AnnotatedSlice], case: WorkingCase) -> list[Chain]:
    """Both directions from each annotated slice, as far as it is the nearest of its view, and not past an empty one."""
    chains = []
    ordered = sorted(planes)
    for position, plane in enumerate(ordered):
        walls = [empty.index for empty in case.empty if empty.axis == plane.axis]
        first = max((wall + 1 for wall in walls if wall < plane.index), default=0)
        last = min((wall - 1 for wall in walls if wall > plane.index), default=case.shape[plane.axis] - 1)
        if position > 0:
            first = max(first, (ordered[position - 1].index + plane.index) // 2 + 1)
        if position < len(ordered) - 1:
            last = min(last, (plane.index + ordered[position + 1].index) // 2)
        chains.append(Chain(view, plane, range(plane.index + 1, last + 1)))
        chains.append(Chain(view, plane, range(plane.index - 1, first - 1, -1)))
    return chains


def view_weights(distance_VZYX: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Weights (V, Z, Y, X) of the views, α^distance (paper), that sum to 1 over the views.

    Only what is beyond the nearest slice counts: the weights relative to each other stay the same, and none vanishes
    far away from all slices.
    """
    weight = np.float32(alpha) ** (distance_VZYX - distance_VZYX.min(axis=0))
    return np.asarray(weight / weight.sum(axis=0), dtype=np.float32)


def parallel_weights(case: WorkingCase, views: Sequence[int]) -> NDArray[np.float32] | None:
    """Weights (V, Z, Y, X) of views whose slices are all parallel, that sum to 1; None if they are not.

    Between two slices the two count, each the more the nearer it is: others would have been carried across them.
    Beyond the outermost one there is none to meet from the other side, and farther ones count too, `BEYOND`^distance.
    """
    planes = sorted((plane, row) for row, view in enumerate(views) for plane in case.slices[view])
    axes = {plane.axis for plane, _ in planes}
    if len(views) < 2 or len(axes) > 1:
        return None
    axis = axes.pop()
    index, rows = np.arange(case.shape[axis]), np.array([row for _, row in planes])
    places = np.array([plane.index for plane, _ in planes])
    weights = np.stack([np.interp(index, places, rows == row) for row in range(len(views))]).astype(np.float32)
    outside = index[(index < places[0]) | (index > places[-1])]
    distance = [np.abs(outside - places[rows == row, None]).min(axis=0) for row in range(len(views))]
    weights[:, outside] = view_weights(np.stack(distance).astype(np.float32), BEYOND)
    column = weights.reshape(len(views), *(-1 if other == axis else 1 for other in range(3)))
    return np.broadcast_to(column, (len(views), *case.shape))
