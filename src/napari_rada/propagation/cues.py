"""What a completing network sees of one class: the image, and what the annotated slices say about every voxel.

All cues are arrays on the working grid with values of about -1 to 1, and mean the same whatever the organ, the scanner
and the number of classes, so that one network serves all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_rada.data.classes import UNKNOWN
from napari_rada.models.completer import FLOOR, LOGIT_LIMIT
from napari_rada.propagation.base import distance_to_slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import WorkingCase

BINS = 48
"""Intensity bins of the appearance model."""
SMOOTHING = 1.5
"""Standard deviation, in units of the finest spacing, of the smoothed image, and in bins of the histograms."""
EVIDENCE_LIMIT = 4.0
"""Largest log-likelihood ratio of one voxel's intensity."""
REACH = 0.35
"""Distances to outlines and slices are counted in units of this share of the grid's longest side."""


class CueMaker:
    """Makes the cues of each class of a case; what classes share is computed once.

    Parameters
    ----------
    case
        A labelled working case.
    truth
        (Z, Y, X) class index, `UNKNOWN` where nothing may be known: the case's own, or that without one view.
    slices
        The annotated slices per view that `truth` comes from.
    """

    def __init__(self, case: WorkingCase, truth: NDArray[np.int16], slices: Sequence[Sequence[AnnotatedSlice]]) -> None:
        self.case = case
        self.truth = truth
        self.slices = slices
        self._unit = REACH * max(size * step for size, step in zip(case.shape, case.spacing, strict=True))
        self._smooth = ndimage.gaussian_filter(case.image, [SMOOTHING * min(case.spacing) / s for s in case.spacing])
        self._nearness = self._nearness_to_slices()

    def of_class(self, index: int, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cues (K, Z, Y, X) float32 of a class, ordered as `CUES`, given its probability (Z, Y, X)."""
        inside, outside = self.truth == index, (self.truth != index) & (self.truth != UNKNOWN)
        hull, mean = self._outlines(index)
        return np.stack(
            [
                2.0 * self.case.image - 1.0,
                self._contrast(inside),
                likelihood_ratio(self.case.image, inside, outside),
                likelihood_ratio(self._smooth, inside, outside),
                propagation_logit(probability) / LOGIT_LIMIT,
                inside.astype(np.float32) - outside,
                hull,
                mean,
                self._nearness,
            ]
        ).astype(np.float32)

    def _contrast(self, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Intensity against that of the class, in units of the image's spread."""
        image = self.case.image
        own = np.median(image[inside]) if inside.any() else 0.5
        return np.asarray(np.clip((image - own) / (3.0 * image.std() + 1e-6), -1.0, 1.0), dtype=np.float32)

    def _nearness_to_slices(self) -> NDArray[np.float32]:
        nearest = distance_to_slices(self.case, self.slices).min(axis=0) * np.float32(min(self.case.spacing))
        return np.asarray(1.0 - 2.0 * np.clip(nearest / self._unit, 0.0, 1.0), dtype=np.float32)

    def _outlines(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Outlines extruded along the slices' axes: inside all of them (hull), and their mean; positive inside."""
        extruded = [np.broadcast_to(self._extruded(index, planes), self.case.shape) for planes in self.slices if planes]
        return np.min(extruded, axis=0), np.mean(extruded, axis=0)

    def _extruded(self, index: int, planes: Sequence[AnnotatedSlice]) -> NDArray[np.float32]:
        """Signed distance to a class's outline, carried along the axis; between two slices it is interpolated."""
        if len(planes) == 1:
            return self._signed(index, planes[0])
        axis = planes[0].axis
        ordered = sorted(planes, key=lambda plane: plane.index)
        positions = np.array([plane.index for plane in ordered])
        known = np.concatenate([self._signed(index, plane) for plane in ordered], axis=axis)
        where = np.interp(np.arange(self.case.shape[axis]), positions, np.arange(len(ordered)))
        lower = np.minimum(where.astype(int), len(ordered) - 2)
        share = (where - lower).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        below, above = known.take(lower, axis=axis), known.take(lower + 1, axis=axis)
        return np.asarray((1.0 - share) * below + share * above, dtype=np.float32)

    def _signed(self, index: int, plane: AnnotatedSlice) -> NDArray[np.float32]:
        """Signed distance in a slice, positive inside, with the slice's axis kept at length 1."""
        inside = self.truth[plane.selector()] == index
        spacing = [s for axis, s in enumerate(self.case.spacing) if axis != plane.axis]
        signed = np.full(inside.shape, -self._unit, dtype=np.float32)
        if inside.any():
            signed = (
                ndimage.distance_transform_edt(inside, spacing) - ndimage.distance_transform_edt(~inside, spacing)
            ).astype(np.float32)
        return np.expand_dims(np.clip(signed / self._unit, -1.0, 1.0), plane.axis)


def likelihood_ratio(
    image: NDArray[np.float32], inside: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Log of how much likelier each intensity of an image (0..1) is inside than outside, scaled to -1..1.

    From the smoothed histograms of the voxels that are known to lie inside and outside.
    """
    place = np.minimum((image * BINS).astype(np.intp), BINS - 1)
    densities = []
    for known in (inside, outside):
        counts = np.bincount(place[known], minlength=BINS).astype(np.float64)
        density = ndimage.gaussian_filter1d(counts, SMOOTHING, mode="constant") + 0.5
        densities.append(density / density.sum())
    ratio = np.log(densities[0] / densities[1])
    table = np.clip(ratio / EVIDENCE_LIMIT, -1.0, 1.0).astype(np.float32)
    return np.asarray(table[place])


def propagation_logit(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-odds of a probability, within ±`LOGIT_LIMIT`."""
    inside = np.clip(probability, np.float64(FLOOR), 1.0 - FLOOR)
    return np.asarray(np.log(inside / (1.0 - inside)), dtype=np.float32)
