from __future__ import annotations

import numpy as np
import pytest

from napari_rada.data.intensity import intensity_range
from napari_rada.data.percentiles import Percentiles, tally, tally_within, total

RNG = np.random.default_rng(0)
VOLUMES = {
    "uint8": RNG.integers(0, 255, 999).astype(np.uint8),
    "int16": RNG.integers(-1024, 3071, 1000).astype(np.int16),
    "uint16": RNG.integers(0, 65535, 1001).astype(np.uint16),
    "int32": RNG.integers(-(10**6), 10**6, 998).astype(np.int32),
    "float32": RNG.normal(0, 100, 997).astype(np.float32),
    "float64": RNG.normal(0, 1e-3, 996),
    "few values": (RNG.integers(-1, 2, 995) * 1.5).astype(np.float32),
    "bool": RNG.random(994) > 0.3,
    "seven": np.arange(7, dtype=np.float32),
}


def counted(values: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, ...]:
    parts = np.array_split(values, 3)
    sought = Percentiles(total(map(tally, parts)), percentiles, values.dtype)
    within = sum(tally_within(part, sought.bins) for part in parts) if sought.bins else None
    return sought.values(within)


@pytest.mark.parametrize("percentiles", [(1.0, 99.0), (0.0, 100.0), (2.5, 63.7)])
@pytest.mark.parametrize("name", VOLUMES)
def test_counted_percentiles_are_those_of_numpy(name: str, percentiles: tuple[float, float]) -> None:
    values = VOLUMES[name]
    assert counted(values, percentiles) == tuple(np.percentile(values.astype(np.float32), percentiles))


@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("filling", [0, -9000])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_what_fills_a_volume_is_left_out_as_it_is_in_memory(dtype: type, filling: int, share: float) -> None:
    rng = np.random.default_rng(1)
    values = np.where(rng.random(3000) < share, filling, rng.normal(900, 200, 3000)).astype(dtype)
    values[5] = filling
    assert counted(values, (1.0, 99.0)) == intensity_range(values.astype(np.float32), (1.0, 99.0), None)
    plain = counted(values, (1.0, 99.0)) == tuple(np.percentile(values.astype(np.float32), (1.0, 99.0)))
    assert plain == (share < 0.5 and not filling), "a little of a value that is not far below others is one of the scan"


@pytest.mark.parametrize("low", [-50.0, 300.0, 0.0])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_planes_that_do_not_count_are_left_out_as_they_are_in_memory(dtype: type, low: float) -> None:
    rng = np.random.default_rng(1)
    scan = np.where(rng.random((10, 9, 8)) < 0.4, 0, rng.normal(900, 200, (10, 9, 8)).clip(0)).astype(dtype)
    padded = np.pad(scan + (low > 0) * int(low), 4, constant_values=min(low, 0))
    sought = Percentiles(tally(padded), (1.0, 99.0), padded.dtype, padded.size - scan.size)
    within = tally_within(padded, sought.bins) if sought.bins else None
    inside = (slice(4, -4),) * 3
    assert sought.values(within) == intensity_range(padded.astype(np.float32), (1.0, 99.0), None, inside)


def test_zero_is_one_value_whatever_its_sign() -> None:
    values = np.array([-0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 4.0], dtype=np.float32)
    assert counted(values, (1.0, 99.0)) == intensity_range(values, (1.0, 99.0), None)


def test_voxels_that_are_not_finite_count_as_the_smallest_finite_one() -> None:
    values = VOLUMES["float32"].copy()
    values[::7], values[3::50], values[5::90] = np.nan, np.inf, -np.inf
    replaced = np.where(np.isfinite(values), values, values[np.isfinite(values)].min())
    assert counted(values, (1.0, 99.0)) == tuple(np.percentile(replaced, (1.0, 99.0)))
    whole = tally(values)
    assert (whole.voxels, whole.finite) == (997, int(np.isfinite(values).sum()))
    assert (whole.low, whole.high) == (replaced.min(), replaced.max())


def test_a_block_without_a_finite_voxel_adds_nothing() -> None:
    empty = tally(np.full(5, np.nan))
    assert empty.finite == 0
    both = empty + tally(np.array([1.0, 2.0]))
    assert (both.voxels, both.low, both.high) == (7, 1.0, 2.0)
