"""Results in the viewer: new layers, and a preview that follows until somebody paints in it."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Layer

from napari_rada._napari.layers import grid_of, lies_on, new_labels_data, set_annotated_slices
from napari_rada._napari.preview import add_layers, show_preview
from napari_rada.data.classes import ClassTable
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.prediction import Prediction


@pytest.fixture
def make_prediction(image):
    def make(value: int) -> Prediction:
        mask = np.full(image.data.shape, value, dtype=np.uint8)
        probability = np.full((2, *mask.shape), 0.5, dtype=np.float32)
        return Prediction("scan", mask, probability, None, grid_of(image), ClassTable.from_values([1]))

    return make


def test_a_preview_is_updated_in_place(viewer, image, labels, make_prediction):
    preview = show_preview(viewer, make_prediction(0), image, labels)
    assert preview.name == "labels preview"
    assert list(viewer.layers) == [image, preview, labels]
    again = show_preview(viewer, make_prediction(1), image, labels)
    assert again is preview
    assert preview.data.all()


def test_a_preview_is_replaced_if_the_image_lies_elsewhere_now(viewer, image, labels, make_prediction):
    preview = show_preview(viewer, make_prediction(0), image, labels)
    image.scale = labels.scale = (6.0, 1.5, 1.0)
    again = show_preview(viewer, make_prediction(1), image, labels)
    assert lies_on(image, again)
    assert list(viewer.layers) == [image, again, labels]
    assert preview not in viewer.layers


def test_a_preview_that_was_painted_in_is_left_alone(viewer, image, labels, make_prediction):
    preview = show_preview(viewer, make_prediction(0), image, labels)
    preview.paint((5, 5, 5), 1)
    painted = preview.data.copy()
    again = show_preview(viewer, make_prediction(1), image, labels)
    assert again is not preview
    np.testing.assert_array_equal(preview.data, painted)


def test_a_copy_of_a_preview_is_left_alone(viewer, image, labels, make_prediction):
    preview = show_preview(viewer, make_prediction(0), image, labels)
    copy = Layer.create(*preview.as_layer_data_tuple())
    copy.name = f"{preview.name} copy"
    viewer.add_layer(copy)
    copy.paint((5, 5, 5), 1)
    painted = copy.data.copy()
    assert show_preview(viewer, make_prediction(1), image, labels) is preview
    np.testing.assert_array_equal(copy.data, painted)


def rename(layer) -> None:
    layer.name = "kept"


def fill(layer) -> None:
    layer.data = np.full_like(layer.data, 2)


def tick(layer) -> None:
    set_annotated_slices(layer, [AnnotatedSlice(0, 5)])


@pytest.mark.parametrize("keep", [rename, fill, tick], ids=["renamed", "replaced", "ticked"])
def test_a_preview_that_was_made_ones_own_is_left_alone(viewer, image, labels, make_prediction, keep):
    preview = show_preview(viewer, make_prediction(0), image, labels)
    show_preview(viewer, make_prediction(0), image, labels)
    keep(preview)
    kept = preview.data.copy()
    again = show_preview(viewer, make_prediction(1), image, labels)
    assert again is not preview
    np.testing.assert_array_equal(preview.data, kept)
    assert show_preview(viewer, make_prediction(0), image, labels) is again


def test_a_preview_whose_layer_was_deleted_comes_anew(viewer, image, labels, make_prediction):
    viewer.layers.remove(show_preview(viewer, make_prediction(0), image, labels))
    assert show_preview(viewer, make_prediction(1), image, labels) in viewer.layers


def test_a_preview_of_labels_that_were_deleted_still_comes(viewer, image, labels, make_prediction):
    viewer.layers.remove(labels)
    assert show_preview(viewer, make_prediction(1), image, labels) in viewer.layers


def test_new_layers_do_not_take_the_selection_away(viewer, image, labels):
    viewer.layers.selection.active = labels
    (added,) = add_layers(viewer, [new_labels_data(image)])
    assert viewer.layers[-1] is added
    assert viewer.layers.selection.active is labels
