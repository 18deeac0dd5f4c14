"""Propagation by diffusion, corrected by a network that was pre-trained on synthetic scans.

The random walker follows edges and knows nothing of shape or appearance. The completer sees, for one class at a time,
the walker's answer beside the image, what intensities the class has, and the outlines in the annotated slices
(`napari_rada.propagation.cues`), and corrects the log-odds. It has learned that from synthetic scans alone
(`napari-rada pretrain`), so that it serves any organ and scanner.

Shape legend: C classes, K cues, V views (3), Z Y X working grid; B orientations (2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_rada.data.working import coarsen, coarsening_factors, relative_factors, upsample
from napari_rada.models.completer import CUES, LOGIT_LIMIT, load_completer
from napari_rada.prediction import disagreement
from napari_rada.propagation.base import PseudoLabels, can_hold_out, distance_to_slices, stamped, truth_without
from napari_rada.propagation.cues import CueMaker
from napari_rada.propagation.diffusion import DiffusionPropagator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.config import LearnedConfig
    from napari_rada.control import RunControl
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import Factors, WorkingCase
    from napari_rada.models.completer import Completer
    from napari_rada.propagation.base import OnProgress, Probability

PROPAGATION = CUES.index("propagation")


class _Fold(NamedTuple):
    """What may be known in one propagation: all slices, or those without one view."""

    walked: Probability
    truth: NDArray[np.int16]
    slices: Sequence[Sequence[AnnotatedSlice]]


class LearnedPropagator:
    """Random walker and completer behind the `Propagator` interface.

    Parameters
    ----------
    config
        Share of the completer, settings of the random walker.
    threads
        Systems that the random walker solves at the same time.
    completer
        The network; None takes the one in the package.
    """

    def __init__(self, config: LearnedConfig, threads: int = 1, completer: Completer | None = None) -> None:
        self.config = config
        self.walker = DiffusionPropagator(config.diffusion, threads)
        self.completer = completer or load_completer()

    def propagate(
        self, case: WorkingCase, *, held_out: bool, control: RunControl, on_progress: OnProgress
    ) -> PseudoLabels:
        """Walk and complete on a grid of at most `config.diffusion.max_voxels`; see `Propagator.propagate`."""
        coarse = coarsen(case, coarsening_factors(case.shape, case.spacing, self.config.diffusion.max_voxels))
        views = [None, *(view for view in range(3) if held_out and can_hold_out(coarse, view))]
        walks = 0

        def on_walk(done: int, total: int) -> None:
            nonlocal walks
            walks = total
            on_progress(done, total + len(views))

        walked = self.walker.propagate(coarse, held_out=held_out, control=control, on_progress=on_walk)
        folds = [_fold(coarse, walked, view) for view in views]
        completed = []
        for number, fold in enumerate(folds, start=1):
            completed.append(self._complete(coarse, fold, control))
            on_progress(walks + number, walks + len(folds))
        relative, share = relative_factors(coarse, case), self._share(coarse)
        without: list[Probability | None] = [None, None, None]
        for view, fold, found in zip(views[1:], folds[1:], completed[1:], strict=True):
            assert view is not None
            mixed = upsample(mix(fold.walked, found, share), relative, case.shape)
            without[view] = stamped(mixed, truth_without(case, view))
        mixed = upsample(mix(walked.probability, completed[0], share), relative, case.shape)
        probability = stamped(mixed, case.truth)
        doubt = disagreement(np.stack([walked.probability, completed[0]]))
        assert doubt is not None  # two opinions
        distance = distance_to_slices(case)
        return PseudoLabels(
            method="diffusion and completion",
            probability=probability,
            labels=probability.argmax(axis=0)[None].astype(np.int16),
            distance=distance,
            held_out=tuple(without),
            disagreement=upsample(doubt[None], relative, case.shape)[0],
            walk=_on_grid(walked, case, relative, distance),
        )

    def _share(self, case: WorkingCase) -> float:
        """Share of the completer: none on grids of long voxels, where it measured worse than the walk alone."""
        return 0.0 if max(case.spacing) / min(case.spacing) > self.config.anisotropy else self.config.share

    def _complete(self, case: WorkingCase, fold: _Fold, control: RunControl) -> Probability:
        """Probability (C, Z, Y, X) of all classes; one class after the other, each against the rest."""
        maker = CueMaker(case, fold.truth, fold.slices)
        odds = np.ones_like(fold.walked)
        for index in range(1, case.num_classes):
            control.check()
            if not (fold.truth == index).any():
                odds[index] = 0.0
                continue
            cues_KZYX = maker.of_class(index, fold.walked[index])
            odds[index] = np.exp(LOGIT_LIMIT * cues_KZYX[PROPAGATION] + self._correction(cues_KZYX))
        return np.asarray(odds / odds.sum(axis=0))

    def _correction(self, cues_KZYX: NDArray[np.float32]) -> NDArray[np.float32]:
        """Correction (Z, Y, X) of the log-odds: mean over the scan and its mirror image.

        Two orientations are steadier than one, and a batch of two takes less time than a batch of one, for which
        PyTorch falls back to slow convolutions on the CPU.
        """
        cues = torch.from_numpy(cues_KZYX)
        cues_BKDHW = torch.stack([cues, cues.flip(1, 2, 3)]).contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode():
            upright, mirrored = self.completer(cues_BKDHW)
        return np.asarray((0.5 * (upright + mirrored.flip(0, 1, 2))).numpy())


def _fold(case: WorkingCase, walked: PseudoLabels, view: int | None) -> _Fold:
    if view is None:
        return _Fold(walked.probability, case.truth, case.slices)
    probability = walked.held_out[view]
    assert probability is not None
    kept = tuple(() if other == view else planes for other, planes in enumerate(case.slices))
    return _Fold(probability, truth_without(case, view), kept)


def _on_grid(walked: PseudoLabels, case: WorkingCase, relative: Factors, distance: NDArray[np.float32]) -> PseudoLabels:
    """Bring a walk from its coarse grid to that of the case, where `distance` is known already."""

    def finer(probability: Probability, truth: NDArray[np.int16]) -> Probability:
        return stamped(upsample(probability, relative, case.shape), truth)

    probability = finer(walked.probability, case.truth)
    without = tuple(
        None if held is None else finer(held, truth_without(case, view)) for view, held in enumerate(walked.held_out)
    )
    labels = probability.argmax(axis=0)[None].astype(np.int16)
    return PseudoLabels(walked.method, probability, labels, distance, without)


def mix(walked: Probability, completed: Probability, share: float) -> Probability:
    """Return the mean of two opinions (C, Z, Y, X), `share` being that of the second."""
    return np.asarray(np.float32(share) * completed + np.float32(1.0 - share) * walked)
