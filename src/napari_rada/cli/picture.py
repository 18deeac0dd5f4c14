"""A picture of a result: three orthogonal slices with the outlines of truth and mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_rada.durable import written_whole

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada.data.case import Case
    from napari_rada.data.grid import Grid

Labels: TypeAlias = NDArray[np.integer]
Colour: TypeAlias = tuple[int, int, int]

TRUTH, MASK, TEXT = (70, 220, 90), (255, 150, 0), (220, 220, 220)
PIXELS_PER_MM = 3.0
BORDER = 12
LINE = 18


def save_picture(path: Path, case: Case, truth: Labels, mask: Labels) -> None:
    """Draw three orthogonal slices that were not annotated, with outlines: truth green, mask orange.

    Parameters
    ----------
    path
        PNG to write.
    truth, mask
        (z, y, x) label values on the case's grid; the foreground is drawn.
    """
    shown = [(axis, _shown_index(case, truth, axis)) for axis in range(3)]
    panels = [_panel(case, truth, mask, axis, index) for axis, index in shown]
    width = sum(panel.width for panel in panels) + BORDER * (len(panels) + 1)
    height = max(panel.height for panel in panels) + 2 * BORDER + 2 * LINE
    sheet = Image.new("RGB", (width, height), (20, 20, 20))
    pen = ImageDraw.Draw(sheet)
    pen.text((BORDER, BORDER), "truth", fill=TRUTH)
    pen.text((BORDER + 50, BORDER), "mask", fill=MASK)
    left = BORDER
    for panel, (axis, index) in zip(panels, shown, strict=True):
        pen.text((left, BORDER + LINE), f"{case.grid.plane_name(axis)}, slice {index}", fill=TEXT)
        sheet.paste(panel, (left, BORDER + 2 * LINE))
        left += panel.width + BORDER
    with written_whole(path) as temporary:
        sheet.save(temporary)


def _shown_index(case: Case, truth: Labels, axis: int) -> int:
    """Return a slice half-way between the annotated one and the far end of the structure: nobody painted it."""
    other = tuple(a for a in range(3) if a != axis)
    found = np.flatnonzero((truth != 0).any(axis=other))
    first, last = int(found[0]), int(found[-1])
    painted = next((plane.index for plane in case.annotated if plane.axis == axis), first)
    far = last if last - painted >= painted - first else first
    return (painted + far) // 2


def _panel(case: Case, truth: Labels, mask: Labels, axis: int, index: int) -> Image.Image:
    """One slice, upright and with square pixels."""
    rows, columns = (a for a in range(3) if a != axis)
    size = tuple(round(case.grid.shape[a] * case.grid.spacing[a] * PIXELS_PER_MM) for a in (columns, rows))
    low, high = np.percentile(case.image, (1, 99.5))
    grey = np.clip((case.image.take(index, axis) - low) / (high - low), 0, 1) * 255
    flip = _is_upward(case.grid, rows)
    plane = np.asarray(_resized(grey.astype(np.uint8), size, flip, Image.Resampling.BICUBIC))
    colours = np.repeat(plane[..., None], 3, axis=2)
    for labels, colour in ((truth, TRUTH), (mask, MASK)):
        inside = (labels.take(index, axis) != 0).astype(np.uint8)
        colours[_outline(np.asarray(_resized(inside, size, flip, Image.Resampling.NEAREST)) > 0)] = colour
    return Image.fromarray(colours)


def _resized(plane: NDArray[np.uint8], size: tuple[int, ...], flip: bool, resampling: Image.Resampling) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(plane[::-1] if flip else plane))
    return image.resize((size[0], size[1]), resampling)


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge: NDArray[np.bool_] = inside & ~ndimage.binary_erosion(inside, iterations=2)
    return edge


def _is_upward(grid: Grid, axis: int) -> bool:
    """Tell whether the array axis runs to the head, which belongs at the top of a picture."""
    return bool(grid.affine[2, axis] > 0)
