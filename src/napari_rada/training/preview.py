"""What the networks make of the annotated slices while they train, as if those slices had not been annotated.

As in validation, each slice is judged by the network that is not taught its view, from the propagation made without
that view: so a good preview promises a good mask, and a bad one is no fault of the annotation.

Shape legend: C classes, Z Y X working grid, z y x full grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.box import box_selector, box_shape
from napari_rada.data.resampling import upsample
from napari_rada.data.views import split_slices
from napari_rada.training.validation import as_judged, predict_view
from napari_rada.training.volumes import third_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.data.working import WorkingCase
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.training.volumes import Volume


def preview_annotated(
    model: TripleViewModel,
    case: Case,
    working: WorkingCase,
    volume: Volume,
    classes: ClassTable,
    config: RunConfig,
    control: RunControl,
) -> NDArray[np.unsignedinteger]:
    """Predict the annotated slices of a case without having seen them.

    Returns
    -------
    numpy.ndarray
        (z, y, x) label values; 0 outside the annotated slices, and in those that cannot be held out: without their view
        nothing could be propagated, or a slice of another one lies in the same voxels of the working grid.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    mask = np.zeros(case.grid.shape, dtype=classes.dtype)
    planes_of_view, _ = split_slices(case)
    for network, pair in enumerate(config.training.view_pairs[: config.model.networks]):
        view = third_view(pair)
        held_out = volume.held_out.get(view)
        if held_out is None:
            continue
        predicted = predict_view(model, volume, view, held_out, network, config, control)
        probability_CZYX = _known(working)
        z, y, x = held_out.voxels.T
        probability_CZYX[:, z, y, x] = as_judged(predicted, held_out, config)
        for plane in planes_of_view[view]:
            coarse = _coarse(plane, working)
            if (held_out.voxels[:, plane.axis] == coarse).any():
                _draw(mask, plane, coarse, working, probability_CZYX, classes)
    return mask


def _coarse(plane: AnnotatedSlice, working: WorkingCase) -> int:
    """Return the index of a slice on the working grid, -1 outside its box."""
    axis = plane.axis
    inside = plane.index - working.box[0][axis]
    if not 0 <= inside < box_shape(working.box)[axis]:
        return -1
    return (inside + working.padding[axis]) // working.factors[axis]


def _known(working: WorkingCase) -> NDArray[np.float32]:
    """(C, Z, Y, X): certain where a slice was annotated, background elsewhere."""
    index = np.where(working.truth > 0, working.truth, 0)
    return np.moveaxis(np.eye(working.num_classes, dtype=np.float32)[index], -1, 0)


def _draw(
    mask: NDArray[np.unsignedinteger],
    plane: AnnotatedSlice,
    coarse: int,
    working: WorkingCase,
    probability_CZYX: NDArray[np.float32],
    classes: ClassTable,
) -> None:
    """Bring one slice to the full grid, in its own plane only, and decide its voxels."""
    axis = plane.axis
    thin = np.take(probability_CZYX, [coarse], axis=1 + axis)
    factors, shape, padding = list(working.factors), list(box_shape(working.box)), list(working.padding)
    factors[axis], shape[axis], padding[axis] = 1, 1, 0
    full = upsample(thin, _triple(factors), _triple(shape), _triple(padding))
    where = list(box_selector(working.box))
    where[axis] = slice(plane.index, plane.index + 1)
    mask[tuple(where)] = classes.decode(full.argmax(axis=0))


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    return (values[0], values[1], values[2])
