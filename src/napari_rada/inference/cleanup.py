"""Tidying a mask: small parts removed, holes filled. Off unless asked for, and told in the provenance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_rada.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.prediction import Prediction

ROUNDING = 1e-9
"""Share of the smallest volume by which a part may miss it."""


@dataclass(frozen=True)
class CleanUp:
    """What to tidy, class by class.

    Parameters
    ----------
    min_part_ml
        Connected parts (voxels that share a face) smaller than this many millilitres become background; 0 keeps all.
    fill_holes
        Background that a class encloses on all sides becomes that class.
    largest_part
        Of every class only the largest connected part stays.
    """

    min_part_ml: float = 0.0
    fill_holes: bool = False
    largest_part: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.min_part_ml, Real) and 0.0 <= self.min_part_ml < np.inf):
            raise InputError(f"The smallest part to keep must be a number, 0 ml or more; found {self.min_part_ml!r}.")

    def __bool__(self) -> bool:
        return bool(self.fill_holes or self.largest_part or self.min_part_ml > 0)

    def __str__(self) -> str:
        parts = [f"parts under {self.min_part_ml:g} ml removed"] if self.min_part_ml > 0 else []
        parts += ["largest parts kept"] if self.largest_part else []
        return ", ".join([*parts, *(["holes filled"] if self.fill_holes else [])]) or "none"


def clean_up(prediction: Prediction, what: CleanUp, known: NDArray[np.bool_] | None = None) -> Prediction:
    """Return the prediction with a tidied mask; probability and disagreement stay as they were.

    Parameters
    ----------
    known
        (z, y, x), True where a person annotated: these voxels are never changed.
    """
    if not what:
        return prediction
    mask = prediction.mask.copy()
    least = what.min_part_ml / prediction.grid.voxel_volume_ml
    values = [info.value for info in prediction.classes.classes[1:]]
    for value in values if what.min_part_ml > 0 else ():
        mask[_small_parts(mask == value, least)] = 0
    for value in values if what.largest_part else ():
        mask[but_the_largest(mask == value)] = 0
    for value in values if what.fill_holes else ():
        mask[ndimage.binary_fill_holes(mask == value) & (mask == 0)] = value
    if known is not None:
        mask[known] = prediction.mask[known]
    return replace(prediction, mask=mask, provenance={**prediction.provenance, "clean_up": str(what)})


def _small_parts(structure: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Mark the voxels of connected parts with fewer than `least` voxels, rounding aside."""
    parts, count = ndimage.label(structure)
    small = np.bincount(parts.ravel(), minlength=count + 1) < least * (1.0 - ROUNDING)
    small[0] = False
    return np.asarray(small[parts])


def but_the_largest(structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark all connected parts of a structure (z, y, x) but the one with the most voxels."""
    parts, count = ndimage.label(structure)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray(structure & (parts != sizes.argmax()))
