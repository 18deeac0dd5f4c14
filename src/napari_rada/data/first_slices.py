"""Which slices to annotate first, before any network can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.grid import Shape


def first_slices(
    shape: Shape, labels: NDArray[np.integer] | None, annotated: Sequence[AnnotatedSlice]
) -> tuple[AnnotatedSlice, ...]:
    """Name a slice on every axis that has none yet, in the order 0, 1, 2.

    As soon as a slice is painted, it shows where the structure is widest along the two other axes: the slices there
    are named. Before that it is the middle of the volume, from which one looks for the structure.

    Parameters
    ----------
    labels
        (z, y, x); what lies outside the annotated slices is not looked at. None if there are no labels yet.
    annotated
        The slices that are annotated or being painted.
    """
    named = []
    for axis in range(3):
        if any(plane.axis == axis for plane in annotated):
            continue
        extent = np.zeros(shape[axis], dtype=np.int64)
        for plane in annotated:
            if labels is not None:
                painted = np.asarray(labels[plane.selector()]) != 0
                kept = [other for other in range(3) if other != plane.axis].index(axis)
                extent += painted.sum(axis=1 - kept)
        index = int(extent.argmax()) if extent.any() else shape[axis] // 2
        named.append(AnnotatedSlice(axis, index))
    return tuple(named)
