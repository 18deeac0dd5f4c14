"""Several opinions about a scan, weighed by what they say about annotated slices that they were not shown.

Stacked generalisation (Wolpert, 1992) on one scan: every opinion exists once more without each view's slices, and the
weights are those with which the opinions predict what was painted there best. The pool is log-linear: the log
probabilities are added up with their weights (Genest and Zidek, 1986), which for one class is a logistic regression.

Shape legend: K opinions, C classes, n voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize

from napari_rada.models.completer import LOGIT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.propagation.base import Probability

LARGEST = 2.0
"""Largest weight of an opinion; the smallest is 0."""
FLOOR = 1.0 / (1.0 + np.exp(LOGIT_LIMIT))
"""Smallest probability that an opinion may give, so that none decides alone."""


class Judged(NamedTuple):
    """What opinions that were not shown a view's slices say about them: probability (K, C, n), true class (n,)."""

    opinions_KCn: NDArray[np.float32]
    truth_n: NDArray[np.int16]


def fit_weights(views: Sequence[Judged], usual_K: Sequence[float], caution: float | None) -> NDArray[np.float64]:
    """Return the weights (K,), each in 0..`LARGEST`, that explain the slices best and are not far from the usual ones.

    They minimise the cross entropy, each view counting the same, plus `caution` times the squared distance to the usual
    weights, which is a convex problem.

    Parameters
    ----------
    views
        Those without voxels are left out; without any the weights are the usual ones.
    caution
        None keeps the usual weights.
    """
    usual = np.asarray(usual_K, dtype=np.float64)
    known = [(_log(view.opinions_KCn), view.truth_n) for view in views if view.truth_n.size]
    if caution is None or not known:
        return usual

    def cost(weights_K: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        away = weights_K - usual
        value, slope = caution * float(away @ away), 2.0 * caution * away
        for log_KCn, truth_n in known:
            one_value, one_slope = _cross_entropy(log_KCn, truth_n, weights_K)
            value, slope = value + one_value / len(known), slope + one_slope / len(known)
        return value, slope

    found = minimize(cost, usual, jac=True, method="L-BFGS-B", bounds=[(0.0, LARGEST)] * len(usual))
    return np.asarray(found.x)


def pooled(opinions: Sequence[Probability], weights_K: NDArray[np.float64]) -> Probability:
    """Pool opinions (C, …) log-linearly; the result sums to 1 over C, and a class that all exclude stays excluded."""
    scores = np.zeros_like(opinions[0])
    for opinion, weight in zip(opinions, weights_K, strict=True):
        scores += np.float32(weight) * _log(opinion)
    probability = np.exp(scores - scores.max(axis=0))
    probability[np.max(opinions, axis=0) <= 0.0] = 0.0
    return np.asarray(probability / probability.sum(axis=0), dtype=np.float32)


def _log(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.log(np.maximum(probability, np.float32(FLOOR))), dtype=np.float32)


def _cross_entropy(
    log_KCn: NDArray[np.float32], truth_n: NDArray[np.int16], weights_K: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Mean cross entropy of the pool with the truth, and its slope (K,)."""
    scores_Cn = np.tensordot(weights_K, log_KCn, axes=1)
    scores_Cn -= scores_Cn.max(axis=0)
    log_total_n = np.log(np.exp(scores_Cn).sum(axis=0))
    voxels = np.arange(truth_n.size)
    value = float((log_total_n - scores_Cn[truth_n, voxels]).mean())
    excess_Cn = np.exp(scores_Cn - log_total_n)
    excess_Cn[truth_n, voxels] -= 1.0
    return value, np.tensordot(log_KCn, excess_Cn, axes=([1, 2], [0, 1])) / truth_n.size
