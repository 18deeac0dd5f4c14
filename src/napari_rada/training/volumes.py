"""Volumes: one case with its propagation, arranged for the sampler that cuts patches from it.

Shape legend: C classes, N networks (3), V views (3), J cues, Z Y X a whole volume along (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.propagation.base import truth_without
from napari_rada.propagation.cues import CueMaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import PseudoLabels
    from napari_rada.settings import Architecture, ModelConfig

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
        (N, Z, Y, X) int16: the dense labels that each network is taught; None if there are none.
    pseudo_distance
        (N, Z, Y, X) float32: their distance to the annotation they come from.
    prior
        (V + 1, C, Z, Y, X) float16: the propagation without view v's slices, and last the one with all; None where
        networks work from the image alone or nothing is annotated.
    cues
        (V + 1, J, Z, Y, X) float16: what else the slices say that `prior` comes from, as the networks are given it.
    held_out
        By view, for the views that can be held out because a propagation without them exists, and that annotated
        voxels which no other one did.
    spacing
        mm along (Z, Y, X).
    name
        The case's name, for messages.
    is_labelled
        True if somebody annotated a slice.
    """

    image: NDArray[np.float32]
    truth: NDArray[np.int16]
    views: NDArray[np.uint8]
    pseudo: NDArray[np.int16] | None
    pseudo_distance: NDArray[np.float32] | None
    prior: NDArray[np.float16] | None
    cues: NDArray[np.float16] | None
    held_out: dict[int, HeldOutView]
    spacing: tuple[float, float, float]
    name: str = ""
    is_labelled: bool = True


def third_view(pair: tuple[int, int]) -> int:
    """Return the view that a network with this pair of views is not taught."""
    return ({0, 1, 2} - set(pair)).pop()


def make_volume(
    case: WorkingCase,
    pseudo: PseudoLabels | None,
    view_pairs: Sequence[tuple[int, int]],
    *,
    model: ModelConfig,
) -> Volume:
    """Arrange a working case and its propagation for the sampler.

    A network's dense labels come from its own view if the propagation tells views apart, else from the
    propagation without the view that the network is not taught, so that this view stays unseen.
    """
    if pseudo is None:
        return Volume(case.image, case.truth, case.views, None, None, None, None, {}, case.spacing, case.name, False)
    without = {view: one for view, one in enumerate(pseudo.held_out) if one is not None and case.slices[view]}
    views = {view: _held_out_view(case, view, probability) for view, probability in without.items()}
    held_out = {view: shown for view, shown in views.items() if len(shown.voxels)}
    targets, distances = zip(*(_network_target(pseudo, pair) for pair in view_pairs), strict=True)
    prior = cues = None
    if model.completion:
        folds = [pseudo.probability if held is None else held for held in pseudo.held_out] + [pseudo.probability]
        prior = np.stack([fold.astype(np.float16) for fold in folds])
        cues = np.stack([cues_without(case, pseudo, view, model.architecture) for view in (*range(3), None)])
    return Volume(
        image=case.image,
        truth=case.truth,
        views=case.views,
        pseudo=np.stack(targets),
        pseudo_distance=np.stack(distances),
        prior=prior,
        cues=cues,
        held_out=held_out,
        spacing=case.spacing,
        name=case.name,
    )


def _held_out_view(case: WorkingCase, view: int, probability: NDArray[np.float32]) -> HeldOutView:
    voxels = np.argwhere(case.views == (1 << view))
    z, y, x = voxels.T
    return HeldOutView(case.slices[view], voxels, case.truth[z, y, x], probability[:, z, y, x])


def cues_without(
    case: WorkingCase, pseudo: PseudoLabels, view: int | None, architecture: Architecture
) -> NDArray[np.float16]:
    """Cues (J, Z, Y, X) that the annotated slices give to networks of an architecture, without those of one view.

    Where nothing can be propagated without a view they are those of all slices, as the propagation then is.
    """
    if architecture == "vnet":
        return nearness_without(pseudo.distance, view)[None].astype(np.float16)
    probability, truth, slices = pseudo.probability, case.truth, case.slices
    if view is not None and (without := pseudo.held_out[view]) is not None:
        probability, truth = without, truth_without(case, view)
        slices = tuple(() if other == view else planes for other, planes in enumerate(slices))
    maker = CueMaker(case, truth, slices)
    cues = [maker.of_class(index, probability[index]) for index in range(1, case.num_classes)]
    return np.concatenate(cues).astype(np.float16)


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
