"""Propagation by optical flow: every annotated slice is carried outward, slice by slice, with what moves in the image.

From one slice to its neighbour the image moves little, so that a dense optical flow says where each pixel went
(`napari_rada.propagation.motion`). The label goes along, interpolated, so that it grows softer with every step. The
views are fused as those of registration are, but where all slices are parallel.

Shape legend: C classes, V views (3), Z Y X working grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.resampling import upsample
from napari_rada.data.working import coarsen, coarsening_factors, relative_factors
from napari_rada.propagation.base import PseudoLabels, can_hold_out, distance_to_slices, stamped, truth_without
from napari_rada.propagation.carrying import chains_of_case, parallel_weights, view_weights
from napari_rada.propagation.motion import motion, warped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import OnProgress, Probability
    from napari_rada.propagation.carrying import Chain
    from napari_rada.settings import FlowConfig

BACKGROUND = 0
BATCH_PIXELS = 2**17
"""Pixels, those of several slices together, whose motion is found at a time."""
BATCH_SLICES = 8
"""Slices whose motion is found at a time, however large they are."""
LOST = 0.5
"""A structure of which no pixel is at least so probable any more is carried no further."""


class FlowPropagator:
    """Slice-by-slice optical flow behind the `Propagator` interface."""

    def __init__(self, config: FlowConfig) -> None:
        self.config = config

    def propagate(
        self, case: WorkingCase, *, held_out: bool, control: RunControl, on_progress: OnProgress
    ) -> PseudoLabels:
        """Carry every annotated slice outward on a grid of at most `config.max_voxels`; see `Propagator.propagate`.

        `labels` and `distance` have V = 3; the labels of a view without slices are 0, at infinite distance. Slices in
        the fold of a view are carried as painted, the voxels included in which they cross the slices of the view that
        is held out.
        """
        coarse = coarsen(case, coarsening_factors(case.shape, case.spacing, self.config.max_voxels))
        carried_VCZYX = self.carry(coarse, control, on_progress)
        relative = relative_factors(coarse, case)

        def fused(without: int | None) -> Probability:
            truth = case.truth if without is None else truth_without(case, without)
            return stamped(upsample(self.fused(coarse, carried_VCZYX, without), relative, case.shape), truth)

        labels = [upsample(carried, relative, case.shape).argmax(axis=0) for carried in carried_VCZYX]
        return PseudoLabels(
            method="optical flow",
            probability=fused(None),
            labels=np.stack(labels).astype(np.int16),
            distance=distance_to_slices(case),
            held_out=tuple(fused(view) if held_out and can_hold_out(case, view) else None for view in range(3)),
        )

    def carry(self, case: WorkingCase, control: RunControl, on_progress: OnProgress) -> NDArray[np.float32]:
        """Probability (V, C, Z, Y, X) by each view's slices alone; background for a view without slices.

        Progress counts slices, and a stop is looked at before each; the motion of several is found at a time.
        """
        carried_VCZYX = np.zeros((len(case.slices), case.num_classes, *case.shape), dtype=np.float32)
        carried_VCZYX[:, BACKGROUND] = 1.0
        chains = chains_of_case(case)
        total, done = sum(len(chain.targets) for chain in chains), 0
        on_progress(done, total)
        for chain in chains:
            for settled in self._carry_outward(case, chain, carried_VCZYX[chain.view], control):
                done += settled
                on_progress(done, total)
        return carried_VCZYX

    def fused(self, case: WorkingCase, carried_VCZYX: NDArray[np.float32], without: int | None) -> Probability:
        """Fuse what `carry` gave for a case, all views or all but one, to (C, Z, Y, X)."""
        views = [view for view, planes in enumerate(case.slices) if planes and view != without]
        weights_VZYX = parallel_weights(case, views)
        if weights_VZYX is None:
            weights_VZYX = view_weights(distance_to_slices(case)[views], self.config.alpha)
        return np.asarray(np.einsum("vzyx,vczyx->czyx", weights_VZYX, carried_VCZYX[views]), dtype=np.float32)

    def _carry_outward(
        self, case: WorkingCase, chain: Chain, carried_CZYX: NDArray[np.float32], control: RunControl
    ) -> Iterator[int]:
        """Fill the chain's slices; yields how many were settled by each step."""
        axis, start = chain.start.axis, chain.start.index
        carried = np.moveaxis(carried_CZYX, axis + 1, 1)  # a view
        truth_YX = np.moveaxis(case.truth, axis, 0)[start]
        labels_CYX = np.equal(truth_YX, np.arange(case.num_classes)[:, None, None]).astype(np.float32)
        carried[:, start] = labels_CYX
        flows = self._motions(np.moveaxis(case.image, axis, 0), chain.targets)
        for position, index in enumerate(chain.targets):
            control.check()
            if (labels_CYX[1:] < LOST).all():  # nothing but background from here on, as it is already
                yield len(chain.targets) - position
                return
            labels_CYX = _moved(labels_CYX, next(flows))
            carried[:, index] = labels_CYX
            yield 1

    def _motions(self, slices: NDArray[np.float32], targets: range) -> Iterator[NDArray[np.float32]]:
        """Motion (2, Y, X) from every target to the slice before it; `slices` has them along its first axis.

        Several are found at a time, with the pair of slices before and after them, as far as there is one.
        """
        step, together = targets.step, max(BATCH_SLICES, BATCH_PIXELS // slices[0].size)
        for first in range(0, len(targets), together):
            batch = targets[first : first + together]
            stack = range(batch[0] - 2 * step, batch[-1] + 2 * step, step)
            inside = [index for index in stack if 0 <= index < len(slices)]
            flows = motion(slices[inside], window=self.config.window, warps=self.config.warps)
            start = inside.index(batch[0]) - 1
            yield from flows[start : start + len(batch)]


def _moved(labels_CYX: NDArray[np.float32], flow_2YX: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take every foreground class from where it was; background takes what they leave."""
    foreground_CYX = warped(labels_CYX[1:], flow_2YX)
    background_YX = np.maximum(1.0 - foreground_CYX.sum(axis=0), 0.0)
    return np.concatenate([background_YX[None], foreground_CYX])
