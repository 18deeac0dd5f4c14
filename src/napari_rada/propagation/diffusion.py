"""Propagation by diffusion: the random walker, averaged over two edge scales.

A walker starts at every unknown voxel and prefers not to cross edges of the image; the probability of a class is that
of reaching one of its annotated voxels first (Grady, Random walks for image segmentation, IEEE TPAMI 2006). These
probabilities solve one sparse linear system per class. What differs from Grady, each because it measured better
(docs/tries.md):

- An edge conducts (1 + (g/κ)²)⁻² / h, g the difference of the two intensities, h their distance in units of the finest
  spacing. The tail is heavier than Grady's Gaussian, so that one κ suits more organs.
- κ is a multiple of the mean difference between neighbours, mostly that of the surroundings, and the probabilities for
  two multiples are averaged.
- With a small chance per step a walker is lost and counts as background: regions that hardly anything connects with an
  annotated slice do not join the class that happens to leak into them.

Shape legend: C classes, V views (3), Z Y X working grid, n all voxels of the grid on which is solved.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import LinearOperator, cg

from napari_rada.data.classes import UNKNOWN
from napari_rada.data.resampling import upsample
from napari_rada.data.working import coarsen, coarsening_factors, relative_factors
from napari_rada.propagation.base import (
    PseudoLabels,
    can_hold_out,
    distance_to_slices,
    stamped,
    truth_without,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.grid import Spacing
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import OnProgress, Probability
    from napari_rada.settings import DiffusionConfig

BACKGROUND = 0
WEIGHT_FLOOR = 1e-4
"""Smallest conductance of an edge: keeps the graph connected, and the systems well enough conditioned for float32."""
SURROUNDINGS = 11
"""Side of the cube, in voxels, whose mean intensity step counts as usual in its centre."""
LOCAL_SHARE = 0.8
"""Share of the surroundings in the usual intensity step; the rest is that of the whole image."""
MAX_STEPS = 2000
"""Conjugate gradient steps after which a solution is taken as it is; about a hundred are usual."""


class _Problem(NamedTuple):
    """Find the probability of one class from one set of seeds."""

    fold: int
    seeds_n: NDArray[np.int16]
    class_index: int


class DiffusionPropagator:
    """The random walker behind the `Propagator` interface.

    Parameters
    ----------
    config
        Edge scales, absorption, grid and tolerance.
    threads
        Systems solved at the same time. The result does not depend on it.
    """

    def __init__(self, config: DiffusionConfig, threads: int = 1) -> None:
        self.config = config
        self.threads = threads

    def propagate(
        self, case: WorkingCase, *, held_out: bool, control: RunControl, on_progress: OnProgress
    ) -> PseudoLabels:
        """Solve on a grid of at most `config.max_voxels` and interpolate back; see `Propagator.propagate`.

        `labels` has V = 1, since every voxel is reached from all slices at once; `distance` has V = 3. The folds of
        `held_out` are solved on their own: a start from the solution with all slices would be faster, but carry
        over what the held-out slices say.
        """
        control.check()
        coarse = coarsen(case, coarsening_factors(case.shape, case.spacing, self.config.max_voxels))
        views = [view for view in range(3) if held_out and can_hold_out(coarse, view)]
        folds = [coarse.truth, *(truth_without(coarse, view) for view in views)]
        solved = self._solve_folds(coarse, folds, control, on_progress)
        relative = relative_factors(coarse, case)
        probability = stamped(upsample(solved[0], relative, case.shape), case.truth)
        without: list[Probability | None] = [None, None, None]
        for view, coarse_probability in zip(views, solved[1:], strict=True):
            without[view] = stamped(upsample(coarse_probability, relative, case.shape), truth_without(case, view))
        return PseudoLabels(
            method="diffusion",
            probability=probability,
            labels=probability.argmax(axis=0)[None].astype(np.int16),
            distance=distance_to_slices(case),
            held_out=tuple(without),
        )

    def _solve_folds(
        self,
        case: WorkingCase,
        folds: Sequence[NDArray[np.int16]],
        control: RunControl,
        on_progress: OnProgress,
    ) -> list[Probability]:
        """Probability (C, Z, Y, X) for each fold of seeds (Z, Y, X)."""
        graphs = [Graph.of_image(case.image, case.spacing, scale) for scale in self.config.scales]
        problems = [
            _Problem(number, seeds.ravel(), index)
            for number, seeds in enumerate(folds)
            for index in _classes_to_solve(seeds)
        ]
        found = [np.zeros((case.num_classes, case.image.size), dtype=np.float32) for _ in folds]

        def reach(problem: _Problem) -> NDArray[np.float32]:
            return self._reach(graphs, problem, control)

        on_progress(0, len(problems) + 1)
        with ThreadPoolExecutor(self.threads) as pool:
            for done, (problem, reached_n) in enumerate(zip(problems, pool.map(reach, problems), strict=True), start=1):
                found[problem.fold][problem.class_index] = reached_n
                on_progress(done, len(problems) + 1)
        for probability_Cn, seeds in zip(found, folds, strict=True):
            _complete(probability_Cn, seeds.ravel())
        on_progress(len(problems) + 1, len(problems) + 1)
        return [probability_Cn.reshape(-1, *case.shape) for probability_Cn in found]

    def _reach(self, graphs: Sequence[Graph], problem: _Problem, control: RunControl) -> NDArray[np.float32]:
        """Probability (n,) of reaching one class first, mean over the graphs; each starts from the last solution."""
        total_n: NDArray[np.float32] = np.zeros(problem.seeds_n.size, dtype=np.float32)
        reached_n = total_n
        for graph in graphs:
            reached_n = solve(graph, problem.seeds_n, problem.class_index, reached_n, self.config, control)
            total_n = total_n + reached_n
        return total_n / np.float32(len(graphs))


@dataclass(frozen=True, eq=False)
class Graph:
    """The 6-neighbourhood of an image with a conductance per edge.

    Parameters
    ----------
    conductance_nn
        Symmetric, zero diagonal. Stored by diagonals: half the memory traffic of compressed rows.
    degree_n
        Sum of the conductances at each voxel.
    """

    conductance_nn: sparse.dia_array
    degree_n: NDArray[np.float32]

    @classmethod
    def of_image(cls, image: NDArray[np.float32], spacing: Spacing, scale: float) -> Graph:
        """Make the graph of an image (Z, Y, X); κ is `scale` times the mean step of the surroundings."""
        usual = usual_step(image)
        bands_6n = np.zeros((6, image.size), dtype=np.float32)
        offsets = []
        for axis in range(3):
            first, second = _neighbours(axis)
            kappa = np.maximum(scale / 2 * (usual[first] + usual[second]), 1e-12)
            weight = (1.0 + ((image[first] - image[second]) / kappa) ** 2) ** -2 + WEIGHT_FLOOR
            ahead_n, back_n = bands_6n[2 * axis : 2 * axis + 2]  # from a voxel to the next one; nothing leaves the grid
            ahead_n.reshape(image.shape)[first] = weight * (min(spacing) / spacing[axis])
            stride = int(np.prod(image.shape[axis + 1 :]))
            back_n[stride:] = ahead_n[: ahead_n.size - stride]  # a band is stored by its column
            offsets += [-stride, stride]
        conductance = sparse.dia_array((bands_6n, np.asarray(offsets)), shape=(image.size, image.size))
        return cls(conductance, np.asarray(bands_6n.sum(axis=0), dtype=np.float32))


def usual_step(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean absolute difference between neighbours (Z, Y, X): mostly of the surroundings, partly of the whole image.

    Noise and contrast differ within a scan, so that the same difference is an edge in one place and noise in another.
    """
    around = np.zeros_like(image)
    for axis in range(3):
        first, second = _neighbours(axis)
        around[first] += np.abs(image[first] - image[second]) / 3
    local = ndimage.uniform_filter(around, SURROUNDINGS, mode="nearest")
    return np.asarray(LOCAL_SHARE * local + (1.0 - LOCAL_SHARE) * around.mean(), dtype=np.float32)


