"""Turning the viewer to a plane, and telling which slice it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_rada._napari.geometry import OBLIQUE
from napari_rada._napari.layers import shape_of, world_matrix
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from napari_rada.data.grid import Grid


def viewed_slice(viewer: ViewerModel, layer: Image | Labels) -> AnnotatedSlice | None:
    """Return the plane of the layer's volume that the viewer shows; None in 3D, off the volume, or if it is tilted."""
    axis = viewed_axis(viewer, layer)
    if axis is None or is_tilted(layer, axis):
        return None
    world = np.asarray(viewer.dims.point)[-layer.ndim :] * _layer_units(viewer, layer)
    index = round(float(layer.world_to_data(world)[axis]))
    return AnnotatedSlice(axis, index) if 0 <= index < shape_of(layer)[axis] else None


def viewed_axis(viewer: ViewerModel, layer: Image | Labels) -> int | None:
    """Return the array axis that the viewer slices through; None in 3D, or if it is not one of the layer's."""
    if viewer.dims.ndisplay != 2 or viewer.dims.ndim < 3:
        return None
    axis = int(viewer.dims.order[-3]) - (viewer.dims.ndim - layer.ndim)
    return axis if axis in (0, 1, 2) else None


def is_tilted(layer: Image | Labels, axis: int) -> bool:
    """Tell whether napari shows other slices through array `axis` than it says, and paints beside them.

    napari slices along the world's axes, so `axis` has to lie along the world axis of the same number, and the two
    others at right angles to it. If the layer is turned within the slices of `axis` they are shown as they are.
    """
    linear = world_matrix(layer)[:3, :3]
    cosines = np.abs(linear / np.linalg.norm(linear, axis=0))
    others = [other for other in range(3) if other != axis]
    return bool(max(cosines[axis, others].max(), cosines[others, axis].max()) > OBLIQUE)


def check_untilted(layer: Image | Labels, axis: int | None) -> None:
    """Raise `InputError` if the slices through array `axis` are tilted; None, as in 3D, is let pass."""
    if axis is not None and is_tilted(layer, axis):
        raise InputError(
            f"Layer '{layer.name}' is rotated, and napari paints beside its slices; open the file with napari-rada, "
            "or set rotate, shear and affine of the layer back."
        )


def show_plane(viewer: ViewerModel, layer: Image | Labels, axis: int) -> None:
    """Turn the viewer so that it slices the layer's volume through array `axis`, the whole slice in view.

    If the viewer stands beside the volume it goes to the middle slice, unless the slices are tilted.
    """
    first = viewer.dims.ndim - layer.ndim
    shown = [first + other for other in range(3) if other != axis]
    others = [dim for dim in range(viewer.dims.ndim) if dim < first]
    viewer.dims.ndisplay = 2
    viewer.dims.order = (*others, first + axis, *shown)
    if viewed_slice(viewer, layer) is None and not is_tilted(layer, axis):
        _set_slice(viewer, layer, AnnotatedSlice(axis, shape_of(layer)[axis] // 2))
    viewer.reset_view()


def go_to(viewer: ViewerModel, layer: Image | Labels, plane: AnnotatedSlice) -> None:
    """Show one plane of the layer's volume; raises `InputError` if it lies outside or is tilted."""
    plane.check(shape_of(layer))
    check_untilted(layer, plane.axis)
    if viewed_axis(viewer, layer) != plane.axis:
        show_plane(viewer, layer, plane.axis)
    _set_slice(viewer, layer, plane)


def describe(grid: Grid, plane: AnnotatedSlice) -> str:
    """Name a plane for people: `axial slice 50 of 88`."""
    return f"{grid.plane_name(plane.axis)} slice {plane.index} of {grid.shape[plane.axis]}"


def _set_slice(viewer: ViewerModel, layer: Image | Labels, plane: AnnotatedSlice) -> None:
    centre = [(size - 1) / 2 for size in shape_of(layer)]
    centre[plane.axis] = plane.index
    world = np.asarray(layer.data_to_world(tuple(centre))) / _layer_units(viewer, layer)
    viewer.dims.set_point(viewer.dims.ndim - layer.ndim + plane.axis, float(world[plane.axis]))


def _layer_units(viewer: ViewerModel, layer: Image | Labels) -> NDArray[np.float64]:
    """Return how many of a layer's units, axis by axis, make one of the viewer's.

    Since 0.9 napari counts in the smallest unit of all layers. Before that, and where their units cannot be compared,
    it takes each layer's numbers as they are.
    """
    units = getattr(viewer.dims, "units", None)
    if units is None or len(units) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = list(zip(units[-layer.ndim :], layer.units, strict=True))
    if not all((1.0 * unit).check(own) for unit, own in pairs):
        return np.ones(layer.ndim)
    return np.array([float((1.0 * unit).to(own).magnitude) for unit, own in pairs])
