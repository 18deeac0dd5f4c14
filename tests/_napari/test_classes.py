"""The classes of a Labels layer."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada._napari.annotation import AnnotationModel
from napari_rada._napari.classes import ClassModel
from napari_rada._napari.layers import set_class_infos, take_snapshot
from napari_rada.data.classes import ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError


@pytest.fixture
def model(labels) -> ClassModel:
    return ClassModel(labels, AnnotationModel(labels))


def values(model):
    return [row.info.value for row in model.rows]


def test_painted_labels_are_listed_and_named(model, labels):
    assert [(row.info.value, row.info.name, row.painted) for row in model.rows] == [(1, "label 1", True)]
    model.describe(1, name=" liver ", prompt="the liver in a CT scan")
    assert labels.metadata["classes"] == [{"value": 1, "name": "liver", "prompt": "the liver in a CT scan"}]
    assert ClassModel(labels, AnnotationModel(labels)).rows == model.rows


def test_new_paint_is_a_new_class(labels):
    annotation = AnnotationModel(labels)
    model, told = ClassModel(labels, annotation), []
    model.changed.connect(lambda: told.append(values(model)))
    labels.data[6, 1:4, 1:4] = 5
    annotation.rescan()
    assert told == [[1, 5]]


def test_only_slices_that_were_painted_in_are_sorted_again(labels, monkeypatch):
    annotation = AnnotationModel(labels)
    model, sorted_in = ClassModel(labels, annotation), []
    monkeypatch.setattr("napari_rada._napari.classes.np.unique", lambda part: sorted_in.append(part) or set(part))
    labels.data[6, 1:4, 1:4] = 5
    annotation.rescan()
    assert values(model) == [1, 5]
    assert 1 <= len(sorted_in) < len(annotation.rows)


def test_classes_are_added_and_removed_unless_painted(model):
    assert model.add() == 2
    assert values(model) == [1, 2]
    model.remove(2)
    assert values(model) == [1]
    with pytest.raises(InputError, match="Label 1 is painted"):
        model.remove(1)


def test_the_brush_leaves_the_label_of_a_class_that_is_removed(model, labels):
    labels.selected_label = model.add()
    model.add()
    model.remove(3)
    assert labels.selected_label == 2, "another one was removed"
    model.remove(2)
    assert labels.selected_label == 1


def test_a_class_painted_a_moment_ago_is_not_removed(model, labels):
    value = model.add()
    labels.data[6, 5:7, 6:8] = value
    with pytest.raises(InputError, match="Label 2 is painted"):
        model.remove(value)
    assert values(model) == [1, 2]


def test_names_are_unique_and_not_empty(model):
    model.describe(model.add(), name="tumour")
    for name in ("", "  ", "tumour"):
        with pytest.raises(InputError, match="a name of its own"):
            model.describe(1, name=name)


def test_a_label_that_the_layer_cannot_hold_is_refused(labels):
    labels.data[6, 0, 0] = 255
    model = ClassModel(labels, AnnotationModel(labels))
    with pytest.raises(InputError, match="no label above 255"):
        model.add()


def test_a_class_that_the_layer_cannot_hold_is_not_painted_with(labels):
    set_class_infos(labels, [ClassInfo(1, "liver"), ClassInfo(300, "tumour")])
    model = ClassModel(labels, AnnotationModel(labels))
    with pytest.raises(
        InputError, match=r"'labels' holds no label above 255; .* convert its data type to paint with 300"
    ):
        model.select(300)
    model.select(2)
    assert labels.selected_label == 2


def test_colours_are_those_of_the_layer(model, labels):
    shown = labels.get_color(1)
    assert model.rows[0].colour == "#" + "".join(f"{round(255 * float(c)):02x}" for c in shown[:3])
    model.add()
    other = model.rows[1].colour
    model.set_colour(1, "#123456")
    assert [row.colour for row in model.rows] == ["#123456", other]
    np.testing.assert_allclose(labels.get_color(1)[:3], np.array([0x12, 0x34, 0x56]) / 255, atol=1e-3)


def test_classes_that_come_after_a_colour_was_chosen_have_colours_of_their_own(model, labels):
    fresh = type(labels)(labels.data)
    model.set_colour(1, "#123456")
    model.add()
    labels.data[6, 5:7, 6:8] = 7
    model.refresh()
    assert [row.info.value for row in model.rows] == [1, 2, 7]
    assert len({row.colour for row in model.rows}) == 3
    for value in (2, 7):
        np.testing.assert_allclose(labels.get_color(value), fresh.get_color(value), atol=1e-2)


def test_a_class_is_not_hidden_by_the_colours_that_somebody_gave_the_layer(model, labels):
    labels.colormap = {None: "transparent", 1: "red", 9: (0.0, 1.0, 0.0, 0.5)}
    assert model.add() == 2
    assert labels.get_color(2)[3] == 1
    model.set_colour(1, "#123456")
    np.testing.assert_allclose(labels.get_color(9), (0.0, 1.0, 0.0, 0.5))
    np.testing.assert_allclose(labels.get_color(5), 0.0)


def test_classes_keep_their_colours_while_only_the_selected_label_is_shown(model, labels):
    model.add()
    before = [row.colour for row in model.rows]
    labels.show_selected_label = True
    model.refresh()
    assert [row.colour for row in model.rows] == before
    model.set_colour(1, "#123456")
    assert [row.colour for row in model.rows] == ["#123456", before[1]]


@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_colours_can_be_chosen_for_labels_of_any_type(labels, dtype):
    layer = type(labels)(labels.data.astype(dtype))
    model = ClassModel(layer, AnnotationModel(layer))
    model.set_colour(1, "#123456")
    model.add()
    assert len({row.colour for row in model.rows}) == 2


def test_names_and_prompts_reach_the_case(model, labels, image):
    model.describe(1, name="liver", prompt="the liver")
    model.add()
    case = take_snapshot(image, labels, [AnnotatedSlice(0, 6)]).to_case()
    assert case.classes.classes == (ClassInfo(0, "background"), ClassInfo(1, "liver", "the liver"))
