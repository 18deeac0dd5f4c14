"""Propagation by three opinions, weighed anew on every scan: random walker, completer, optical flow.

The random walker follows edges and knows nothing of shape or appearance. The completer sees, for one class at a time,
the walker's answer beside the image, what intensities the class has, and the outlines in the annotated slices
(`napari_rada.propagation.cues`), and corrects the log-odds. It has learned that from synthetic scans alone
(`napari-rada pretrain`), so that it serves any organ and scanner. Optical flow follows what moves from slice to slice,
also where no edge shows it, and on a finer grid than the other two. How much each is worth differs from scan to scan;
the annotated slices tell, each by what is said about it without it (`napari_rada.propagation.stacking`).

Shape legend: C classes, K cues, V views (3), Z Y X working grid; B classes and folds in a batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch

from napari_rada.data.resampling import upsample
from napari_rada.data.working import coarsen, coarsening_factors, regrid, relative_factors
from napari_rada.models.completer import FLOOR, TOGETHER, load_completer
from napari_rada.prediction import disagreement
from napari_rada.propagation.base import Opinion, PseudoLabels, Shared, distance_to_slices, stamped, truth_without
from napari_rada.propagation.cues import CueMaker
from napari_rada.propagation.diffusion import DiffusionPropagator
from napari_rada.propagation.flow import FlowPropagator
from napari_rada.propagation.stacking import Judged, fit_pool, pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import WorkingCase
    from napari_rada.models.completer import Completer
    from napari_rada.propagation.base import OnProgress, Pools, Probability
    from napari_rada.propagation.stacking import Pool
    from napari_rada.settings import CombinedConfig

WALKING, CARRYING, COMPLETING = (0, 20), (20, 60), (60, 100)
"""From how many percent of the work to how many each part of it reaches."""

Folds: TypeAlias = "dict[int | None, tuple[Probability, Probability, Probability]]"
"""By the view that is left out, None for none: the opinions of walk, completer and flow."""


class _Fold(NamedTuple):
    """What may be known in one propagation: all slices, or those without one view."""

    walked: Probability
    truth: NDArray[np.int16]
    slices: Sequence[Sequence[AnnotatedSlice]]


class CombinedPropagator:
    """Random walker, completer and optical flow behind the `Propagator` interface.

    Parameters
    ----------
    config
        How the three are weighed; settings of the random walker and of the flow.
    threads
        Systems that the random walker solves at the same time.
    shared
        What was found on another grid of the same scan: how the opinions are weighed, and what the flow carried.
    completer
        The network; None takes the one in the package.
    focus
        Index of the only class that the completer corrects; None for all.
    """

    def __init__(
        self,
        config: CombinedConfig,
        threads: int = 1,
        shared: Shared | None = None,
        completer: Completer | None = None,
        focus: int | None = None,
    ) -> None:
        self.config = config
        self.shared = shared
        self.walker = DiffusionPropagator(config.diffusion, threads)
        self.flow = FlowPropagator(config.flow)
        self.completer = completer or load_completer()
        self.focus = focus

    def propagate(
        self, case: WorkingCase, *, held_out: bool, control: RunControl, on_progress: OnProgress
    ) -> PseudoLabels:
        """Form and weigh the opinions on a grid of at most `config.diffusion.max_voxels`; see `Propagator.propagate`.

        The flow carries labels on the finer grid that the case has beside its own, if it has, else on that, in both
        cases on at most `config.flow.max_voxels`. The weights need what each opinion is without each view, whether that
        is asked for or not, unless they are known. Those of the fold without a view are found on the slices of the
        other views.
        """
        coarse = coarsen(case, coarsening_factors(case.shape, case.spacing, self.config.diffusion.max_voxels))
        known: Pools = self.shared.pools if self.shared else {}
        with_folds = held_out or (self.config.caution is not None and None not in known)
        walked = self.walker.propagate(
            coarse, held_out=with_folds, control=control, on_progress=_part(on_progress, *WALKING)
        )
        views = [view for view, without in enumerate(walked.held_out) if without is not None]
        shared = self._carried(case, control, _part(on_progress, *CARRYING))
        folds = self._folds(coarse, walked, shared, [None, *views], control, on_progress)
        wanted = [None, *views] if held_out else [None]
        pools = {view: known[view] if view in known else self._pool(coarse, folds, view) for view in wanted}
        relative = relative_factors(coarse, case)

        def brought(values: NDArray[np.float32], truth: NDArray[np.int16]) -> Probability:
            return stamped(upsample(values, relative, case.shape), truth)

        found = pooled(folds[None], pools[None])
        probability = brought(found, case.truth)
        without: list[Probability | None] = [None, None, None]
        for view in views if held_out else []:
            without[view] = brought(pooled(folds[view], pools[view]), truth_without(case, view))
        doubt = disagreement(np.stack([*folds[None][:2], found]))
        assert doubt is not None  # three opinions
        return PseudoLabels(
            method="diffusion, completion and optical flow",
            probability=probability,
            labels=probability.argmax(axis=0)[None].astype(np.int16),
            distance=distance_to_slices(case),
            held_out=tuple(without),
            disagreement=upsample(doubt[None], relative, case.shape)[0],
            opinions=(*(Opinion(one, coarse) for one in folds[None][:2]), shared.carried),
            shared=replace(shared, pools=pools),
        )

    def _carried(self, case: WorkingCase, control: RunControl, on_progress: OnProgress) -> Shared:
        """Carry the annotated slices outward, unless that was done for another grid."""
        if self.shared is not None:
            return self.shared
        finer = case.finer or case
        finer = coarsen(finer, coarsening_factors(finer.shape, finer.spacing, self.config.flow.max_voxels))
        carried_VCZYX = self.flow.carry(finer, control, on_progress)
        return Shared({}, carried_VCZYX, Opinion(self.flow.fused(finer, carried_VCZYX, None), finer))

    def _folds(
        self,
        case: WorkingCase,
        walked: PseudoLabels,
        shared: Shared,
        views: Sequence[int | None],
        control: RunControl,
        on_progress: OnProgress,
    ) -> Folds:
        """Opinions of walk, completer and flow, each (C, Z, Y, X), with all slices and without each view."""
        finer = shared.carried.case

        def flowed(view: int | None) -> Probability:
            if view is None:
                return regrid(shared.carried.probability, finer, case)
            return regrid(self.flow.fused(finer, shared.carried_VCZYX, view), finer, case)

        known = [_fold(case, walked, view) for view in views]
        completed = self._complete(case, known, control, _part(on_progress, *COMPLETING))
        return {
            view: (fold.walked, probability, flowed(view))
            for view, fold, probability in zip(views, known, completed, strict=True)
        }

    def _pool(self, case: WorkingCase, folds: Folds, view: int | None) -> Pool:
        """Find the pool for the opinions of a fold that is right for the slices of the other views."""
        others = [other for other in folds if other is not None and other != view]
        judged = [_judged(case, other, folds[other]) for other in others]
        usual = (1.0 - self.config.share, self.config.share, 0.0)
        return fit_pool(judged, usual, case.num_classes, self.config.caution, self.focus)

    def _complete(
        self, case: WorkingCase, folds: Sequence[_Fold], control: RunControl, on_progress: OnProgress
    ) -> list[Probability]:
        """Correct the probability (C, Z, Y, X) of the walk in each fold, one class at a time, each against the rest."""
        makers = [CueMaker(case, fold.truth, fold.slices) for fold in folds]
        odds = [np.maximum(fold.walked, np.float32(FLOOR)) for fold in folds]
        tasks = []
        for number, fold in enumerate(folds):
            for index in range(1, case.num_classes):
                if not (fold.truth == index).any():
                    odds[number][index] = 0.0
                elif self.focus in (None, index):
                    tasks.append((number, index))
        for first in range(0, len(tasks), TOGETHER):
            control.check()
            batch = tasks[first : first + TOGETHER]
            cues_BKZYX = np.stack(
                [makers[number].of_class(index, folds[number].walked[index]) for number, index in batch]
            )
            for (number, index), correction_ZYX in zip(batch, self._correction(cues_BKZYX), strict=True):
                odds[number][index] *= np.exp(correction_ZYX)
            on_progress(first + len(batch), len(tasks))
        on_progress(1, 1)  # also if there was nothing to complete
        return [np.asarray(one / one.sum(axis=0)) for one in odds]

    def _correction(self, cues_BKZYX: NDArray[np.float32]) -> NDArray[np.float32]:
        """Correction (B, Z, Y, X) of the log-odds; the last one of an odd number is computed twice, which is faster."""
        twice = np.resize(cues_BKZYX, (TOGETHER, *cues_BKZYX.shape[1:]))
        cues_BKDHW = torch.from_numpy(twice).contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode():
            return np.asarray(self.completer(cues_BKDHW)[: len(cues_BKZYX)].numpy())


def _fold(case: WorkingCase, walked: PseudoLabels, view: int | None) -> _Fold:
    if view is None:
        return _Fold(walked.probability, case.truth, case.slices)
    probability = walked.held_out[view]
    assert probability is not None
    kept = tuple(() if other == view else planes for other, planes in enumerate(case.slices))
    return _Fold(probability, truth_without(case, view), kept)


def _judged(case: WorkingCase, view: int, opinions: Sequence[Probability]) -> Judged:
    """Return what opinions without a view say about its slices, where no other view annotated.

    Left out is what they cannot know of: classes that only this view shows.
    """
    shown = np.unique(truth_without(case, view))
    own = (case.views == np.uint8(1 << view)) & np.isin(case.truth, shown)
    known = np.isin(np.arange(case.num_classes), shown)
    return Judged(np.stack([opinion[:, own] for opinion in opinions]), case.truth[own], known)


def _part(on_progress: OnProgress, first: int, last: int) -> OnProgress:
    """Tell the progress of one part as that of the whole, from `first` to `last` percent."""
    return lambda done, total: on_progress(first + (last - first) * done // max(total, 1), 100)
