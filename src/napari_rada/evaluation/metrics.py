"""How well a mask agrees with a reference: Dice, Jaccard, Hausdorff and surface distance through MONAI."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_rada.control import RunControl
from napari_rada.data.classes import ClassTable
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from napari_rada.data.grid import Spacing

Mask: TypeAlias = NDArray[np.bool_]

MARGIN = 1
"""Background left around both masks when they are cropped, so that no surface is cut off."""


@dataclass(frozen=True)
class ClassMetrics:
    """Agreement in one class.

    Parameters
    ----------
    value, name
        The class.
    dice, jaccard
        Overlap in 0..1. 1 if neither mask has the class, 0 if only one has it.
    hd95_mm
        95th percentile of the distances between the surfaces, the larger of the two directions. 0 if neither mask has
        the class, infinite if only one has it.
    asd_mm
        Mean distance between the surfaces, both directions together; empty masks as for `hd95_mm`.
    """

    value: int
    name: str
    dice: float
    jaccard: float
    hd95_mm: float
    asd_mm: float


def evaluate_masks(
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    spacing: Spacing,
    classes: ClassTable | None = None,
    control: RunControl | None = None,
) -> tuple[ClassMetrics, ...]:
    """Compare two dense label volumes class by class.

    Parameters
    ----------
    prediction, reference
        (z, y, x) label values.
    spacing
        mm along (z, y, x).
    classes
        The foreground classes of this table are compared; by default those that occur in either volume.

    Raises
    ------
    InputError
        If the shapes differ, or neither volume has any class.
    Stopped
        If a stop was requested.
    """
    control = control or RunControl()
    if prediction.shape != reference.shape:
        raise InputError(
            f"The prediction has shape {prediction.shape} but the reference has {reference.shape}; they must be equal."
        )
    if classes is None:
        classes = ClassTable.from_values({*np.unique(prediction).tolist(), *np.unique(reference).tolist()})
    if len(classes) < 2:
        raise InputError("Both masks are empty, there is nothing to compare; check that they are the right files.")
    found = []
    for info in classes.classes[1:]:
        control.check()
        agreement = _compare(prediction == info.value, reference == info.value, spacing)
        found.append(ClassMetrics(info.value, info.name, *agreement))
    return tuple(found)


def _compare(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[float, float, float, float]:
    """Dice, Jaccard, HD95 and ASD of two masks."""
    if not prediction.any() and not reference.any():
        return 1.0, 1.0, 0.0, 0.0
    if not prediction.any() or not reference.any():
        return 0.0, 0.0, math.inf, math.inf
    box = _joint_box(prediction, reference)
    return _measure(prediction[box], reference[box], spacing)


def _joint_box(prediction: Mask, reference: Mask) -> tuple[slice, ...]:
    """Box around both masks; what lies outside changes no metric and only costs time."""
    box = []
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(prediction.any(axis=other) | reference.any(axis=other))
        box.append(slice(max(0, int(found[0]) - MARGIN), int(found[-1]) + 1 + MARGIN))
    return tuple(box)


def _measure(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[float, float, float, float]:
    # MONAI takes seconds to import
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou
    from monai.metrics.surface_distance import compute_average_surface_distance

    y_pred, y = (torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (prediction, reference))
    sizes = list(spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 calls its own deprecated arguments
        hd95 = compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=sizes)
        asd = compute_average_surface_distance(y_pred, y, include_background=True, symmetric=True, spacing=sizes)
    return float(compute_dice(y_pred, y)), float(compute_iou(y_pred, y)), float(hd95), float(asd)
