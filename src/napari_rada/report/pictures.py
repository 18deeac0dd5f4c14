"""Slices with overlays, as PNG pictures inside a page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.grid import Grid
    from napari_rada.data.slices import AnnotatedSlice

PALETTE = ("#d7263d", "#1b9aaa", "#f4a100", "#6a4c93", "#3fa34d", "#e36397", "#2e86de", "#8d6e63")
"""Colours of classes 1, 2, …, repeated."""
LONGEST = 320
"""Pixels of the longer side of a picture."""


def colour_of(index: int) -> str:
    """Colour of a foreground class, by its index from 1."""
    return PALETTE[(index - 1) % len(PALETTE)]


def slice_picture(
    image: NDArray[Any],
    grid: Grid,
    plane: AnnotatedSlice,
    fill: NDArray[np.integer] | None = None,
    outline: NDArray[np.integer] | None = None,
) -> str:
    """Return a slice as a data URI: head or front up, the patient's right on the left, square millimetres.

    Where nobody knows how the volume lies, the slice is shown as it is stored.

    Parameters
    ----------
    image
        (z, y, x) intensities; the 1st to 99th percentile of the slice are shown.
    fill, outline
        (z, y, x) class indices, painted over the slice and drawn around.
    """
    grey = _upright(np.asarray(image[plane.selector()], dtype=np.float32), grid, plane.axis)
    low, high = np.percentile(grey, (1, 99))
    shade = np.clip((grey - low) / (float(high - low) or 1.0), 0, 1)
    picture = np.repeat((255 * shade)[..., None], 3, axis=2)
    if fill is not None:
        _tint(picture, _upright(np.asarray(fill[plane.selector()]), grid, plane.axis), 0.45)
    if outline is not None:
        _tint(picture, _edges(_upright(np.asarray(outline[plane.selector()]), grid, plane.axis)), 1.0)
    return _data_uri(picture.astype(np.uint8), _size(grid, plane.axis))


def _upright(values: NDArray[Any], grid: Grid, axis: int) -> NDArray[Any]:
    """Turn rows and columns so that they run to the feet or back, and to the patient's left, if that is known."""
    if not grid.oriented:
        return values
    for position, other in enumerate(a for a in range(3) if a != axis):
        column = grid.affine[:3, other]
        if column[np.abs(column).argmax()] > 0:
            values = np.flip(values, position)
    return values


def _tint(picture: NDArray[np.float32], classes: NDArray[np.integer], share: float) -> None:
    for index in np.unique(classes):
        if index > 0:
            code = colour_of(int(index)).lstrip("#")
            colour = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float32)
            where = classes == index
            picture[where] = (1 - share) * picture[where] + share * colour


def _edges(classes: NDArray[np.integer]) -> NDArray[np.integer]:
    """Keep the pixels of a class that touch another one."""
    padded = np.pad(classes, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    inner = np.logical_and.reduce([other == classes for other in neighbours])
    return np.where(inner, 0, classes)


def _size(grid: Grid, axis: int) -> tuple[int, int]:
    rows, columns = (grid.shape[a] * grid.spacing[a] for a in range(3) if a != axis)
    scale = LONGEST / max(rows, columns)
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def _data_uri(picture: NDArray[np.uint8], size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).resize(size, Image.Resampling.NEAREST).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
