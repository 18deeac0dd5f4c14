"""Propagation by registration: every annotated slice is carried outward, slice by slice (paper, pseudo-labels).

The image of one slice is registered deformably, in 2D, to its neighbour's; the label goes along and becomes the moving
label of the next step (lineage: pairwise, nearest neighbour, then an opening and a closing). The result is one dense
labelling per view; the views are fused with the weights α^|d|, d the distance to the view's annotated slice.

Needs antspyx: ``pip install antspyx``.
"""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import MissingDependencyError, RadaError
from napari_rada.propagation.base import (
    PseudoLabels,
    can_hold_out,
    distance_to_slices,
    stamped,
    truth_without,
)
from napari_rada.propagation.carrying import chains_of_case, view_weights
from napari_rada.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import OnProgress, Probability
    from napari_rada.propagation.carrying import Chain
    from napari_rada.settings import RegistrationConfig

BORDER = 2
"""Pixels by which a slice is continued before opening and closing, which would else wear it down at its border."""

FEWEST = 5
"""Pixels along a side of a slice with which ANTs can do something."""

REPRODUCIBLE = {"ANTS_RANDOM_SEED": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
"""What ANTs reads from the environment. Threads would also make slices of this size slower."""


class RegistrationPropagator:
    """Slice-by-slice registration behind the `Propagator` interface.

    Raises
    ------
    MissingDependencyError
        If antspyx is not installed.
    """

    def __init__(self, config: RegistrationConfig) -> None:
        self.config = config
        self._ants = _import_ants()

    def propagate(
        self, case: WorkingCase, *, held_out: bool, control: RunControl, on_progress: OnProgress
    ) -> PseudoLabels:
        """Carry every annotated slice outward on the working grid; see `Propagator.propagate`.

        `labels` and `distance` have V = 3; the labels of a view without slices are 0, at infinite distance. Progress
        counts slices, and a stop is looked at before each. Slices in the fold of a view are carried as painted,
        the voxels included in which they cross the slices of the view that is held out.

        Raises
        ------
        RadaError
            If ANTs fails.
        """
        labels = self._dense_labels(case, control, on_progress)
        distance = distance_to_slices(case)
        views = [view for view in range(3) if case.slices[view]]
        fused = self._fused(case, labels, distance, views)
        without: list[Probability | None] = [None, None, None]
        for view in views:
            if held_out and can_hold_out(case, view):
                others = [other for other in views if other != view]
                without[view] = stamped(self._fused(case, labels, distance, others), truth_without(case, view))
        return PseudoLabels("registration", stamped(fused, case.truth), labels, distance, tuple(without))

    def _dense_labels(self, case: WorkingCase, control: RunControl, on_progress: OnProgress) -> NDArray[np.int16]:
        """Dense class index (V, Z, Y, X) of each view."""
        chains = chains_of_case(case)
        total = sum(len(chain.targets) for chain in chains)
        labels = np.zeros((len(case.slices), *case.shape), dtype=np.int16)
        done = 0
        on_progress(done, total)
        with _environment(REPRODUCIBLE):
            for chain in chains:
                for carried in self._carry_outward(case, chain, labels[chain.view], control):
                    done += carried
                    on_progress(done, total)
        return labels

    def _carry_outward(
        self, case: WorkingCase, chain: Chain, labels: NDArray[np.int16], control: RunControl
    ) -> Iterator[int]:
        """Fill the chain's slices of `labels` (Z, Y, X); yields how many were settled by each step."""
        moving = chain.start
        carried = case.truth[moving.selector()]
        labels[moving.selector()] = carried
        pixel = tuple(size for axis, size in enumerate(case.spacing) if axis != moving.axis)
        for position, index in enumerate(chain.targets):
            control.check()
            if not carried.any():  # nothing but background from here on, as `labels` is already
                yield len(chain.targets) - position
                return
            fixed = AnnotatedSlice(moving.axis, index)
            images = case.image[fixed.selector()], case.image[moving.selector()]
            carried = tidied(self._warped(*images, carried, pixel), case.num_classes)
            labels[fixed.selector()] = carried
            moving = fixed
            yield 1

    def _warped(
        self,
        fixed: NDArray[np.float32],
        moving: NDArray[np.float32],
        labels: NDArray[np.int16],
        pixel: tuple[float, ...],
    ) -> NDArray[np.int16]:
        """Labels of the moving slice in the fixed one; a tiny slice, or one without any structure, shows no motion."""
        if min(fixed.shape) < FEWEST or fixed.min() == fixed.max() or moving.min() == moving.max():
            return labels
        try:
            return self._registered((fixed, moving, labels), pixel)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise RadaError(
                f"ANTs cannot register a slice to its neighbour ({reason}); choose another propagation.method."
            ) from None

    def _registered(self, slices: Sequence[NDArray[np.generic]], pixel: tuple[float, ...]) -> NDArray[np.int16]:
        """Labels of the moving slice in the fixed one by ANTs; `slices` are the fixed, the moving and its labels."""
        ants = self._ants
        target, source, carried = (ants.from_numpy(a.astype(np.float32), spacing=pixel) for a in slices)
        with temporary_folder() as folder:
            found = ants.registration(
                target, source, type_of_transform=self.config.transform, outprefix=str(folder / "step")
            )
            warped = ants.apply_transforms(
                target, carried, found["fwdtransforms"], interpolator="nearestNeighbor"
            ).numpy()
        return np.asarray(warped, dtype=np.int16)

    def _fused(
        self, case: WorkingCase, labels: NDArray[np.int16], distance: NDArray[np.float32], views: Sequence[int]
    ) -> Probability:
        return fuse(labels[list(views)], distance[list(views)], case.num_classes, self.config.alpha)


def tidied(labels: NDArray[np.int16], num_classes: int) -> NDArray[np.int16]:
    """Open, then close every class of a slice (Y, X); closing takes only background."""
    padded = np.pad(labels, BORDER, mode="edge")
    clean = np.zeros_like(padded)
    for index in range(1, num_classes):
        opened = ndimage.binary_opening(padded == index)
        filled = ndimage.binary_closing(opened) & (padded == 0)
        clean[opened | (filled & (clean == 0))] = index
    return clean[BORDER:-BORDER, BORDER:-BORDER]


def fuse(labels: NDArray[np.int16], distance: NDArray[np.float32], num_classes: int, alpha: float) -> Probability:
    """Probability (C, Z, Y, X) from the labellings (V, Z, Y, X) of views, weighted by α^distance."""
    weight = view_weights(distance, alpha)
    votes = [np.where(labels == index, weight, np.float32(0.0)).sum(axis=0) for index in range(num_classes)]
    return np.stack(votes).astype(np.float32)


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _import_ants() -> Any:
    try:
        return importlib.import_module("ants")
    except ImportError:
        raise MissingDependencyError(
            "Propagation by registration needs the package antspyx, which is not installed; "
            "run pip install antspyx, or choose propagation.method=diffusion."
        ) from None
