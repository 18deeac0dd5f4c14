"""What was scanned, and the intensities that become 0 and 1: exactly as the whole volume in memory would give them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from napari_rada.data.box import box_shape
from napari_rada.data.case import told_non_finite
from napari_rada.data.percentiles import Percentiles, Tally, tally, tally_within
from napari_rada.data.scanned import Extent
from napari_rada.errors import InputError
from napari_rada.events import Stage, StageProgress
from napari_rada.inference.window import boxes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.box import Box
    from napari_rada.data.case import NonFinite
    from napari_rada.data.grid import Shape
    from napari_rada.events import Listener
    from napari_rada.io.lazy import LazyVolume
    from napari_rada.outofcore.runner import Runner
    from napari_rada.settings import DataConfig

READ = 2**23
"""Voxels, about, that are counted at once."""


@dataclass(frozen=True)
class Intensities:
    """What becomes 0 and 1, what stands for NaN and infinity, and the part of the volume that was scanned."""

    low: float
    high: float
    replacement: float
    scanned: Box


@dataclass(frozen=True)
class Counting:
    """The first pass over the intensities of a volume, as work for a runner."""

    volume: LazyVolume

    def __call__(self, box: Box, control: RunControl) -> tuple[Tally, Extent]:
        """Count a box, and look how much of it was scanned."""
        control.check()
        block = self.volume.read(box)
        return tally(block), Extent.of(block, box[0])


@dataclass(frozen=True)
class CountingWithin:
    """The second pass, inside the bins that the first found."""

    volume: LazyVolume
    bins: tuple[int, ...]

    def __call__(self, box: Box, control: RunControl) -> NDArray[np.int64]:
        """Count a box."""
        control.check()
        return tally_within(self.volume.read(box), self.bins)


def find_intensities(
    volume: LazyVolume,
    config: DataConfig,
    non_finite: NonFinite | None,
    runner: Runner,
    control: RunControl,
    listener: Listener,
) -> Intensities:
    """Read the whole volume once, or twice if its values need more than 16 bits and no window is set.

    Parameters
    ----------
    non_finite
        What to do with NaN and infinity, if not as in the configuration.

    Raises
    ------
    InputError
        If the volume is constant, also inside the window, or holds NaN or infinity that are not to be replaced.
    Stopped
        If a stop was requested.
    """
    units = list(boxes(volume.shape, _parts(volume)))

    def tell(done: int, what: str) -> None:
        listener(StageProgress(Stage.PREPARE, done, len(units), what))

    found: list[tuple[Tally, Extent]] = []
    tell(0, "intensities")
    for done, (counted, seen) in enumerate(runner.map(Counting(volume), units, control), start=1):
        found = [(found[0][0] + counted, found[0][1] + seen)] if found else [(counted, seen)]
        tell(done, "intensities")
    whole, extent = found[0]
    _check_values(whole, volume.name, non_finite or config.non_finite)
    scanned = extent.box(volume.shape)
    if config.window:
        low, high = config.window
    else:
        outside = whole.voxels - prod(box_shape(scanned))
        sought = Percentiles(whole, config.percentiles, volume.dtype, outside)
        within: NDArray[np.int64] | None = None
        work = CountingWithin(volume, sought.bins)
        for done, counts in enumerate(runner.map(work, units if sought.bins else [], control), start=1):
            within = counts if within is None else within + counts
            tell(done, "intensities once more")
        low, high = sought.values(within)
    if not high > low:
        low, high = whole.low, whole.high
    _check_window(low, high, whole, volume.name)
    return Intensities(low, high, whole.low, scanned)


def _check_values(whole: Tally, name: str, non_finite: NonFinite) -> None:
    """Raise what `Case.create` raises for a volume in memory."""
    bad = whole.voxels - whole.finite
    if bad and (non_finite == "refuse" or not whole.finite):
        raise InputError(told_non_finite(name, bad, whole.voxels))
    if whole.low == whole.high:
        raise InputError(f"{name}: every voxel of the image is {whole.low:g}; a constant image cannot be segmented.")


def _check_window(low: float, high: float, whole: Tally, name: str) -> None:
    """Raise what `normalise` raises for a volume in memory."""
    if low >= whole.high or high <= whole.low:
        raise InputError(
            f"{name}: the intensity window {low:g} to {high:g} leaves one value only; the image reaches from "
            f"{whole.low:g} to {whole.high:g}."
        )


def _parts(volume: LazyVolume) -> Shape:
    """Return the size of what is counted at once: as many whole stored chunks as come near `READ` voxels."""
    z, y, x = (min(side, size) for side, size in zip(volume.chunks, volume.shape, strict=True))
    x = min(volume.shape[2], x * max(1, READ // prod((z, y, x))))
    y = min(volume.shape[1], y * max(1, READ // prod((z, y, x))))
    z = min(volume.shape[0], z * max(1, READ // prod((z, y, x))))
    return (z, y, x)
