"""The exponent of a power law through measurements: the slope of a straight line in a log-log plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_NOISE = 0.1
"""Exponents are not told apart more finely than this, however well the points lie on a line."""


@dataclass(frozen=True)
class Exponent:
    """y ~ x ** slope, with the standard error of the slope; 0 where two points leave none."""

    slope: float
    error: float

    @property
    def is_above_one(self) -> bool:
        """True if y grows faster than x by more than noise: two standard errors, at least `LEAST_NOISE`."""
        return self.slope - max(2 * self.error, LEAST_NOISE) > 1

    def __str__(self) -> str:
        """Write slope ± error."""
        return f"{self.slope:.2f} ± {self.error:.2f}"


def fit_exponent(x: Sequence[float], y: Sequence[float | None]) -> Exponent | None:
    """Fit the exponent by least squares; None if fewer than two points have a positive y.

    A y that is None or not positive has no logarithm: it is less than what can be measured, and left out.
    """
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if b is not None and b > 0]
    if len({a for a, _ in pairs}) < 2:
        return None
    u, v = np.log(np.asarray(pairs, dtype=np.float64)).T
    u = u - u.mean()
    slope = float(u @ v / (u @ u))
    rest = v - v.mean() - slope * u
    freedom = len(pairs) - 2
    error = float(np.sqrt(rest @ rest / freedom / (u @ u))) if freedom else 0.0
    return Exponent(slope, error)
