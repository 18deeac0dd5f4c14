"""Names that last: under which labels are kept in files."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_rada._napari.kept_names import keep_as, kept_name, name_once


@pytest.fixture
def other(labels) -> Labels:
    return Labels(np.zeros_like(labels.data), name="labels", scale=labels.scale, units=labels.units)


def test_the_first_name_lasts(labels):
    assert kept_name(labels) is None
    name_once(labels, [labels])
    labels.name = "liver"
    name_once(labels, [labels])
    assert kept_name(labels) == "labels"


def test_no_two_layers_on_the_same_voxels_are_kept_under_one_name(image, labels, other):
    name_once(labels, [image, labels, other])
    name_once(other, [image, labels, other])
    assert (kept_name(labels), kept_name(other)) == ("labels", "labels (2)")
    keep_as(other, "labels", [image, labels, other])
    assert (kept_name(labels), kept_name(other)) == ("labels (2)", "labels")


def test_layers_on_other_voxels_may_have_the_same_name(labels):
    elsewhere = Labels(np.zeros((3, 4, 5), dtype=np.uint8), name="labels")
    for layer in (labels, elsewhere):
        name_once(layer, [labels, elsewhere])
    assert kept_name(labels) == kept_name(elsewhere) == "labels"


def test_a_copy_has_a_name_of_its_own(labels):
    name_once(labels, [])
    copy = Labels.create(*labels.as_layer_data_tuple())
    assert kept_name(copy) is None
