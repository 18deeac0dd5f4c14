"""Turning the viewer and telling where it is."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_rada._napari.geometry import WORLD_TO_RAS
from napari_rada._napari.layers import grid_of, placement_of_grid
from napari_rada._napari.planes import _layer_units, describe, go_to, show_plane, viewed_axis, viewed_slice
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError

SHAPE = (12, 14, 16)

PLACES = {
    "plain": {},
    "anisotropic, moved": {"scale": (3.0, 0.7, 0.8), "translate": (100.0, -50.0, 3.0)},
    "negative scale": {"scale": (-3.0, -0.7, 0.8), "translate": (33.0, 10.0, 0.0)},
    "mirrored by affine": {"scale": (3.0, 0.7, 0.8), "affine": np.diag([-1.0, -1.0, -1.0, 1.0])},
}


@pytest.mark.parametrize("settings", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize(
    "plane", [AnnotatedSlice(0, 0), AnnotatedSlice(0, 11), AnnotatedSlice(1, 5), AnnotatedSlice(2, 15)]
)
def test_going_to_a_slice_shows_that_slice(volume, settings, plane):
    viewer = ViewerModel()
    layer = viewer.add_image(volume, **settings)
    go_to(viewer, layer, plane)
    assert viewed_slice(viewer, layer) == plane
    np.testing.assert_array_equal(shown(layer), volume[plane.selector()])


def test_units_that_cannot_be_compared_are_taken_as_they_are(volume):
    """The units of a viewer are those of layers that may have been removed a moment ago."""
    viewer = ViewerModel()
    scan = viewer.add_image(volume, scale=(3.0, 0.7, 0.8), units=("mm",) * 3)
    plain = Image(volume, units=("pixel",) * 3)
    np.testing.assert_array_equal(_layer_units(viewer, plain), 1.0)
    np.testing.assert_array_equal(_layer_units(viewer, scan), 1.0)


def test_slices_are_told_and_gone_to_beside_a_layer_in_other_units(volume):
    viewer = ViewerModel()
    scan = viewer.add_image(volume, scale=(3.0, 0.7, 0.8), translate=(0.0, 5.0, 0.0), units=("mm",) * 3)
    cells = viewer.add_image(np.zeros((2, 9, *SHAPE[1:])), name="cells", units=("pixel", "um", "um", "um"))
    for plane in (AnnotatedSlice(0, 4), AnnotatedSlice(1, 5), AnnotatedSlice(2, 15)):
        go_to(viewer, scan, plane)
        assert viewed_slice(viewer, scan) == plane
        np.testing.assert_array_equal(shown(scan), volume[plane.selector()])
    viewer.layers.remove(cells)
    show_plane(viewer, scan, 0)
    np.testing.assert_array_equal(shown(scan), volume[viewed_slice(viewer, scan).selector()])


TURN = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
SWAPPED = np.eye(4)[[1, 0, 2, 3]]

ROTATED = {
    "rotated": ({"rotate": (0, 25, 0)}, {1}),
    "rotated, anisotropic": ({"scale": (4.0, 1.0, 0.5), "rotate": TURN}, {0}),
    "sheared": ({"shear": (0.0, 0.0, 0.25)}, {0}),
    "axes swapped": ({"affine": SWAPPED}, {2}),
    "hardly rotated": ({"rotate": (0, 0.001, 0)}, {0, 1, 2}),
}
"""How a layer lies, and the axes whose slices are turned, if at all, within themselves only."""


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari's own, said of what is tilted
@pytest.mark.parametrize(("settings", "upright"), ROTATED.values(), ids=ROTATED.keys())
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_slices_that_napari_shows_as_they_are_have_a_name(volume, settings, upright, axis):
    viewer = ViewerModel()
    layer = viewer.add_image(volume, **settings)
    if axis in upright:
        go_to(viewer, layer, AnnotatedSlice(axis, 5))
        assert viewed_slice(viewer, layer) == AnnotatedSlice(axis, 5)
        np.testing.assert_array_equal(shown(layer), np.take(volume, 5, axis))
        return
    with pytest.raises(InputError, match=f"Layer '{layer.name}' is rotated, and napari paints beside its slices"):
        go_to(viewer, layer, AnnotatedSlice(axis, 5))
    show_plane(viewer, layer, axis)
    assert viewed_axis(viewer, layer) == axis
    assert viewed_slice(viewer, layer) is None


def test_slices_of_an_oblique_file_are_shown_as_they_are(volume):
    viewer = ViewerModel()
    affine = np.eye(4)
    affine[:3, :3] = TURN @ np.roll(TURN, 1, axis=(0, 1)) @ np.diag([3.0, 0.7, 0.8])
    layer = viewer.add_image(volume, **placement_of_grid(Grid(SHAPE, WORLD_TO_RAS @ affine)))
    for plane in (AnnotatedSlice(0, 2), AnnotatedSlice(1, 5), AnnotatedSlice(2, 15)):
        go_to(viewer, layer, plane)
        assert viewed_slice(viewer, layer) == plane
        np.testing.assert_array_equal(shown(layer), volume[plane.selector()])


def shown(layer) -> np.ndarray:
    return np.asarray(layer._slice.image.raw)


def test_turning_keeps_the_slice_positions(viewer, image):
    go_to(viewer, image, AnnotatedSlice(0, 4))
    show_plane(viewer, image, 2)
    assert viewed_axis(viewer, image) == 2
    show_plane(viewer, image, 0)
    assert viewed_slice(viewer, image) == AnnotatedSlice(0, 4)


def test_in_3d_no_slice_is_shown_and_turning_comes_back_to_2d(viewer, image):
    viewer.dims.ndisplay = 3
    assert viewed_slice(viewer, image) is None
    show_plane(viewer, image, 1)
    assert viewer.dims.ndisplay == 2
    assert viewed_axis(viewer, image) == 1


def test_beside_the_volume_no_slice_is_shown(viewer, image):
    viewer.add_points(np.array([[300.0, 0.0, 0.0]]))
    viewer.dims.set_point(0, 300.0)
    assert viewed_slice(viewer, image) is None


def test_turning_from_beside_the_volume_goes_to_its_middle(viewer, image):
    viewer.add_points(np.array([[300.0, 0.0, 0.0]]))
    viewer.dims.set_point(0, 300.0)
    show_plane(viewer, image, 0)
    assert viewed_slice(viewer, image) == AnnotatedSlice(0, 6)


def test_a_fourth_dimension_of_another_layer_does_not_confuse(viewer, image):
    viewer.add_image(np.zeros((2, *SHAPE), dtype=np.float32))
    go_to(viewer, image, AnnotatedSlice(1, 5))
    assert viewed_slice(viewer, image) == AnnotatedSlice(1, 5)
    assert viewer.dims.order == (0, 2, 1, 3)


def test_a_slice_outside_the_volume_is_refused(viewer, image):
    with pytest.raises(InputError, match="Slice 12 on axis 0 lies outside"):
        go_to(viewer, image, AnnotatedSlice(0, 12))


def test_a_plane_is_named_for_people(image):
    assert describe(grid_of(image), AnnotatedSlice(0, 5)) == "axial slice 5 of 12"
