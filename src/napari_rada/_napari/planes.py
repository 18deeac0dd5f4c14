"""Turning the viewer to a plane, and telling which slice it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_rada._napari.layers import shape_of
from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_rada.data.grid import Grid


def viewed_slice(viewer: ViewerModel, layer: Image | Labels) -> AnnotatedSlice | None:
    """Return the plane of the layer's volume that the viewer shows; None in 3D or off the volume."""
    axis = viewed_axis(viewer, layer)
    if axis is None:
        return None
    position = layer.world_to_data(viewer.dims.point)[axis]
    index = round(float(position))
    return AnnotatedSlice(axis, index) if 0 <= index < shape_of(layer)[axis] else None


def viewed_axis(viewer: ViewerModel, layer: Image | Labels) -> int | None:
    """Return the array axis that the viewer slices through; None in 3D, or if it is not one of the layer's."""
    if viewer.dims.ndisplay != 2 or viewer.dims.ndim < 3:
        return None
    axis = int(viewer.dims.order[-3]) - (viewer.dims.ndim - layer.ndim)
    return axis if axis in (0, 1, 2) else None


def show_plane(viewer: ViewerModel, layer: Image | Labels, axis: int) -> None:
    """Turn the viewer so that it slices the layer's volume through array `axis`, the whole slice in view.

    If the viewer stands beside the volume it goes to the middle slice.
    """
    first = viewer.dims.ndim - layer.ndim
    shown = [first + other for other in range(3) if other != axis]
    others = [dim for dim in range(viewer.dims.ndim) if dim < first]
    viewer.dims.ndisplay = 2
    viewer.dims.order = (*others, first + axis, *shown)
    if viewed_slice(viewer, layer) is None:
        _set_slice(viewer, layer, AnnotatedSlice(axis, shape_of(layer)[axis] // 2))
    viewer.reset_view()


def go_to(viewer: ViewerModel, layer: Image | Labels, plane: AnnotatedSlice) -> None:
    """Show one plane of the layer's volume; raises `InputError` if it lies outside."""
    plane.check(shape_of(layer))
    if viewed_axis(viewer, layer) != plane.axis:
        show_plane(viewer, layer, plane.axis)
    _set_slice(viewer, layer, plane)


def describe(grid: Grid, plane: AnnotatedSlice) -> str:
    """Name a plane for people: `axial slice 50 of 88`."""
    return f"{grid.plane_name(plane.axis)} slice {plane.index} of {grid.shape[plane.axis]}"


def _set_slice(viewer: ViewerModel, layer: Image | Labels, plane: AnnotatedSlice) -> None:
    centre = [(size - 1) / 2 for size in shape_of(layer)]
    centre[plane.axis] = plane.index
    world = layer.data_to_world(tuple(centre))
    viewer.dims.set_point(viewer.dims.ndim - layer.ndim + plane.axis, float(world[plane.axis]))
