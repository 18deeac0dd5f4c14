"""Reader, writer and sample data, called as napari calls them."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest

from napari_rada._napari.layers import annotated_slices, case_from_layers, grid_of, new_labels_data, world_matrix
from napari_rada.data.classes import ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.io import load_case, read_sidecar, read_volume, write_volume
from napari_rada.io.annotations import write_sidecar

OBLIQUE = np.array([[1.18, 0.1, 0.0, -30.0], [-0.1, 1.18, 0.3, 12.0], [0.0, -0.13, 2.98, 5.0], [0, 0, 0, 1]])


@pytest.fixture
def viewer(monkeypatch):
    """A viewer that knows this plugin only."""
    manager = PluginManager()
    manager.register(PluginManifest.from_distribution("napari-rada"))
    monkeypatch.setattr(PluginManager, "instance", staticmethod(lambda: manager))
    return ViewerModel()


@pytest.fixture
def scan(tmp_path):
    """An oblique NIfTI image with distinct values and both codes set."""
    image = nib.Nifti1Image(np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4), OBLIQUE)
    image.set_qform(OBLIQUE, 2)
    image.set_sform(OBLIQUE, 1)
    image.header.set_xyzt_units("mm")
    path = tmp_path / "scan.nii.gz"
    nib.save(image, path)
    return path


def test_a_nifti_scan_opens_with_its_geometry(viewer, scan):
    (layer,) = viewer.open(scan, plugin="napari-rada")
    assert layer.name == "scan"
    assert layer.data.shape == (4, 3, 2)
    assert layer.data.dtype == np.int16
    np.testing.assert_allclose(layer.scale, np.linalg.norm(OBLIQUE[:3, :3], axis=0)[::-1])
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.metadata["source"] == str(scan)
    np.testing.assert_allclose(grid_of(layer).affine[:3, :3], OBLIQUE[:3, 2::-1])
    assert case_from_layers(layer).source == scan


def test_a_mask_goes_back_into_the_scans_exact_geometry(viewer, scan, tmp_path):
    (layer,) = viewer.open(scan, plugin="napari-rada")
    data, settings, _ = new_labels_data(layer)
    data[3, 2, 1] = 300 % 256
    labels = viewer.add_labels(data.astype(np.int64), **settings)
    labels.data[0, 1, 0] = 7
    out = tmp_path / "mask.nii.gz"
    assert labels.save(str(out), plugin="napari-rada") == [str(out)]
    saved, original = nib.load(out), nib.load(scan)
    np.testing.assert_array_equal(np.asarray(saved.dataobj), labels.data.T)
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(saved.affine, original.affine)
    for name in ("qform_code", "sform_code", "xyzt_units"):
        assert saved.header[name] == original.header[name]


def test_annotated_slices_travel_with_the_labels(viewer, scan, tmp_path):
    (layer,) = viewer.open(scan, plugin="napari-rada")
    data, settings, _ = new_labels_data(layer)
    data[1] = 1
    settings["metadata"]["annotated_slices"] = [{"axis": 0, "index": 1}, {"axis": 2, "index": 0}]
    settings["metadata"]["classes"] = [{"value": 1, "name": "liver", "prompt": "A liver"}]
    out = tmp_path / "painted.nii.gz"
    viewer.add_labels(data, **settings).save(str(out), plugin="napari-rada")
    # NIfTI counts its axes the other way round: array axis 0 is the file's axis 2.
    assert json.loads((tmp_path / "painted.slices.json").read_text())["annotated_slices"] == [
        {"axis": 0, "index": 0},
        {"axis": 2, "index": 1},
    ]
    (again,) = viewer.open(out, plugin="napari-rada")
    assert again._type_string == "labels"
    assert annotated_slices(again) == (AnnotatedSlice(0, 1), AnnotatedSlice(2, 0))
    assert again.metadata["classes"] == [{"value": 1, "name": "liver", "prompt": "A liver"}]
    np.testing.assert_array_equal(again.data, data)


def test_named_classes_travel_with_labels_in_which_nothing_is_ticked(viewer, scan, tmp_path):
    (layer,) = viewer.open(scan, plugin="napari-rada")
    data, settings, _ = new_labels_data(layer)
    data[1] = 1
    settings["metadata"]["classes"] = [
        {"value": 1, "name": "liver", "prompt": "A liver"},
        {"value": 300, "name": "tumour", "prompt": ""},
        {"value": 7, "name": "label 7", "prompt": ""},
    ]
    out = tmp_path / "painted.nii.gz"
    labels = viewer.add_labels(data, **settings)
    for _again in range(2):
        labels.save(str(out), plugin="napari-rada")
    (again,) = viewer.open(out, plugin="napari-rada")
    assert again._type_string == "labels"
    assert "annotated_slices" not in again.metadata
    assert [info["name"] for info in again.metadata["classes"]] == ["liver", "tumour"]
    assert np.iinfo(again.data.dtype).max >= 300, "every class can be painted"
    case = load_case(scan, out)
    assert case.annotated, "slices are detected as without names"
    assert case.classes.classes[1].prompt == "A liver"


def test_named_classes_do_not_take_the_slices_of_another_file_of_the_name(viewer, scan, tmp_path):
    (layer,) = viewer.open(scan, plugin="napari-rada")
    data, settings, _ = new_labels_data(layer)
    data[1] = 1
    settings["metadata"]["annotated_slices"] = [{"axis": 0, "index": 1}]
    viewer.add_labels(data, **settings).save(str(tmp_path / "painted.nii.gz"), plugin="napari-rada")
    described = (tmp_path / "painted.slices.json").read_bytes()
    settings["metadata"] = {"classes": [{"value": 1, "name": "liver", "prompt": ""}]}
    with pytest.raises(OSError, match=r"painted\.nii would count as annotated, since painted\.slices\.json"):
        viewer.add_labels(data, **settings).save(str(tmp_path / "painted.nii"), plugin="napari-rada")
    assert (tmp_path / "painted.slices.json").read_bytes() == described


def test_an_image_beside_which_classes_are_named_stays_an_image(viewer, scan, tmp_path):
    volume = read_volume(scan)
    shades = np.linspace(-1, 1, volume.array.size).reshape(volume.array.shape)
    write_volume(tmp_path / "map.nii.gz", shades, volume.grid)
    write_sidecar(tmp_path / "map.nii.gz", None, [ClassInfo(1, "liver")])
    (layer,) = viewer.open(tmp_path / "map.nii.gz", plugin="napari-rada")
    assert layer._type_string == "image"


def test_a_slice_that_was_taken_back_is_not_annotated_where_the_program_ended_before_the_sidecar(
    viewer, tmp_path, ending_before_the_sidecar
):
    path, layer = tmp_path / "painted.nii.gz", viewer.add_labels(np.ones((3, 4, 5), np.uint8))
    layer.metadata["annotated_slices"] = [{"axis": 0, "index": 1}, {"axis": 1, "index": 2}]
    layer.save(str(path), plugin="napari-rada")
    layer.metadata["annotated_slices"] = [{"axis": 0, "index": 1}]

    with ending_before_the_sidecar():
        layer.save(str(path), plugin="napari-rada")
    assert read_sidecar(path) == ((2, 1),), "as the file counts axes"


def test_the_source_is_never_overwritten(viewer, scan):
    (layer,) = viewer.open(scan, plugin="napari-rada")
    before = scan.read_bytes()
    with pytest.raises(OSError, match="is one of the inputs and would be overwritten"):
        layer.save(str(scan), plugin="napari-rada")
    assert scan.read_bytes() == before


def test_a_mask_does_not_replace_an_annotation(viewer, scan, tmp_path):
    (layer,) = viewer.open(scan, plugin="napari-rada")
    (tmp_path / "painted.slices.json").write_text('{"annotated_slices": []}')
    (tmp_path / "painted.nii.gz").write_bytes(b"precious")
    labels = viewer.add_labels(np.ones((4, 3, 2), dtype=np.uint8), **new_labels_data(layer)[1])
    with pytest.raises(OSError, match="holds annotations"):
        labels.save(str(tmp_path / "painted.nii.gz"), plugin="napari-rada")


def test_a_layer_without_a_source_is_saved_where_it_lies(viewer, tmp_path):
    layer = viewer.add_image(
        np.random.default_rng(0).random((4, 3, 5), dtype=np.float32), scale=(3.0, -1.5, 1.0), translate=(7.0, 3.0, 0.0)
    )
    out = tmp_path / "made.nii"
    layer.save(str(out), plugin="napari-rada")
    (again,) = viewer.open(out, plugin="napari-rada")
    np.testing.assert_allclose(world_matrix(again), world_matrix(layer), atol=1e-6)
    np.testing.assert_array_equal(again.data, layer.data)


def test_a_tiff_stack_opens_as_stored(viewer, tmp_path):
    stack = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(
        path, stack, imagej=True, resolution=(2.0, 2.0), metadata={"spacing": 1.5, "unit": "um", "axes": "ZYX"}
    )
    (layer,) = viewer.open(path, plugin="napari-rada")
    np.testing.assert_allclose(layer.scale, (0.0015, 0.0005, 0.0005))
    np.testing.assert_allclose(world_matrix(layer)[:3, :3], np.diag((0.0015, 0.0005, 0.0005)))
    np.testing.assert_array_equal(layer.data, stack)


def test_a_tiff_without_calibration_is_in_pixels(viewer, tmp_path):
    path = tmp_path / "plain.tif"
    stack = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    tifffile.imwrite(path, stack, photometric="minisblack")
    (layer,) = viewer.open(path, plugin="napari-rada")
    assert [str(unit) for unit in layer.units] == ["pixel"] * 3
    assert layer.scale.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "dtype", "kind"),
    [("la001_label", np.float32, "labels"), ("liver-Mask", np.uint8, "labels"), ("scan", np.uint8, "image")],
)
def test_label_files_are_known_by_their_name(viewer, tmp_path, name, dtype, kind):
    path = tmp_path / f"{name}.nii"
    nib.save(nib.Nifti1Image(np.eye(4, dtype=dtype)[None].repeat(4, 0), np.eye(4)), path)
    (layer,) = viewer.open(path, plugin="napari-rada")
    assert layer._type_string == kind


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_a_nifti_header_says_what_the_layer_was_whatever_its_file_is_called(viewer, scan, tmp_path, kind):
    (layer,) = viewer.open(scan, plugin="napari-rada", layer_type="image")
    whole = viewer.add_image(layer.data, name="m") if kind == "image" else viewer.add_labels(layer.data, name="m")
    viewer.layers.save(str(tmp_path / "m.nii.gz"), selected=True, plugin="napari-rada")
    assert viewer.layers.selection == {whole}
    (again,) = viewer.open(tmp_path / "m.nii.gz", plugin="napari-rada")
    assert again._type_string == kind
    np.testing.assert_array_equal(again.data, layer.data)


def test_a_map_named_after_labels_stays_an_image(viewer, tmp_path):
    path = tmp_path / "label_probability.nii"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((4, 4, 4), dtype=np.float32), np.eye(4)), path)
    (layer,) = viewer.open(path, plugin="napari-rada")
    assert layer._type_string == "image"


def test_what_is_no_single_volume_is_refused_in_one_sentence(viewer, tmp_path):
    path = tmp_path / "film.nii"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 2), dtype=np.int16), np.eye(4)), path)
    with pytest.raises(InputError, match=r"film\.nii has 4 dimensions"):
        viewer.open(path, plugin="napari-rada")


def test_the_sample_can_be_trained_on_at_once(viewer):
    image, labels = viewer.open_sample("napari-rada", "synthetic_organ")
    assert labels.metadata["annotated_slices"] == [
        {"axis": plane.axis, "index": plane.index} for plane in annotated_slices(labels)
    ]
    assert {plane.axis for plane in annotated_slices(labels)} == {0, 1, 2}
    case = case_from_layers(image, labels)
    assert case.annotated == annotated_slices(labels)
    np.testing.assert_allclose(case.grid.spacing, image.scale)


def test_a_real_scan_and_its_labels_line_up(viewer, shared_data):
    scan, label = (shared_data / "chaos_t2" / f"case_02_{kind}.nii.gz" for kind in ("mr", "label"))
    (image,) = viewer.open(scan, plugin="napari-rada")
    (labels,) = viewer.open(label, plugin="napari-rada")
    assert labels._type_string == "labels"
    case = case_from_layers(image, labels, [AnnotatedSlice(0, 15)])
    np.testing.assert_allclose(case.grid.affine[:3, 2::-1], nib.load(scan).affine[:3, :3], atol=1e-5)
