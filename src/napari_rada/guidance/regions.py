"""Region prompts: annotated slices as images, each with the region of one class.

Shape legend: S side of the encoder's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_rada.data.box import counted_part
from napari_rada.data.intensity import CT_WINDOWS, normalise
from napari_rada.data.views import split_slices
from napari_rada.guidance.squares import to_square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.settings import DataConfig, GuidanceConfig


@dataclass(frozen=True, eq=False)
class RegionPrompt:
    """One class in one annotated slice.

    Parameters
    ----------
    case
        Name of the case.
    plane, view
        The slice, and the view that it belongs to.
    class_index
        The class whose region `mask` is.
    image
        (S, S) float32 in 0..1, square pixels, padded with 0.
    mask
        (S, S) bool.
    """

    case: str
    plane: AnnotatedSlice
    view: int
    class_index: int
    image: Tensor
    mask: Tensor


@dataclass(frozen=True)
class EmptyRegion:
    """A class that an annotated slice does not show."""

    case: str
    plane: AnnotatedSlice
    class_name: str

    def __str__(self) -> str:
        return f"{self.class_name} in slice {self.plane.axis}:{self.plane.index} of {self.case}"


def region_prompts(
    cases: Sequence[Case], classes: ClassTable, side: int, data: DataConfig, guidance: GuidanceConfig
) -> tuple[list[RegionPrompt], list[EmptyRegion]]:
    """Make the prompts of every annotated slice of every case on its full grid, and name the regions that are empty.

    Intensities are windowed over the whole scan, as `guidance.window` or else `data` says.
    """
    window = CT_WINDOWS[guidance.window] if isinstance(guidance.window, str) else guidance.window or data.window
    prompts: list[RegionPrompt] = []
    empty: list[EmptyRegion] = []
    for case in cases:
        if case.labels is None:
            continue
        counted = counted_part(case, data.crop_margin)
        image = normalise(case.image, data.percentiles, window, case.name, counted=counted)
        views, nothing = split_slices(case)
        empty += [EmptyRegion(case.name, plane, info.name) for plane in nothing for info in classes.classes[1:]]
        for view, planes in enumerate(views):
            for plane in planes:
                pixel = _pixel(case, plane)
                flat = torch.from_numpy(image[plane.selector()].copy())[None]
                index = torch.from_numpy(classes.encode(case.labels[plane.selector()]))[None]
                for class_index, info in enumerate(classes.classes[1:], start=1):
                    inside = index == class_index
                    if inside.any():
                        square, mask = to_square(flat, inside, side, pixel)
                        prompts.append(RegionPrompt(case.name, plane, view, class_index, square[0], mask[0]))
                    else:
                        empty.append(EmptyRegion(case.name, plane, info.name))
    return prompts, empty


def _pixel(case: Case, plane: AnnotatedSlice) -> tuple[float, float]:
    """Height and width of a slice's pixels in mm."""
    rows, columns = (size for axis, size in enumerate(case.grid.spacing) if axis != plane.axis)
    return rows, columns
