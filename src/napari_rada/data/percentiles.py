"""Percentiles of a volume that is read in parts: exactly those of `intensity_range`, from two passes of counting.

Every float32 value has a key of 32 bits that sorts as the values do. The first pass counts the upper 16 bits of the
keys, the second the lower 16 bits inside the few upper ones in which the sought order statistics lie. Whole numbers of
up to 16 bits need the first pass only. What is counted block by block may be added up in any order.

Voxels that nobody scanned hold one value, the darkest. Their number must not say how bright everything else is, so that
a scan is seen alike with them and without (`left_out`).
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

FILLING = 0.01
"""Share of the voxels above which the darkest value may be one that fills what nobody scanned."""


def may_fill(dark: int, voxels: int, lower: float) -> bool:
    """Tell whether so many of the voxels, which are the darkest, may be filling: `lower` is the lower percentile."""
    return max(FILLING * voxels, (voxels - 1) * (lower / 100.0)) < dark < voxels


def left_out(dark: int, voxels: int, darkest: float, others: tuple[float, float]) -> int:
    """Return how many of the darkest voxels do not count, where they may be filling.

    All of them, if they lie farther below the percentiles of the `others` than these lie apart; else as many as there
    are more of them than of others.
    """
    first, last = others
    return dark if first - darkest > last - first > 0 else max(0, 2 * dark - voxels)


@dataclass(frozen=True, eq=False)
class Tally:
    """What was counted in one block, or in several.

    Parameters
    ----------
    voxels, finite
        How many there are, and how many of them are finite.
    low, high
        The extremes of the finite ones; infinite, the wrong way round, if there is none.
    dark
        How many of the finite ones are `low`.
    counts
        (BINS,) finite voxels by the upper half of their keys.
    """

    voxels: int
    finite: int
    low: float
    high: float
    dark: int
    counts: NDArray[np.int64]

    def __add__(self, other: Tally) -> Tally:
        """Return what was counted in both."""
        low = min(self.low, other.low)
        return Tally(
            self.voxels + other.voxels,
            self.finite + other.finite,
            low,
            max(self.high, other.high),
            sum(part.dark for part in (self, other) if part.low == low),
            self.counts + other.counts,
        )


def tally(block: NDArray[Any]) -> Tally:
    """Count one block: the first pass."""
    values: NDArray[Any] = block.ravel()
    if values.dtype.kind == "f":
        values = as_float(values)
        values = values[np.isfinite(values)]
    if not values.size:
        return Tally(block.size, 0, np.inf, -np.inf, 0, np.zeros(BINS, dtype=np.int64))
    low, high = float(np.float32(values.min())), float(np.float32(values.max()))
    dark = int(np.count_nonzero(as_float(values) == np.float32(low)))
    return Tally(block.size, values.size, low, high, dark, np.bincount(_keys(values) >> 16, minlength=BINS))


def tally_within(block: NDArray[Any], bins: Sequence[int]) -> NDArray[np.int64]:
    """Count one block by the lower half of the keys, inside some of the upper ones, (bins, BINS): the second pass."""
    values: NDArray[Any] = block.ravel()
    if values.dtype.kind == "f":
        values = as_float(values)
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
    outside
        How many voxels lie in planes that do not count, all of them the darkest, or not finite
        (`napari_rada.data.scanned`).
    """

    def __init__(self, whole: Tally, percentiles: tuple[float, float], dtype: np.dtype[Any], outside: int = 0) -> None:
        self._whole = whole
        self._dtype = dtype
        self._percentiles = percentiles
        self._outside = outside
        self._voxels = whole.voxels - outside
        self._dark = whole.dark + whole.voxels - whole.finite - outside
        self._sums = np.cumsum(whole.counts)
        ranks = {rank for without in self._choices for q in percentiles for rank in self._neighbours(q, without)}
        self._bin_of = {rank: self._bin(rank) for rank in ranks}
        self.bins: tuple[int, ...] = () if is_short(dtype) else tuple(sorted(set(self._bin_of.values())))
        """What the second pass has to look into; empty if it is not needed."""

    def values(self, within: NDArray[np.int64] | None = None) -> tuple[float, float]:
        """Return the percentiles, interpolated as numpy does; `within` is the sum of the second pass."""
        dark, low = self._dark, self._whole.low
        if dark not in self._choices:
            return self._without(0, within)
        return self._without(left_out(dark, self._voxels, low, self._without(dark, within)), within)

    @property
    def _choices(self) -> tuple[int, ...]:
        """How many of the darkest voxels may have to be left out."""
        dark, voxels = self._dark, self._voxels
        return (dark, max(0, 2 * dark - voxels)) if may_fill(dark, voxels, self._percentiles[0]) else (0,)

    def _without(self, number: int, within: NDArray[np.int64] | None) -> tuple[float, float]:
        """Return the percentiles without so many of the darkest voxels."""
        low, high = (self._interpolated(q, number, within) for q in self._percentiles)
        return low, high

    def _interpolated(self, q: float, without: int, within: NDArray[np.int64] | None) -> float:
        first, second = (np.float32(self._value(rank, within)) for rank in self._neighbours(q, without))
        position = self._position(q, without)
        share = position - int(position)
        step = float(second - first)
        return float(first) + step * share if share < 0.5 else float(second) - step * (1.0 - share)

    def _position(self, q: float, without: int) -> float:
        return (self._voxels - without - 1) * (q / 100.0)

    def _neighbours(self, q: float, without: int) -> tuple[int, int]:
        first = self._outside + without + int(self._position(q, without))
        return first, min(first + 1, self._whole.voxels - 1)

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


def as_float(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as float32; those that are too large become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _keys(values: NDArray[Any]) -> NDArray[np.uint32]:
    """32 bits per value that sort as the values do."""
    if is_short(values.dtype):
        return (values.astype(np.int32) - _smallest(values.dtype)).astype(np.uint32) << np.uint32(16)
    bits = np.ascontiguousarray(as_float(values)).view(np.uint32)
    sign = np.uint32(1 << 31)
    return np.where(bits & sign, ~bits, bits | sign)


def _value_of(key: int, dtype: np.dtype[Any]) -> float:
    if is_short(dtype):
        return float((key >> 16) + _smallest(dtype))
    sign = 1 << 31
    bits = key & ~sign if key & sign else ~key & 0xFFFFFFFF
    return float(np.array(bits, dtype=np.uint32).view(np.float32))
