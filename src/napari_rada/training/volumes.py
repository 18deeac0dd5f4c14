"""Volumes: one case with its propagation, arranged for the sampler that cuts patches from it.

Shape legend: C classes, N networks (3), V views (3), Z Y X a whole volume along (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import PseudoLabels

NEARNESS_SCALE = 12.0
"""Slices of distance over which nearness falls to 1/e."""


@dataclass(frozen=True, eq=False)
class HeldOutView:
    """The voxels by which networks that are not taught a view are judged.

    Parameters
    ----------
    slices
        The annotated slices of the view.
    voxels
        (n, 3) index (Z, Y, X) of the view's voxels that no other view annotated.
    truth
        (n,) class index.
    propagation
        (C, n) probability from the propagation without this view.
    """

    slices: tuple[AnnotatedSlice, ...]
    voxels: NDArray[np.intp]
    truth: NDArray[np.int16]
    propagation: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Volume:
    """One case as the sampler cuts it: arrays only, all on the working grid.

    Parameters
    ----------
    image
        (Z, Y, X) float32.
    truth
        (Z, Y, X) int16, `UNKNOWN` where nobody annotated.
    views
        (Z, Y, X) uint8 bit mask of the views that annotated a voxel.
    pseudo
        (N, Z, Y, X) int16: the dense labels that each network is taught; None if unlabelled.
    pseudo_distance
        (N, Z, Y, X) float32: their distance to the annotation they come from.
    prior
        (V + 1, C, Z, Y, X) float16: the propagation without view v's slices, and last the one with all; None where
        networks work from the image alone or nothing is annotated.
    nearness
        (V + 1, Z, Y, X) float16: nearness to the slices that `prior` comes from.
    held_out
        By view, for the views that can be held out because a propagation without them exists.
    spacing
        mm along (Z, Y, X).
    name
        The case's name, for messages.
    """

    image: NDArray[np.float32]
    truth: NDArray[np.int16]
    views: NDArray[np.uint8]
    pseudo: NDArray[np.int16] | None
    pseudo_distance: NDArray[np.float32] | None
    prior: NDArray[np.float16] | None
    nearness: NDArray[np.float16] | None
    held_out: dict[int, HeldOutView]
    spacing: tuple[float, float, float]
    name: str = ""

    @property
    def is_labelled(self) -> bool:
        """True if somebody annotated a slice."""
        return self.pseudo is not None


def third_view(pair: tuple[int, int]) -> int:
    """Return the view that a network with this pair of views is not taught."""
    return ({0, 1, 2} - set(pair)).pop()


def make_volume(
    case: WorkingCase,
    pseudo: PseudoLabels | None,
    view_pairs: Sequence[tuple[int, int]],
    *,
    completion: bool,
) -> Volume:
    """Arrange a working case and its propagation for the sampler.

    A network's dense labels come from its own view if the propagation tells views apart, else from the
    propagation without the view that the network is not taught, so that this view stays unseen.
    """
    if pseudo is None:
        return Volume(case.image, case.truth, case.views, None, None, None, None, {}, case.spacing, case.name)
    held_out = {
        view: _held_out_view(case, view, probability)
        for view, probability in enumerate(pseudo.held_out)
        if probability is not None and case.slices[view]
    }
    targets, distances = zip(*(_network_target(pseudo, pair) for pair in view_pairs), strict=True)
    prior = nearness = None
    if completion:
        folds = [pseudo.probability if held is None else held for held in pseudo.held_out] + [pseudo.probability]
        prior = np.stack(folds).astype(np.float16)
        nearness = np.stack([nearness_without(pseudo.distance, view) for view in (*range(3), None)]).astype(np.float16)
    return Volume(
        image=case.image,
        truth=case.truth,
        views=case.views,
        pseudo=np.stack(targets),
        pseudo_distance=np.stack(distances),
        prior=prior,
        nearness=nearness,
        held_out=held_out,
        spacing=case.spacing,
        name=case.name,
    )


def _held_out_view(case: WorkingCase, view: int, probability: NDArray[np.float32]) -> HeldOutView:
    voxels = np.argwhere(case.views == (1 << view))
    z, y, x = voxels.T
    return HeldOutView(case.slices[view], voxels, case.truth[z, y, x], probability[:, z, y, x])


def nearness_without(distance: NDArray[np.float32], view: int | None) -> NDArray[np.float32]:
    """Nearness exp(-d / scale) to the annotated slices, without those of one view; (Z, Y, X) in 0..1."""
    kept = [plane for v, plane in enumerate(distance) if v != view]
    return np.asarray(np.exp(-np.min(kept, axis=0) / NEARNESS_SCALE), dtype=np.float32)


def _network_target(pseudo: PseudoLabels, pair: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    per_view = len(pseudo.labels) > 1
    if per_view and np.isfinite(pseudo.distance[pair[0]]).any():
        return pseudo.labels[pair[0]], pseudo.distance[pair[0]]
    without = pseudo.held_out[third_view(pair)]
    if without is None:
        return pseudo.probability.argmax(axis=0).astype(np.int16), pseudo.distance.min(axis=0)
    return without.argmax(axis=0).astype(np.int16), pseudo.distance[list(pair)].min(axis=0)
