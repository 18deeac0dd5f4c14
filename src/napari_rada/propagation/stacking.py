"""Several opinions about a scan, weighed by what they say about annotated slices that they were not shown.

Stacked generalisation (Wolpert, 1992) on one scan: every opinion exists once more without each view's slices, and the
weights are those with which the opinions predict what was painted there best. The pool is log-linear: the log
probabilities are added up with their weights (Genest and Zidek, 1986), and a constant for each class takes back what
all opinions have in common: masks that are too large or too small. For one class this is a logistic regression.

Shape legend: K opinions, C classes, n voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize

from napari_rada.models.completer import FLOOR, LOGIT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_rada.propagation.base import Probability

LARGEST = 2.0
"""Largest weight of an opinion; the smallest is 0."""


class Judged(NamedTuple):
    """What opinions that were not shown a view's slices say about them: probability (K, C, n), true class (n,).

    Of the classes (C,) only those count that other slices show; `truth_n` holds no others.
    """

    opinions_KCn: NDArray[np.float32]
    truth_n: NDArray[np.int16]
    known_C: NDArray[np.bool_]


class Pool(NamedTuple):
    """How opinions are pooled: weight of each opinion (K,), and what is added to the score of each class (C,)."""

    weights_K: NDArray[np.float64]
    offsets_C: NDArray[np.float64]


def fit_pool(
    views: Sequence[Judged],
    usual_K: Sequence[float],
    num_classes: int,
    caution: float | None,
    wanted: int | None = None,
) -> Pool:
    """Return the pool that explains the slices best and is not far from the usual one.

    It minimises the cross entropy, each view counting the same, plus `caution` times the squared distance of the
    weights to the usual ones and of the offsets to 0, which is a convex problem. Weights stay in 0..`LARGEST`; the
    offset of background is 0, and so is that of a class that is true in no voxel: what is wrongly taken for it would
    only say that it is too large.

    Parameters
    ----------
    views
        Those without voxels are left out. Where none is left in which a structure is true, all opinions weigh the same.
    caution
        None keeps the usual weights, without offsets.
    wanted
        Index of the only class that has to be true somewhere; None for any structure.
    """
    usual, even = np.zeros((2, len(usual_K) + num_classes - 1))
    usual[: len(usual_K)], even[: len(usual_K)] = usual_K, 1 / len(usual_K)
    if caution is None:
        return _pool(usual, len(usual_K))
    known = [(_log(view.opinions_KCn), view) for view in views if view.truth_n.size]
    told = {int(index) for _, view in known for index in np.unique(view.truth_n)}
    if not (told - {0} if wanted is None else told & {wanted}):
        return _pool(even, len(usual_K))

    def cost(found: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        away = found - usual
        value, slope = caution * float(away @ away), 2.0 * caution * away
        for log_KCn, view in known:
            one_value, one_slope = _cross_entropy(log_KCn, view, _pool(found, len(usual_K)))
            value, slope = value + one_value / len(known), slope + one_slope / len(known)
        return value, slope

    reach = [LOGIT_LIMIT if index in told else 0.0 for index in range(1, num_classes)]
    bounds = [(0.0, LARGEST)] * len(usual_K) + [(-most, most) for most in reach]
    return _pool(minimize(cost, usual, jac=True, method="L-BFGS-B", bounds=bounds).x, len(usual_K))


def pooled(opinions: Iterable[Probability], pool: Pool) -> Probability:
    """Pool opinions (C, …) log-linearly; the result sums to 1 over C, and a class that all exclude stays excluded.

    One after the other is taken, so that not all of them need exist at a time.
    """
    rest = iter(opinions)
    scores, excluded = None, None
    for weight in pool.weights_K.astype(np.float32).tolist():
        opinion = next(rest)
        logs, nowhere = _log(opinion, weight), opinion <= 0.0
        del opinion  # before the next one is made
        scores = logs if scores is None else np.add(scores, logs, out=scores)
        excluded = nowhere if excluded is None else np.logical_and(excluded, nowhere, out=excluded)
    assert scores is not None
    assert excluded is not None
    scores += pool.offsets_C.astype(np.float32).reshape(-1, *[1] * (scores.ndim - 1))
    scores -= scores.max(axis=0)
    probability: Probability = np.exp(scores, out=scores)
    probability[excluded] = 0.0
    probability /= probability.sum(axis=0)
    return probability


def _pool(found: NDArray[np.float64], opinions: int) -> Pool:
    """Take weights and offsets apart."""
    return Pool(found[:opinions], np.concatenate([[0.0], found[opinions:]]))


def _log(probability: NDArray[np.float32], weight: float = 1.0) -> NDArray[np.float32]:
    """Logarithm of a probability, times a weight; one new array."""
    found: NDArray[np.float32] = np.maximum(probability, np.float32(FLOOR))
    np.log(found, out=found)
    found *= weight
    return found


def _cross_entropy(log_KCn: NDArray[np.float32], view: Judged, pool: Pool) -> tuple[float, NDArray[np.float64]]:
    """Mean cross entropy of the pool with the truth, and its slope by the weights and the offsets, (K + C - 1,)."""
    truth_n = view.truth_n
    scores_Cn = np.tensordot(pool.weights_K, log_KCn, axes=1) + pool.offsets_C[:, None]
    scores_Cn[~view.known_C] = -np.inf
    scores_Cn -= scores_Cn.max(axis=0)
    log_total_n = np.log(np.exp(scores_Cn).sum(axis=0))
    voxels = np.arange(truth_n.size)
    value = float((log_total_n - scores_Cn[truth_n, voxels]).mean())
    excess_Cn = np.exp(scores_Cn - log_total_n)
    excess_Cn[truth_n, voxels] -= 1.0
    by_weights = np.tensordot(log_KCn, excess_Cn, axes=([1, 2], [0, 1]))
    return value, np.concatenate([by_weights, excess_Cn[1:].sum(axis=1)]) / truth_n.size
