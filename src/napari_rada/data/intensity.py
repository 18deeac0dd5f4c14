"""Intensities of a scan, whatever its scanner, as numbers from 0 to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.percentiles import left_out, may_fill
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CT_WINDOWS = {
    "soft tissue": (-160.0, 240.0),
    "liver": (-45.0, 105.0),
    "mediastinum": (-125.0, 225.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
}
"""Lower and upper end in HU of the windows in which radiologists look at CT (Radiopaedia, Windowing (CT),
https://radiopaedia.org/articles/windowing-ct, where soft tissue is a range of windows)."""


def normalise(
    image: NDArray[np.float32],
    percentiles: tuple[float, float],
    window: tuple[float, float] | None,
    name: str,
    part: tuple[slice, ...] = (),
    counted: tuple[slice, ...] = (),
) -> NDArray[np.float32]:
    """Map the intensities between two percentiles, or inside a window, linearly to 0..1 and clip the rest.

    Of a `part` of the image a new array is returned; the percentiles are those of another part, the one that is
    `counted` (`napari_rada.data.box.counted_part`), or of the whole.

    Raises
    ------
    InputError
        If one value would be left of the whole image.
    """
    low, high = intensity_range(image, percentiles, window, counted)
    extremes = np.asarray([image.min(), image.max()], dtype=np.float32)
    darkest, brightest = to_unit_range(extremes, low, high)
    if darkest == brightest:
        raise InputError(
            f"{name}: the intensity window {low:g} to {high:g} leaves one value only; the image reaches from "
            f"{extremes[0]:g} to {extremes[1]:g}."
        )
    return to_unit_range(image[part], low, high)


def intensity_range(
    image: NDArray[np.float32],
    percentiles: tuple[float, float],
    window: tuple[float, float] | None,
    counted: tuple[slice, ...] = (),
) -> tuple[float, float]:
    """Return the window, or the intensities at two percentiles; those of all voxels where these are one value.

    What fills an image where nobody scanned does not count (`napari_rada.data.percentiles.left_out`).
    """
    low, high = window or _at(_scanned(image, percentiles, counted), percentiles)
    return (low, high) if high > low else (float(image.min()), float(image.max()))


def _scanned(
    image: NDArray[np.float32], percentiles: tuple[float, float], counted: tuple[slice, ...]
) -> NDArray[np.float32]:
    """Return the voxels that count."""
    darkest = image.min()
    inside = image[counted]
    dark = int(np.count_nonzero(inside == darkest))
    if not may_fill(dark, inside.size, percentiles[0]):
        return inside
    others = inside[inside > darkest]
    without = left_out(dark, inside.size, float(darkest), _at(others, percentiles))
    return inside if without == 0 else np.concatenate([others, np.full(dark - without, darkest)])


def _at(values: NDArray[np.float32], percentiles: tuple[float, float]) -> tuple[float, float]:
    low, high = np.percentile(values, percentiles)
    return float(low), float(high)


def to_unit_range(image: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Map the intensities from `low` to `high` linearly to 0..1 and clip the rest."""
    return np.asarray(np.clip((image - low) / (high - low), 0.0, 1.0), dtype=np.float32)
