"""What is written, and what is never overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_rada import io
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.io.annotations import read_classes, write_sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

AFFINE = np.diag([-2.0, 3.0, 4.0, 1.0])


@pytest.fixture
def case(save_nifti: Callable[..., Path], image_ijk: Any, labels_ijk: Any) -> Case:
    image = save_nifti("scan.nii.gz", image_ijk, AFFINE)
    return io.load_case(image, save_nifti("dense.nii.gz", labels_ijk, AFFINE), [(0, 4), (2, 0)])


def test_labels_and_sidecar_come_back(tmp_path: Path, case: Case) -> None:
    path = tmp_path / "scan_labels.nii.gz"
    io.save_labels(case, path)
    content = json.loads((tmp_path / "scan_labels.slices.json").read_text())
    assert content == {"format": "NIfTI", "annotated_slices": [{"axis": 0, "index": 4}, {"axis": 2, "index": 0}]}
    np.testing.assert_array_equal(nib.load(path).affine, AFFINE)
    assert nib.load(path).get_data_dtype() == np.uint8
    assert case.source is not None
    again = io.load_case(case.source, path)
    assert again.annotated == case.annotated == (AnnotatedSlice(0, 0), AnnotatedSlice(2, 4))
    np.testing.assert_array_equal(again.labels, case.labels)


def test_saved_labels_have_no_slice_of_older_ones_where_the_program_ended_before_the_sidecar(
    tmp_path: Path, case: Case, ending_before_the_sidecar: Callable[[], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "scan_labels.nii.gz"
    io.save_labels(case, path)
    fewer = Case.create(case.image, case.labels, slices=[AnnotatedSlice(2, 4)], grid=case.grid, source=case.source)
    with ending_before_the_sidecar():
        io.save_labels(fewer, path)
    assert io.read_sidecar(path) == ((0, 4),), "as the file counts axes"


def test_labels_as_tiff_count_their_slices_as_tiff(tmp_path: Path, case: Case) -> None:
    io.save_labels(case, tmp_path / "labels.tif")
    content = json.loads((tmp_path / "labels.slices.json").read_text())
    assert content == {"format": "TIFF", "annotated_slices": [{"axis": 0, "index": 0}, {"axis": 2, "index": 4}]}


def test_labels_of_a_case_without_a_file(tmp_path: Path, image_ijk: Any, labels_ijk: Any) -> None:
    case = Case.create(image_ijk.T, labels_ijk.T * np.int32(300), slices=[(0, 3)], spacing=(4.0, 3.0, 2.0))
    io.save_labels(case, tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(nib.load(tmp_path / "labels.nii.gz").header.get_zooms(), (2.0, 3.0, 4.0))
    assert nib.load(tmp_path / "labels.nii.gz").get_data_dtype() == np.uint16
    np.testing.assert_array_equal(io.read_volume(tmp_path / "labels.nii.gz").array, case.labels)


def test_unlabelled_case_has_nothing_to_save(tmp_path: Path, image_ijk: Any) -> None:
    with pytest.raises(InputError, match="no annotated slices to save"):
        io.save_labels(Case.create(image_ijk.T), tmp_path / "labels.nii.gz")


def test_inputs_are_never_overwritten(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any]
) -> None:
    prediction = prediction_for(case, labels_ijk.T)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "scan.nii.gz")
    for name, inputs in (("scan.nii.gz", ()), ("link.nii.gz", ()), ("dense.nii.gz", (tmp_path / "dense.nii.gz",))):
        with pytest.raises(InputError, match="is one of the inputs and would be overwritten"):
            io.save_mask(prediction, tmp_path / name, inputs=inputs)
    with pytest.raises(InputError, match="is one of the inputs"):
        io.save_labels(case, tmp_path / "scan.nii.gz")
    assert {path: path.read_bytes() for path in before} == before


def test_annotations_are_never_overwritten_by_a_result(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any]
) -> None:
    io.save_labels(case, tmp_path / "mine.nii.gz")
    before = (tmp_path / "mine.nii.gz").read_bytes()
    with pytest.raises(InputError, match=r"holds annotations, as mine\.slices\.json beside it shows"):
        io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mine.nii.gz")
    assert (tmp_path / "mine.nii.gz").read_bytes() == before


def test_labels_whose_classes_are_named_are_never_overwritten_by_a_result(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any]
) -> None:
    io.save_labels(case, tmp_path / "mine.nii.gz")
    write_sidecar(tmp_path / "mine.nii.gz", None, [ClassInfo(1, "kidney")])
    with pytest.raises(InputError, match=r"holds annotations, as mine\.slices\.json beside it shows"):
        io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mine.nii.gz")


@pytest.mark.parametrize("left", [None, "mine.nii"])
def test_a_result_is_never_taken_for_an_annotation_whose_sidecar_stayed(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any], left: str | None
) -> None:
    """Neither where the labels were deleted, nor where they have the same name but for the packing."""
    named = tmp_path / (left or "mine.nii.gz")
    io.save_labels(case, named)
    if left is None:
        named.unlink()
    with pytest.raises(InputError, match=r"would count as annotated, since mine\.slices\.json of other labels"):
        io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mine.nii.gz")
    assert not (tmp_path / "mine.nii.gz").exists()
    io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mine.tif")  # which counts axes in another order


def test_an_older_result_is_replaced(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any]
) -> None:
    (tmp_path / "mask.nii.gz").write_bytes(b"old")
    io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "mask.nii.gz").dataobj), labels_ijk)


def test_nothing_half_written_is_left(
    tmp_path: Path,
    case: Case,
    labels_ijk: Any,
    prediction_for: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mask.nii.gz").write_bytes(b"old")
    files = sorted(tmp_path.iterdir())

    def full_disk(image: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(InputError, match=r"mask.nii.gz cannot be written \(No space left on device\)"):
        io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mask.nii.gz")
    assert sorted(tmp_path.iterdir()) == files
    assert (tmp_path / "mask.nii.gz").read_bytes() == b"old"


def test_a_result_survives_the_move_of_its_image(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any]
) -> None:
    assert case.source is not None
    case.source.unlink()
    io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii.gz").affine, AFFINE, atol=1e-6)


def test_a_result_in_another_format_gets_the_voxel_size(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any]
) -> None:
    io.save_mask(prediction_for(case, labels_ijk.T), tmp_path / "mask.tif")
    volume = io.read_volume(tmp_path / "mask.tif")
    np.testing.assert_array_equal(volume.array, labels_ijk.T)
    np.testing.assert_allclose(volume.grid.spacing, (4.0, 3.0, 2.0))


def test_propagation_has_no_disagreement(
    tmp_path: Path, case: Case, labels_ijk: Any, prediction_for: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match="no disagreement"):
        io.save_disagreement(prediction_for(case, labels_ijk.T, disagreement=False), tmp_path / "d.nii.gz")


def test_outputs_are_checked_before_anything_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name, gist in (
        ("mask.png", r"The output .*mask\.png is neither NIfTI .*; end its name so, for example mask\.nii\.gz\.$"),
        ("masks", r"for example masks\.nii\.gz\.$"),
        ("missing/mask.nii.gz", "missing does not exist; make it"),
        ("file/mask.nii.gz", "file is not a folder"),
    ):
        with pytest.raises(InputError, match=gist):
            io.check_result(tmp_path / name)
    with pytest.raises(InputError, match=r"is a folder; name the output file"):
        io.check_result(tmp_path)
    assert io.check_result(str(tmp_path / "mask.nii.gz")) == tmp_path / "mask.nii.gz"
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="is not writable; choose another one"):
        io.check_result(tmp_path / "mask.nii.gz")


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.nii.gz", "a", ".nii.gz"),
        ("A.NII.GZ", "A", ".NII.GZ"),
        ("a.b.nii", "a.b", ".nii"),
        ("a.TIF", "a", ".TIF"),
        ("a.ome.tiff", "a.ome", ".tiff"),
        ("a.gz", "a.gz", ""),
    ],
)
def test_stem_and_suffix(tmp_path: Path, name: str, stem: str, suffix: str) -> None:
    assert (io.stem_of(tmp_path / name), io.suffix_of(tmp_path / name)) == (stem, suffix)


def test_names_and_prompts_of_classes_come_back(tmp_path: Path, case: Case) -> None:
    assert case.classes is not None
    value = case.classes.values[1]
    named = replace(case, classes=case.classes.with_names([ClassInfo(value, "Vorhof, größer", "An atrium")]))
    io.save_labels(named, tmp_path / "labels.nii.gz")
    assert read_classes(tmp_path / "labels.nii.gz") == (ClassInfo(value, "Vorhof, größer", "An atrium"),)
    io.write_volume(tmp_path / "image.nii.gz", case.image, case.grid)
    again = io.load_case(tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz")
    assert again.classes == named.classes
    io.save_labels(case, tmp_path / "plain_labels.nii.gz")
    assert "classes" not in (tmp_path / "plain_labels.slices.json").read_text()


@pytest.mark.parametrize(
    "classes",
    [
        "liver",
        [1],
        [{"value": 1}],
        [{"value": 0, "name": "x"}],
        [{"value": 1, "name": ""}],
        [{"value": True, "name": "x"}],
    ],
)
def test_malformed_classes_are_told(tmp_path: Path, classes: object) -> None:
    content = {"annotated_slices": [], "classes": classes}
    (tmp_path / "labels.slices.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"should look like \{\"value\": 1, \"name\": \"liver\""):
        read_classes(tmp_path / "labels.nii.gz")
