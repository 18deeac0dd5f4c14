"""Percentiles of a volume that is read in parts: exactly those of `numpy.percentile`, from two passes of counting.

Every float32 value has a key of 32 bits that sorts as the values do. The first pass counts the upper 16 bits of the
keys, the second the lower 16 bits inside the few upper ones in which the sought order statistics lie. Whole numbers of
up to 16 bits need the first pass only. What is counted block by block may be added up in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

BINS = 2**16


@dataclass(frozen=True, eq=False)
class Tally:
    """What was counted in one block, or in several.

    Parameters
    ----------
    voxels, finite
        How many there are, and how many of them are finite.
    low, high
        The extremes of the finite ones; infinite, the wrong way round, if there is none.
    counts
        (BINS,) finite voxels by the upper half of their keys.
    """

    voxels: int
    finite: int
    low: float
    high: float
    counts: NDArray[np.int64]

    def __add__(self, other: Tally) -> Tally:
        """Return what was counted in both."""
        return Tally(
            self.voxels + other.voxels,
            self.finite + other.finite,
            min(self.low, other.low),
            max(self.high, other.high),
            self.counts + other.counts,
        )


def tally(block: NDArray[Any]) -> Tally:
    """Count one block: the first pass."""
    values = block.ravel()
    if values.dtype.kind == "f":
        values = _as_float(values)
        values = values[np.isfinite(values)]
    if not values.size:
        return Tally(block.size, 0, np.inf, -np.inf, np.zeros(BINS, dtype=np.int64))
    low, high = float(np.float32(values.min())), float(np.float32(values.max()))
    return Tally(block.size, values.size, low, high, np.bincount(_keys(values) >> 16, minlength=BINS))


def tally_within(block: NDArray[Any], bins: Sequence[int]) -> NDArray[np.int64]:
    """Count one block by the lower half of the keys, inside some of the upper ones, (bins, BINS): the second pass."""
    values = block.ravel()
    if values.dtype.kind == "f":
        values = _as_float(values)
        values = values[np.isfinite(values)]
    keys = _keys(values)
    upper = keys >> 16
    found = [np.bincount(keys[upper == number] & (BINS - 1), minlength=BINS) for number in bins]
    return np.stack(found).astype(np.int64)


def total(tallies: Iterable[Tally]) -> Tally:
    """Add up the counts of all blocks."""
    return reduce(lambda a, b: a + b, tallies)


class Percentiles:
    """The order statistics that some percentiles lie between.

    Parameters
    ----------
    whole
        The first pass over all blocks. Voxels that are not finite count as the smallest finite one.
    percentiles
        In 0..100.
    dtype
        Of the volume.
    """

    def __init__(self, whole: Tally, percentiles: Sequence[float], dtype: np.dtype[Any]) -> None:
        self._whole = whole
        self._dtype = dtype
        self._positions = [(whole.voxels - 1) * (q / 100.0) for q in percentiles]
        self._sums = np.cumsum(whole.counts)
        ranks = {rank for position in self._positions for rank in self._neighbours(position)}
        self._bin_of = {rank: self._bin(rank) for rank in ranks}
        self.bins: tuple[int, ...] = () if is_short(dtype) else tuple(sorted(set(self._bin_of.values())))
        """What the second pass has to look into; empty if it is not needed."""

    def values(self, within: NDArray[np.int64] | None = None) -> tuple[float, ...]:
        """Return the percentiles, interpolated as numpy does; `within` is the sum of the second pass."""
        return tuple(self._interpolated(position, within) for position in self._positions)

    def _interpolated(self, position: float, within: NDArray[np.int64] | None) -> float:
        first, second = (np.float32(self._value(rank, within)) for rank in self._neighbours(position))
        share = position - int(position)
        step = float(second - first)
        return float(first) + step * share if share < 0.5 else float(second) - step * (1.0 - share)

    def _neighbours(self, position: float) -> tuple[int, int]:
        return int(position), min(int(position) + 1, self._whole.voxels - 1)

    def _finite_rank(self, rank: int) -> int:
        return max(0, rank - (self._whole.voxels - self._whole.finite))

    def _bin(self, rank: int) -> int:
        return int(np.searchsorted(self._sums, self._finite_rank(rank), side="right"))

    def _value(self, rank: int, within: NDArray[np.int64] | None) -> float:
        number = self._bin_of[rank]
        if not self.bins:
            return _value_of(number << 16, self._dtype)
        assert within is not None
        before = int(self._sums[number - 1]) if number else 0
        inside = np.cumsum(within[self.bins.index(number)])
        lower = int(np.searchsorted(inside, self._finite_rank(rank) - before, side="right"))
        return _value_of((number << 16) | lower, self._dtype)


def is_short(dtype: np.dtype[Any]) -> bool:
    """Tell whether 16 bits hold every value."""
    return dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize <= 2)


def _smallest(dtype: np.dtype[Any]) -> int:
    return 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)


def _as_float(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _keys(values: NDArray[Any]) -> NDArray[np.uint32]:
    """32 bits per value that sort as the values do."""
    if is_short(values.dtype):
        return (values.astype(np.int32) - _smallest(values.dtype)).astype(np.uint32) << np.uint32(16)
    bits = np.ascontiguousarray(_as_float(values)).view(np.uint32)
    sign = np.uint32(1 << 31)
    return np.where(bits & sign, ~bits, bits | sign)


def _value_of(key: int, dtype: np.dtype[Any]) -> float:
    if is_short(dtype):
        return float((key >> 16) + _smallest(dtype))
    sign = 1 << 31
    bits = key & ~sign if key & sign else ~key & 0xFFFFFFFF
    return float(np.array(bits, dtype=np.uint32).view(np.float32))
