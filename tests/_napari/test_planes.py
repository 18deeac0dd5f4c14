"""Turning the viewer and telling where it is."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_rada._napari.layers import grid_of
from napari_rada._napari.planes import describe, go_to, show_plane, viewed_axis, viewed_slice
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
