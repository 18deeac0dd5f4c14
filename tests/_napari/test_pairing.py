"""Which image labels belong to, where several images lie on the same voxels."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from tests.engine import ball, ball_image

from napari_rada._napari.files import read_layers
from napari_rada._napari.layers import new_labels_data, open_images, set_annotated_slices
from napari_rada._napari.pairing import check_owner, image_of, made_for, may_label, own_labels
from napari_rada._napari.preview import add_layers
from napari_rada._napari.session import session_of
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.io import write_volume

SHAPE = (4, 5, 6)


def image(name: str) -> Image:
    return Image(np.zeros(SHAPE), name=name)


def labels(name: str, planes: int = 0) -> Labels:
    slices = [{"axis": 0, "index": index} for index in range(planes)]
    return Labels(np.zeros(SHAPE, np.uint8), name=name, metadata={"annotated_slices": slices})


def read(path) -> Layer:
    (data,) = read_layers(str(path))
    return Layer.create(*data)


@pytest.fixture
def patients(tmp_path):
    """Two patients with a folder each, in which scan and labels have the same names."""
    opened = []
    for patient in ("one", "two"):
        folder = tmp_path / patient
        folder.mkdir()
        for name, array in (("ct.nii.gz", ball_image(ball())), ("seg.nii.gz", ball())):
            write_volume(folder / name, array, Grid.from_spacing(array.shape))
            opened.append(read(folder / name))
    return opened


def test_labels_belong_to_the_image_they_were_made_for_whatever_it_is_called():
    first, second = image("scan"), image("other")
    made = Layer.create(*new_labels_data(first))
    first.name, second.name = "patient 1", "scan"
    for known in (made_for, image_of):
        assert known(made, [second, first]) is first
        assert known(made, []) is None


def test_labels_on_the_voxels_of_a_file_belong_to_its_image(patients):
    first, _, second, _ = patients
    made = Layer.create(*new_labels_data(second))
    made.metadata.pop("made_for")
    assert made_for(made, [first, second]) is second
    first.data = first.data[0]
    assert made_for(made, [first, second]) is second


def test_labels_known_to_be_of_another_open_image_are_refused():
    first, second = image("scan"), image("again")
    made = Layer.create(*new_labels_data(first))
    with pytest.raises(InputError, match=r"'scan labels' belongs to 'scan', not to 'again'; .*, or close 'scan'"):
        check_owner(made, second, [first, second])
    check_owner(made, first, [first, second])
    check_owner(made, second, [second])
    check_owner(labels("scan labels"), second, [first, second])


def test_labels_that_lie_on_an_image_and_are_of_no_other_may_label_it():
    scans = [image("A"), image("B")]
    assert [may_label(labels("B labels"), scan, scans) for scan in scans] == [False, True]
    assert [may_label(labels("free"), scan, scans) for scan in scans] == [True, True]
    assert not may_label(labels("free"), Image(np.zeros((2, 2, 2))), scans)


def test_the_only_image_that_labels_lie_on_is_theirs():
    small = Image(np.zeros((2, 2, 2)), name="liver labels")
    assert image_of(labels("anything"), [small, image("scan")]) is not small
    assert image_of(labels("liver labels"), [small]) is None


@pytest.mark.parametrize(
    ("names", "of", "owner"),
    [
        (("scan", "scan 2"), "scan labels", "scan"),
        (("scan", "scan 2"), "scan 2 labels", "scan 2"),
        (("ct_01", "ct_02"), "Mask_02", "ct_02"),
        (("liver_1_0000", "liver_2_0000"), "liver_1", "liver_1_0000"),
        (("A", "B"), "Labels", None),
        (("liver 1", "liver 2"), "liver mask", None),
    ],
)
def test_of_images_on_the_same_voxels_names_tell(names, of, owner):
    found = image_of(labels(of), [image(name) for name in names])
    assert (found and found.name) == owner


def test_labels_in_a_file_belong_to_the_scan_in_the_same_folder(patients):
    first, first_labels, second, second_labels = patients
    assert made_for(second_labels, [first, second]) is None
    assert image_of(first_labels, [first, second]) is first
    assert image_of(second_labels, [first, second]) is second


def test_no_labels_are_those_of_two_images():
    viewer = ViewerModel()
    scans = [viewer.add_layer(image(name)) for name in "AB"]
    of_a, of_b, anyones = (viewer.add_layer(labels(name, 2)) for name in ("A labels", "B labels", "free"))
    assert own_labels(viewer) == dict(zip(scans, (of_a, of_b), strict=True))
    assert own_labels(viewer, besides=of_b) == {scans[0]: of_a}
    more = viewer.add_layer(labels("A again", 3))
    assert own_labels(viewer)[scans[0]] is more
    viewer.layers.remove(of_b)
    assert own_labels(viewer, besides=more) == {scans[0]: of_a}
    viewer.layers.remove(scans[0])
    assert own_labels(viewer)[scans[1]] is more, "on one image alone all that fits may be used"
    assert anyones in viewer.layers


def test_what_belongs_to_another_image_is_not_used():
    viewer = ViewerModel()
    first, second = (viewer.add_layer(image(name)) for name in "AB")
    session = session_of(viewer)
    viewer.add_layer(labels("A labels", 3))
    assert session.labels_on(viewer, second) is None
    empty = viewer.add_layer(labels("B labels"))
    assert session.labels_on(viewer, second) is empty
    free = viewer.add_layer(labels("free", 1))
    assert session.labels_on(viewer, second) is free
    assert session.labels_on(viewer, first).name == "A labels"


def test_of_several_labels_of_an_image_those_that_are_painted_in_are_chosen(viewer):
    image = next(iter(open_images(viewer)))
    older, newer = (add_layers(viewer, [new_labels_data(image)])[0] for _ in range(2))
    for layer, planes in ((older, [AnnotatedSlice(0, 3), AnnotatedSlice(1, 4)]), (newer, [AnnotatedSlice(0, 3)])):
        set_annotated_slices(layer, planes)
    for layer in (newer, older):
        viewer.layers.selection.active = layer
        assert session_of(viewer).labels_on(viewer, image) is layer
