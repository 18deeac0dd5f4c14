"""Arrays from grid to grid: by blocks of voxels that become one, and back.

Shape legend: C channels, Z Y X coarse grid, z y x fine grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_rada.data.grid import Shape

Factors: TypeAlias = tuple[int, int, int]
"""Fine voxels per coarse one along (z, y, x)."""
Padding: TypeAlias = tuple[int, int, int]
"""Fine voxels along (z, y, x) that are put before the first ones."""


SLAB = 2**20
"""Voxels of a scan that are worked on at a time where everything at once would take much memory."""


def upsample(
    values: NDArray[np.float32], factors: Factors, shape: Shape, padding: Padding = (0, 0, 0)
) -> NDArray[np.float32]:
    """Interpolate (C, Z, Y, X) to `shape`, where one coarse voxel covers `factors` fine ones.

    Parameters
    ----------
    padding
        Fine voxels along (z, y, x) that the coarse ones cover before the first of `shape`; they are left out.
    """
    if factors == (1, 1, 1):
        return values
    full = np.empty((len(values), *shape), dtype=np.float32)
    for planes in slabs(shape):
        full[:, planes] = upsample_planes(values, factors, shape, padding, planes)
    return full


def upsample_planes(
    values: NDArray[np.float32], factors: Factors, shape: Shape, padding: Padding, planes: slice
) -> NDArray[np.float32]:
    """Return some `planes` along z of what `upsample` returns."""
    if factors == (1, 1, 1):
        return values[:, planes]
    position = (np.arange(planes.start, planes.stop) + padding[0] + 0.5) / factors[0] - 0.5
    position = np.clip(position, 0, values.shape[1] - 1)
    below = position.astype(np.intp)
    above = np.minimum(below + 1, values.shape[1] - 1)
    share = (position - below).astype(np.float32)[:, None, None]
    between = values[:, below] * (1 - share) + values[:, above] * share
    tensor = torch.from_numpy(np.ascontiguousarray(between, dtype=np.float32))
    padded = [size * factor for size, factor in zip(values.shape[2:], factors[1:], strict=True)]
    full = F.interpolate(tensor, size=padded, mode="bilinear", align_corners=False)
    y, x = (slice(before, before + size) for before, size in zip(padding[1:], shape[1:], strict=True))
    return np.asarray(full[:, :, y, x].numpy())


def slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut a volume (z, y, x) along z into parts of about `SLAB` voxels."""
    thickness = max(1, SLAB // (shape[1] * shape[2]))
    for first in range(0, shape[0], thickness):
        yield slice(first, min(first + thickness, shape[0]))


def block_mean(image: NDArray[np.float32], factors: Factors, padding: Padding = (0, 0, 0)) -> NDArray[np.float32]:
    """Average blocks of `factors` voxels of (z, y, x), after `padding` voxels were put before the first ones.

    What is put before and what fills up the last blocks are copies of the border.
    """
    if factors == (1, 1, 1):
        return image
    padded = _filled_up(image, factors, padding)
    z, y, x = (size // factor for size, factor in zip(padded.shape, factors, strict=True))
    blocks = padded.reshape(z, factors[0], y, factors[1], x, factors[2])
    return np.ascontiguousarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def majority(
    planes: Sequence[NDArray[np.int16]], num_classes: int, factors: tuple[int, int], padding: tuple[int, int]
) -> NDArray[np.int16]:
    """Majority class of each block of one or more 2D label planes, which vote together.

    The lowest class index wins a tie; between several planes it is the lowest of the foreground, so that a structure
    that only some of them show does not vanish.
    """
    if factors == (1, 1) and len(planes) == 1:
        return planes[0]
    votes = np.sum([_votes(plane, num_classes, factors, padding) for plane in planes], axis=0)
    if len(planes) > 1:
        votes *= 2
        votes[1:] += 1
    return np.asarray(votes.argmax(axis=0), dtype=np.int16)


def _votes(
    plane: NDArray[np.int16], num_classes: int, factors: tuple[int, int], padding: tuple[int, int]
) -> NDArray[np.intp]:
    """Count the pixels of every class in each block, (C, rows, columns)."""
    padded = _filled_up(plane, factors, padding)
    rows, columns = padded.shape[0] // factors[0], padded.shape[1] // factors[1]
    blocks = padded.reshape(rows, factors[0], columns, factors[1])
    return np.stack([(blocks == c).sum(axis=(1, 3)) for c in range(num_classes)])


def mean_of(arrays: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of one or more arrays of one shape, of which no more than two exist at a time; the first is overwritten."""
    rest = iter(arrays)
    total, count = next(rest), 1
    for array in rest:
        total += array
        count += 1
    return total if count == 1 else np.divide(total, np.float32(count), out=total)


def _filled_up(values: NDArray[Any], factors: Sequence[int], padding: Sequence[int]) -> NDArray[Any]:
    """Repeat the border: `padding` times before, and after until all blocks are full."""
    sizes = zip(values.shape, factors, padding, strict=True)
    pad = [(before, -(before + size) % factor) for size, factor, before in sizes]
    return np.pad(values, pad, mode="edge")