def solve(
    graph: Graph,
    seeds_n: NDArray[np.int16],
    class_index: int,
    start_n: NDArray[np.float32],
    config: DiffusionConfig,
    control: RunControl,
) -> NDArray[np.float32]:
    """Probability (n,) that a walk from each voxel first reaches a seed of class `class_index`, and is not lost before.

    Conjugate gradients on the unknown voxels, scaled to a unit diagonal; `start_n` is where they start.

    Raises
    ------
    Stopped
        If a stop was requested; looked at in every step.
    """
    reached_n = (seeds_n == class_index).astype(np.float32)
    root_n = np.sqrt((1.0 - config.absorption) / graph.degree_n, dtype=np.float32)
    scaling_n = np.where(seeds_n == UNKNOWN, root_n, np.float32(0.0))

    def walk(values_n: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(values_n - scaling_n * (graph.conductance_nn @ (scaling_n * values_n)))

    size = seeds_n.size
    scaled_n, _ = cg(
        LinearOperator((size, size), matvec=walk, dtype=np.dtype(np.float32)),
        scaling_n * (graph.conductance_nn @ reached_n),
        x0=np.where(seeds_n == UNKNOWN, start_n / root_n, np.float32(0.0)),
        rtol=config.tolerance,
        maxiter=MAX_STEPS,
        callback=lambda _: control.check(),
    )
    return np.asarray(reached_n + np.clip(scaling_n * scaled_n, 0.0, 1.0), dtype=np.float32)


def _classes_to_solve(seeds: NDArray[np.int16]) -> list[int]:
    """Class indices that need a system: those with seeds; background has what the others leave."""
    present = [int(index) for index in np.unique(seeds) if index != UNKNOWN]
    return [index for index in present if index != BACKGROUND]


def _complete(probability_Cn: NDArray[np.float32], seeds_n: NDArray[np.int16]) -> None:
    """Make the classes sum to 1, in place: background takes what the others leave, if any seed is background.

    If none is, a walk that was lost says nothing, and where no walk arrives all classes with seeds are equally likely.
    """
    total_n = probability_Cn[1:].sum(axis=0)
    if (seeds_n == BACKGROUND).any():
        probability_Cn[BACKGROUND] = np.maximum(1.0 - total_n, 0.0)
    else:
        seeded = np.isin(np.arange(len(probability_Cn)), seeds_n)
        probability_Cn[:, total_n <= 0.0] = seeded[:, None]
    probability_Cn /= probability_Cn.sum(axis=0)


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index that takes the first, and that takes the second voxel of every pair of neighbours along an axis."""
    first, second = [slice(None)] * 3, [slice(None)] * 3
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    return tuple(first), tuple(second)
