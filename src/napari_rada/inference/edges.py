"""Bringing a probability to the edges of the image on the scan's own grid.

Interpolated from coarse voxels, a boundary knows nothing of where within one of them the image has its edge, and on the
scan's own voxels it is as rough as the image. The guided filter (He, Sun and Tang, 2013) writes the probability as a
linear function of the intensities around every voxel: it follows their edges where there are some, and is averaged
where there are none. How strong an edge must be to count depends on the noise: in a noisy image more is averaged. The
size of every class stays about as it was.

Shape legend: C classes, z y x full grid or a box of it, n voxels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_rada.data.resampling import slabs
from napari_rada.inference.blending import SAMPLE, shift, size_offsets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.grid import Spacing

    Window = tuple[int, int, int]
    Slab = tuple[slice, slice, slice]

REACH = 1.0
"""Distance to the farthest voxels that are looked at, in units of the finest spacing."""
NOISE = 0.016
"""Median variance of the intensities (0..1) around a voxel from which on edges count for less than the noise."""
FLAT = 1e-6
"""Variance below which nothing is an edge."""
SURE = 0.999
"""Probability that neither filter nor size can turn."""


def follow_edges(
    probability_Czyx: NDArray[np.float32], image_zyx: NDArray[np.float32], spacing: Spacing, control: RunControl
) -> None:
    """Bring a probability to the edges of the image, in place, with about as many voxels of every class as before.

    Parameters
    ----------
    probability_Czyx
        Sums to 1 over C; left as it is if a stop was requested.
    image_zyx
        Intensities mapped to 0..1.
    spacing
        mm along (z, y, x).

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    window = _window(spacing)
    where = _doubtful(probability_Czyx, window)
    inside = probability_Czyx[(slice(None), *where)]
    if not inside.size:
        return
    followed = _followed(inside, image_zyx[where], window, control)
    shift(followed, _offsets(followed, inside))
    inside[...] = followed


def _offsets(followed_Czyx: NDArray[np.float32], before_Czyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find the constant for each class (C,) that gives it back the size it had, by a sample of the doubtful voxels."""
    both, parts = (followed_Czyx, before_Czyx), list(slabs(followed_Czyx.shape[1:]))
    doubtful = [np.minimum(*(values[:, planes].max(axis=0) for values in both)) < SURE for planes in parts]
    step = max(1, len(followed_Czyx) * sum(map(np.count_nonzero, doubtful)) // SAMPLE)
    samples: list[list[NDArray[np.float32]]] = [[], []]
    for planes, known in zip(parts, doubtful, strict=True):
        z, y, x = (axis[::step] for axis in np.nonzero(known))
        for values, sample in zip(both, samples, strict=True):
            sample.append(values[:, planes][:, z, y, x])
    return size_offsets(*(np.concatenate(sample, axis=1) for sample in samples))


def _doubtful(probability_Czyx: NDArray[np.float32], window: Window) -> tuple[slice, ...]:
    """Box around all voxels that are not sure of their class, and what their filter looks at; empty if all are sure."""
    doubtful, where = probability_Czyx.max(axis=0) < SURE, []
    for axis, width in enumerate(window):
        found = np.flatnonzero(doubtful.any(axis=tuple(other for other in range(3) if other != axis)))
        where.append(slice(max(0, int(found[0]) - width), int(found[-1]) + width + 1) if found.size else slice(0))
    return tuple(where)


def _followed(
    probability_Czyx: NDArray[np.float32], image_zyx: NDArray[np.float32], window: Window, control: RunControl
) -> NDArray[np.float32]:
    """Filter every class, a part at a time; background is what is left.

    The noisier the image the stronger an edge has to be, faster than its noise.
    """
    parts = list(_with_margins(image_zyx.shape, window))
    step = max(1, image_zyx.size // SAMPLE)
    found = np.empty_like(probability_Czyx)

    def some_variances(slab: Slab) -> NDArray[np.float32]:
        control.check()
        part = image_zyx[slab[1]]
        return _variance(part, _mean(part, window), window)[slab[2]].ravel()[::step]

    def follow(slab: Slab) -> None:
        control.check()
        inner, outer, within = slab
        followed = _guided(image_zyx[outer], probability_Czyx[1:, outer], window, epsilon)
        part = found[:, inner]
        np.clip(followed[:, within], 0.0, 1.0, out=part[1:])
        np.subtract(1.0, part[1:].sum(axis=0), out=part[0])
        np.maximum(part[0], 0.0, out=part[0])
        if len(part) > 2:  # clipped one by one, several classes can come to more than 1
            part /= part.sum(axis=0)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        noise = float(np.median(np.concatenate(list(threads.map(some_variances, parts)))))
        epsilon = max((noise / NOISE) ** 2, FLAT)
        list(threads.map(follow, parts))
    return found


def _window(spacing: Spacing) -> Window:
    """Voxels along (z, y, x) that are averaged: `REACH` to either side."""
    z, y, x = (2 * round(REACH * min(spacing) / step) + 1 for step in spacing)
    return (z, y, x)


def _with_margins(shape: tuple[int, ...], window: Window) -> Iterator[Slab]:
    """Parts along z: which part, that part with what its filter looks at, and where the part lies within that."""
    margin = window[0] - 1  # half a window for the coefficients, and half for their mean
    for inner in slabs(shape):
        first = max(0, inner.start - margin)
        outer = slice(first, min(inner.stop + margin, shape[0]))
        yield inner, outer, slice(inner.start - first, inner.stop - first)


def _guided(
    image_zyx: NDArray[np.float32], values_Czyx: NDArray[np.float32], window: Window, epsilon: float
) -> NDArray[np.float32]:
    """Filter each of the values by the guided filter, the image being the guide."""
    level = _mean(image_zyx, window)
    variance = _variance(image_zyx, level, window)
    found = np.empty_like(values_Czyx)
    for index, values in enumerate(values_Czyx):
        mean = _mean(values, window)
        slope = (_mean(image_zyx * values, window) - level * mean) / (variance + np.float32(epsilon))
        found[index] = _mean(slope, window) * image_zyx + _mean(mean - slope * level, window)
    return found


def _mean(values: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    return np.asarray(ndimage.uniform_filter(values, window))


def _variance(image: NDArray[np.float32], level: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    return np.asarray(np.maximum(_mean(image * image, window) - level * level, np.float32(0.0)))
