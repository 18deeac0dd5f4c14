"""Propagation by diffusion: the random walker, averaged over several edge sensitivities.

A walker starts at every unknown voxel and prefers not to cross edges of the image; the probability of a class is that
of reaching one of its annotated voxels first (Grady, Random walks for image segmentation, IEEE TPAMI 2006). These
probabilities solve one sparse linear system per class. No single edge sensitivity β suits every organ, and averaging
the probabilities over a few of them beats choosing one (docs/benchmarks.md).

Shape legend: C classes, V views (3), Z Y X working grid, n all voxels, u unknown voxels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import LinearOperator, cg

from napari_rada.data.classes import UNKNOWN
from napari_rada.data.working import coarsen, coarsening_factors, upsample
from napari_rada.propagation.base import PseudoLabels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.config import DiffusionConfig
    from napari_rada.control import RunControl
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import OnProgress, Probability

WEIGHT_FLOOR = 1e-10
"""Smallest weight of an edge: keeps the graph connected across the sharpest edges."""
MAX_ITERATIONS = 2000
"""Conjugate gradient steps after which a solution is taken as it is; a few hundred are usual."""


class _Problem(NamedTuple):
    """One linear system: which Laplacian, and which voxels are known."""

    sensitivity: int
    seeds_n: NDArray[np.int16]


class DiffusionPropagator:
    """The random walker behind the `Propagator` interface."""

    def __init__(self, config: DiffusionConfig, threads: int) -> None:
        self.config = config
        self.threads = threads

    def propagate(
        self, case: WorkingCase, *, held_out: bool, control: RunControl, on_progress: OnProgress
    ) -> PseudoLabels:
        """Solve on a grid of at most `config.max_voxels` and interpolate back; see `Propagator.propagate`."""
        coarse = coarsen(case, coarsening_factors(case.shape, case.spacing, self.config.max_voxels))
        folds = [coarse.truth.ravel()]
        usable = [view for view in range(3) if held_out and _known_without(coarse, view) is not None]
        folds += [seeds.ravel() for view in usable if (seeds := _known_without(coarse, view)) is not None]
        solved = self._solve_all(coarse, folds, control, on_progress)
        relative = tuple(c // f for c, f in zip(coarse.factors, case.factors, strict=True))
        fine = [upsample(p, (relative[0], relative[1], relative[2]), case.shape) for p in solved]
        probability = _stamped(fine[0], case.truth)
        without: list[Probability | None] = [None, None, None]
        for view, unstamped in zip(usable, fine[1:], strict=True):
            known = _known_without(case, view)
            without[view] = unstamped if known is None else _stamped(unstamped, known)
        return PseudoLabels(
            method="diffusion",
            probability=probability,
            labels=probability.argmax(axis=0)[None].astype(np.int16),
            distance=distance_to_slices(case),
            held_out=tuple(without),
        )

    def _solve_all(
        self, case: WorkingCase, folds: list[NDArray[np.int16]], control: RunControl, on_progress: OnProgress
    ) -> list[Probability]:
        """Mean probability over the sensitivities, (C, Z, Y, X), for each fold of seeds."""
        laplacians = [laplacian(case.image, beta) for beta in self.config.betas]
        problems = [_Problem(s, seeds) for seeds in folds for s in range(len(laplacians))]
        results: list[NDArray[np.float32]] = []
        on_progress(0, len(problems))
        with ThreadPoolExecutor(self.threads) as pool:
            solving = pool.map(
                lambda problem: solve(
                    laplacians[problem.sensitivity], problem.seeds_n, case.num_classes, self.config.tolerance, control
                ),
                problems,
            )
            for result in solving:
                results.append(result)
                on_progress(len(results), len(problems))
        step = len(laplacians)
        means = [np.mean(results[start : start + step], axis=0) for start in range(0, len(results), step)]
        return [np.asarray(mean, dtype=np.float32).reshape(-1, *case.shape) for mean in means]


def laplacian(image: NDArray[np.float32], beta: float) -> sparse.csr_array:
    """Graph Laplacian (n, n) of the 6-neighbourhood, edge weights exp(-β g² / (10 σ)).

    g is the difference of neighbouring intensities and σ the standard deviation of all, as in scikit-image. Spacing
    takes no part: on anisotropic scans that made every result worse (docs/benchmarks.md).
    """
    scale = beta / (10.0 * max(float(image.std()), 1e-6))
    index = np.arange(image.size, dtype=np.int32).reshape(image.shape)
    rows, columns, weights = [], [], []
    for axis in range(3):
        ahead: list[slice] = [slice(None)] * 3
        behind: list[slice] = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        difference = image[tuple(ahead)] - image[tuple(behind)]
        weight = (np.exp(-scale * difference.astype(np.float64) ** 2) + WEIGHT_FLOOR).ravel()
        first, second = index[tuple(behind)].ravel(), index[tuple(ahead)].ravel()
        rows += [first, second]
        columns += [second, first]
        weights += [weight, weight]
    place = (np.concatenate(rows), np.concatenate(columns))
    adjacency = sparse.coo_array((np.concatenate(weights), place), shape=(image.size, image.size)).tocsr()
    return sparse.csr_array(sparse.diags_array(adjacency.sum(axis=1)) - adjacency)


def solve(
    laplacian_nn: sparse.csr_array,
    seeds_n: NDArray[np.int16],
    num_classes: int,
    tolerance: float,
    control: RunControl,
) -> NDArray[np.float32]:
    """Probability (C, n) of every class, exact on the seeds; Jacobi-preconditioned conjugate gradients.

    Raises
    ------
    Stopped
        If a stop was requested; looked at in every step.
    """
    known = seeds_n != UNKNOWN
    one_hot = np.zeros((num_classes, seeds_n.size), dtype=np.float32)
    one_hot[seeds_n[known], np.flatnonzero(known)] = 1.0
    unknown = np.flatnonzero(~known)
    if not unknown.size:
        return one_hot
    rows_un = laplacian_nn[unknown]
    system_uu = rows_un[:, unknown]
    diagonal_u = system_uu.diagonal()
    jacobi = LinearOperator(system_uu.shape, matvec=lambda residual: residual.ravel() / diagonal_u, dtype=np.float64)
    solution = one_hot
    present = [index for index in range(num_classes) if (seeds_n == index).any()]
    for index in present[1:]:
        right_u = -rows_un @ one_hot[index].astype(np.float64)
        found_u, _ = cg(
            system_uu,
            right_u,
            rtol=tolerance,
            maxiter=MAX_ITERATIONS,
            M=jacobi,
            callback=lambda _: control.check(),
        )
        solution[index, unknown] = np.clip(found_u, 0.0, 1.0)
    # The classes sum to 1, so the first one needs no system of its own.
    others = solution[:, unknown].sum(axis=0)
    solution[present[0], unknown] = np.maximum(1.0 - others, 0.0)
    solution[:, unknown] /= solution[:, unknown].sum(axis=0)
    return solution


def distance_to_slices(case: WorkingCase) -> NDArray[np.float32]:
    """Distance (V, Z, Y, X) to the nearest annotated slice of each view, in units of the finest spacing."""
    finest = min(case.spacing)
    sampling = [spacing / finest for spacing in case.spacing]
    distances = np.full((len(case.slices), *case.shape), np.inf, dtype=np.float32)
    for view, planes in enumerate(case.slices):
        if planes:
            annotated = (case.views & np.uint8(1 << view)) != 0
            distances[view] = ndimage.distance_transform_edt(~annotated, sampling=sampling)
    return distances


def _known_without(case: WorkingCase, view: int) -> NDArray[np.int16] | None:
    """Truth (Z, Y, X) from all slices but those of a view; None if the view has none, or is the only one."""
    if not case.slices[view]:
        return None
    others = (case.views & np.uint8(0xFF ^ (1 << view))) != 0
    if not others.any():
        return None
    return np.where(others, case.truth, UNKNOWN).astype(np.int16)


def _stamped(probability: Probability, truth: NDArray[np.int16]) -> Probability:
    """Make the annotated voxels exact again after interpolation."""
    known = truth != UNKNOWN
    stamped = probability.copy()
    stamped[:, known] = np.eye(len(probability), dtype=np.float32)[truth[known]].T
    return stamped
