"""Intensity windows in which radiologists look at CT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada._napari.layers import is_lazy
from napari_rada.data.intensity import CT_WINDOWS

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray

SAMPLES = 200_000
"""Voxels that are looked at to find the range of an image."""


@dataclass(frozen=True)
class Window:
    """A named range of intensities, in Hounsfield units."""

    name: str
    lower: float
    upper: float


WINDOWS = tuple(Window(name, *limits) for name, limits in CT_WINDOWS.items())


def apply_window(image: Image, window: Window | None) -> tuple[float, float]:
    """Show an image in a window, or in its own range (1st to 99th percentile) if None; returns the limits."""
    limits = (window.lower, window.upper) if window else own_range(image)
    low, high = image.contrast_limits_range
    image.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))
    image.contrast_limits = limits
    return limits


def shown_window(image: Image) -> Window | None:
    """Return the window in which an image is shown, None if it is none of those that have a name."""
    limits = tuple(image.contrast_limits)
    return next((window for window in WINDOWS if (window.lower, window.upper) == limits), None)


def own_range(image: Image) -> tuple[float, float]:
    """Return the 1st and 99th percentile of an image, from a regular sample of its voxels.

    Of a multiscale image the coarsest level is looked at, of another that is read in parts its middle planes.
    """
    sample = _middle_planes(image.data) if is_lazy(image) and not image.multiscale else _sample(image)
    finite = sample[np.isfinite(sample)]
    if not finite.size or finite.min() == finite.max():
        return (0.0, 1.0)
    low, high = np.percentile(finite, (1, 99))
    return (float(low), float(high)) if high > low else (float(finite.min()), float(finite.max()))


def _sample(image: Image) -> NDArray[np.float64]:
    pixels = np.asarray(image.data[-1] if image.multiscale else image.data)
    step = max(1, round((pixels.size / SAMPLES) ** (1 / pixels.ndim)))
    return np.asarray(pixels[(slice(None, None, step),) * pixels.ndim], dtype=np.float64)


def _middle_planes(pixels: Any) -> NDArray[np.float64]:
    """Return every second or so voxel of the middle plane of each axis."""
    planes = []
    for axis, size in enumerate(pixels.shape):
        index = tuple(size // 2 if other == axis else slice(None) for other in range(pixels.ndim))
        plane = np.asarray(pixels[index], dtype=np.float64)
        planes.append(plane.ravel()[:: max(1, pixels.ndim * plane.size // SAMPLES)])
    return np.concatenate(planes)
