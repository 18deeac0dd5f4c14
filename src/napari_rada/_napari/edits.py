"""Writing whole slices into a Labels layer, through the layer's own history: Ctrl+Z takes them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada._napari.layers import annotated_slices, full_resolution, is_lazy, shape_of
from napari_rada.data.slices import AnnotatedSlice, crossings
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray


def accept_plane(layer: Labels, mask: NDArray[Any], plane: AnnotatedSlice) -> int:
    """Write one slice of a predicted mask into the annotation, to be corrected by hand; returns the voxels changed.

    Parameters
    ----------
    layer
        The annotation. Slices that are complete keep every voxel; with `preserve_labels` so does whatever is painted.
    mask
        (z, y, x) label values on the layer's voxels.
    plane
        The slice; it must not be complete yet.

    Raises
    ------
    InputError
        If the mask lies on other voxels, the slice is complete already, or the layer cannot be painted in.
    """
    if mask.shape != shape_of(layer):
        raise InputError(
            f"The mask has {mask.shape} voxels, but layer '{layer.name}' has {shape_of(layer)}; "
            "choose the labels of the predicted image."
        )
    plane.check(shape_of(layer))
    if plane in annotated_slices(layer):
        raise InputError("This slice is marked as annotated already; what you painted in it is kept.")
    return write_plane(layer, plane, mask[plane.selector()])


def copy_nearest(layer: Labels, plane: AnnotatedSlice) -> AnnotatedSlice:
    """Copy the nearest parallel annotated slice into `plane` as a start; returns the slice that was copied.

    Raises
    ------
    InputError
        If there is no other annotated slice in this direction, `plane` is complete already, or the layer cannot be
        painted in.
    """
    complete = annotated_slices(layer)
    if plane in complete:
        raise InputError("This slice is marked as annotated already; untick it to paint it anew.")
    parallel = [other for other in complete if other.axis == plane.axis]
    if not parallel:
        raise InputError("No slice in this direction is marked as annotated yet; there is nothing to copy.")
    nearest = min(parallel, key=lambda other: abs(other.index - plane.index))
    write_plane(layer, plane, np.asarray(full_resolution(layer))[nearest.selector()])
    return nearest


def write_plane(layer: Labels, plane: AnnotatedSlice, values: NDArray[Any]) -> int:
    """Paint `values` (2D) into a slice as one step of the layer's history; returns the voxels changed.

    Voxels that the slice shares with complete slices stay as they are. With `preserve_labels` painted voxels do.

    Raises
    ------
    InputError
        If the layer cannot be painted in, or cannot hold a value.
    """
    if layer.multiscale or not layer.editable or is_lazy(layer):
        raise InputError(f"Layer '{layer.name}' cannot be painted in; press New labels to make one that can.")
    plane.check(shape_of(layer))
    present = np.asarray(layer.data[plane.selector()])
    limits = np.iinfo(layer.data.dtype)
    if values.size and not limits.min <= int(values.max()) <= limits.max:
        raise InputError(
            f"Layer '{layer.name}' holds whole numbers up to {limits.max}, not {int(values.max())}; "
            "right-click it and convert its data type."
        )
    others = [other for other in annotated_slices(layer) if other != plane]
    free = ~crossings(shape_of(layer), plane, others)
    if layer.preserve_labels:
        free &= present == 0
    rows, columns = np.nonzero(free & (present != values))
    if not rows.size:
        return 0
    where = [rows, columns]
    where.insert(plane.axis, np.full_like(rows, plane.index))
    layer.data_setitem(tuple(where), values[rows, columns].astype(layer.data.dtype))
    return int(rows.size)
