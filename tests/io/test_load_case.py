from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_rada import io
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError, NotEnoughMemoryError
from napari_rada.events import Notice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SLICES_IJK = ((0, 4), (1, 3), (2, 3))
ARRAY_SLICES = (AnnotatedSlice(0, 3), AnnotatedSlice(1, 3), AnnotatedSlice(2, 4))


def sparse(labels: NDArray[np.uint8], slices: tuple[tuple[int, int], ...]) -> NDArray[np.uint8]:
    kept = np.zeros_like(labels)
    for axis, index in slices:
        where = [slice(None)] * 3
        where[axis] = slice(index, index + 1)
        kept[tuple(where)] = labels[tuple(where)]
    return kept


@pytest.fixture
def image(save_nifti: Callable[..., Path], image_ijk: Any) -> Path:
    return save_nifti("scan.nii.gz", image_ijk)


@pytest.fixture
def labels(save_nifti: Callable[..., Path], labels_ijk: Any) -> Path:
    return save_nifti("scan_labels.nii.gz", sparse(labels_ijk, SLICES_IJK))


def write_sidecar(path: Path, content: Any) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def test_unlabelled_case(image: Path, image_ijk: Any) -> None:
    case = io.load_case(str(image))
    assert case.name == "scan"
    assert case.source == image
    assert not case.is_labelled
    np.testing.assert_array_equal(case.image, image_ijk.T.astype(np.float32))


def test_slices_are_detected(image: Path, labels: Path, labels_ijk: Any) -> None:
    case = io.load_case(image, labels, name="la001")
    assert case.name == "la001"
    assert case.annotated == ARRAY_SLICES
    assert case.labels is not None
    np.testing.assert_array_equal(case.labels.T, sparse(labels_ijk, SLICES_IJK))


def test_named_slices_count_as_the_file_does(image: Path, labels: Path) -> None:
    assert io.load_case(image, labels, [(0, 4), (2, 0)]).annotated == (AnnotatedSlice(0, 0), AnnotatedSlice(2, 4))


def test_slices_may_be_written_or_one_alone(image: Path, labels: Path) -> None:
    assert io.load_case(image, labels, "0:4;2:0").annotated == (AnnotatedSlice(0, 0), AnnotatedSlice(2, 4))
    assert io.load_case(image, labels, (0, 4)).annotated == (AnnotatedSlice(2, 4),)
    with pytest.raises(InputError, match="names axis 4"):
        io.load_case(image, labels, [4, 3])
    with pytest.raises(InputError, match="no choice 'x' for conflicts; use 'later' or 'earlier'"):
        io.load_case(image, labels, conflicts="x")  # type: ignore[arg-type]


def test_named_slices_of_a_tiff_count_as_its_pages_do(tmp_path: Path, labels_ijk: Any) -> None:
    tifffile.imwrite(tmp_path / "scan.tif", np.arange(504, dtype=np.uint16).reshape(9, 8, 7), photometric="minisblack")
    tifffile.imwrite(tmp_path / "labels.tif", labels_ijk, photometric="minisblack")
    case = io.load_case(tmp_path / "scan.tif", tmp_path / "labels.tif", [(0, 4), (2, 0)])
    assert case.annotated == (AnnotatedSlice(0, 4), AnnotatedSlice(2, 0))


@pytest.mark.parametrize("sidecar", ["scan_labels.slices.json", "scan_labels.nii.gz.slices.json"])
def test_sidecar_wins_over_detection(tmp_path: Path, image: Path, labels: Path, sidecar: str) -> None:
    entry = {"axis": 0, "index": 8, "by": "somebody"}
    write_sidecar(tmp_path / sidecar, {"annotated_slices": [entry, {"axis": 2, "index": 3}], "version": 1})
    assert io.load_case(image, labels).annotated == (AnnotatedSlice(0, 3), AnnotatedSlice(2, 8))
    assert io.load_case(image, labels, [(1, 3)]).annotated == (AnnotatedSlice(1, 3),)


def test_sidecar_with_the_whole_file_name_goes_first(tmp_path: Path, image: Path, labels: Path) -> None:
    write_sidecar(tmp_path / "scan_labels.slices.json", {"annotated_slices": [{"axis": 0, "index": 1}]})
    write_sidecar(tmp_path / "scan_labels.nii.gz.slices.json", {"annotated_slices": [{"axis": 0, "index": 2}]})
    assert io.load_case(image, labels).annotated == (AnnotatedSlice(2, 2),)


def test_paint_outside_the_named_slices_is_told(image: Path, labels: Path, tmp_path: Path) -> None:
    heard: list[Any] = []
    io.load_case(image, labels, [(2, 4), (1, 3), (0, 3)], listener=heard.append)
    assert len(heard) == 1
    assert re.search(r"scan: \d+ of \d+ painted voxels of scan_labels.nii.gz lie outside", heard[0].message)
    assert heard[0].message.endswith("and are ignored; painted seem 0:4, 1:3, 2:3 (axis:index in the file).")
    write_sidecar(tmp_path / "scan_labels.slices.json", {"annotated_slices": [{"axis": 0, "index": 4}]})
    io.load_case(image, labels, listener=heard.append)
    assert "painted seem 0:4, 1:3, 2:3" in heard[1].message


def test_that_dense_labels_reach_beyond_the_named_slices_is_not_told(
    save_nifti: Callable[..., Path], image: Path, labels: Path, labels_ijk: Any
) -> None:
    heard: list[Any] = []
    io.load_case(image, save_nifti("dense.nii.gz", labels_ijk), SLICES_IJK, listener=heard.append)
    io.load_case(image, labels, [*SLICES_IJK, (2, 0)], listener=heard.append)
    io.load_case(image, labels, listener=heard.append)
    assert heard == []


@pytest.mark.parametrize(
    ("content", "gist"),
    [
        ("{", "is not readable JSON"),
        ("[]", "has no list 'annotated_slices'"),
        ({"slices": []}, "has no list 'annotated_slices'"),
        ({"annotated_slices": {"axis": 0}}, "has no list 'annotated_slices'"),
        ({"annotated_slices": [[0, 1]]}, r"holds \[0, 1\] where a slice should be"),
        ({"annotated_slices": [{"axis": 0}]}, "where a slice should be"),
        ({"annotated_slices": [{"axis": 0, "index": 1.5}]}, "where a slice should be"),
        ({"annotated_slices": [{"axis": 0, "index": True}]}, "where a slice should be"),
        ({"annotated_slices": [{"axis": 0, "index": 9}]}, r"Slice 0:9 lies outside .*axis 0 has the slices 0 to 8"),
        ({"annotated_slices": [{"axis": 0, "index": -1}]}, r"Slice 0:-1 lies outside"),
        ({"annotated_slices": [{"axis": 3, "index": 1}]}, "names axis 3"),
        ({"annotated_slices": []}, "list of annotated slices is empty"),
    ],
)
def test_malformed_sidecar(tmp_path: Path, image: Path, labels: Path, content: Any, gist: str) -> None:
    write_sidecar(tmp_path / "scan_labels.slices.json", content)
    with pytest.raises(InputError, match=gist) as error:
        io.load_case(image, labels)
    assert "\n" not in str(error.value)


def test_several_label_files_are_merged_and_conflicts_told(
    save_nifti: Callable[..., Path], image: Path, labels_ijk: Any
) -> None:
    axial = sparse(labels_ijk, ((2, 3),))
    sagittal = sparse(np.where(labels_ijk > 0, 5, 0).astype(np.uint8), ((0, 4),))
    paths = [save_nifti("axial.nii.gz", axial), save_nifti("sagittal.nii.gz", sagittal)]
    crossing = int((labels_ijk[4, :, 3] > 0).sum())
    for winner, kept, value in (("later", "0:4", 5), ("earlier", "2:3", int(labels_ijk[4, 4, 3]))):
        heard: list[Any] = []
        case = io.load_case(image, paths, conflicts=winner, listener=heard.append)  # type: ignore[arg-type]
        assert case.annotated == (AnnotatedSlice(0, 3), AnnotatedSlice(2, 4))
        assert case.labels is not None
        assert case.labels.T[4, 4, 3] == value
        assert len(heard) == 1
        assert isinstance(heard[0], Notice)
        assert f"disagree in {crossing} voxels; {kept} was kept" in heard[0].message


def test_several_label_files_with_one_slice_each(save_nifti: Callable[..., Path], image: Path, labels_ijk: Any) -> None:
    dense = [save_nifti(f"{n}.nii.gz", labels_ijk) for n in "abc"]
    heard: list[Any] = []
    case = io.load_case(image, dense, SLICES_IJK, listener=heard.append)
    assert case.annotated == ARRAY_SLICES
    assert heard == []
    with pytest.raises(InputError, match="3 label files and 2 slices"):
        io.load_case(image, dense, SLICES_IJK[:2])


def one_voxel(like: Any) -> Any:
    single = np.zeros_like(like)
    single[4, 4, 4] = 1
    return single


BAD_LABELS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "shape": (lambda a: a[:, :, :-1], r"has shape \(9, 8, 6\) but .*scan.nii.gz has \(9, 8, 7\); they must be equal"),
    "empty": (np.zeros_like, "the labels are empty"),
    "fractions": (lambda a: a + 0.5, "fractions or NaN"),
    "negative": (lambda a: -a.astype(np.int16), r"hold values from -2 to 0"),
    "not a number": (lambda a: np.where(a > 0, np.nan, 0), "fractions or NaN"),
    "too large": (lambda a: a.astype(np.int32) * 50_000, "must lie in 0..65535"),
    "one voxel thin": (one_voxel, "no annotated slice was found"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels(save_nifti: Callable[..., Path], image: Path, labels_ijk: Any, kind: str) -> None:
    change, gist = BAD_LABELS[kind]
    with pytest.raises(InputError, match=gist) as error:
        io.load_case(image, save_nifti("bad.nii.gz", change(labels_ijk)))
    assert "\n" not in str(error.value)


def test_bad_labels_among_several_name_the_file(
    save_nifti: Callable[..., Path], image: Path, labels: Path, labels_ijk: Any
) -> None:
    with pytest.raises(InputError, match=r"scan \(bad\.nii\.gz\): the labels hold fractions"):
        io.load_case(image, [labels, save_nifti("bad.nii.gz", labels_ijk + 0.5)])


def test_whole_numbers_stored_as_float_are_fine(save_nifti: Callable[..., Path], image: Path, labels_ijk: Any) -> None:
    assert io.load_case(image, save_nifti("float.nii.gz", labels_ijk.astype(np.float32)), [(0, 4)]).is_labelled


@pytest.mark.parametrize(
    ("affine", "gist"),
    [
        (np.diag([1.0, 1.0, 2.0, 1.0]), r"voxel size \(x, y, z\) \(1, 1, 2\) mm against \(1, 1, 1\) mm"),
        (np.diag([-1.0, 1.0, 1.0, 1.0]), r"orientation \[\(-1, 0, 0\), .* against \[\(1, 0, 0\)"),
        (np.eye(4) + np.eye(4, k=3) * 5, r"first voxel at \(5, 0, 0\) mm against \(0, 0, 0\) mm"),
    ],
)
def test_different_affines_are_refused_with_the_difference(
    save_nifti: Callable[..., Path], image: Path, labels_ijk: Any, affine: Any, gist: str
) -> None:
    with pytest.raises(InputError, match=gist) as error:
        io.load_case(image, save_nifti("moved.nii.gz", labels_ijk, affine))
    assert "resample one onto the other" in str(error.value)


def test_rounding_of_an_affine_is_no_difference(save_nifti: Callable[..., Path], image: Path, labels_ijk: Any) -> None:
    assert io.load_case(image, save_nifti("near.nii.gz", labels_ijk, np.eye(4) + 1e-4)).is_labelled


def test_tiny_voxels_of_another_size_are_told(tmp_path: Path, labels_ijk: Any) -> None:
    """Of a microscope's volume every difference is smaller than a hundredth of a millimetre."""
    scan = np.arange(504, dtype=np.float32).reshape(9, 8, 7)
    for name, size in (("scan", 1e-4), ("labels", 1.5e-4)):
        io.write_volume(tmp_path / f"{name}.tif", scan, Grid.from_spacing(scan.shape, (size,) * 3))
    with pytest.raises(InputError, match=r"voxel size \(x, y, z\) \(0.00015, 0.00015, 0.00015\) mm against \(0.0001"):
        io.load_case(tmp_path / "scan.tif", tmp_path / "labels.tif")


def test_tiff_labels_without_a_voxel_size_lie_on_their_image(tmp_path: Path, labels_ijk: Any) -> None:
    tifffile.imwrite(
        tmp_path / "scan.tif",
        np.arange(504, dtype=np.uint16).reshape(9, 8, 7),
        imagej=True,
        resolution=(2.0, 2.0),
        metadata={"axes": "ZYX", "unit": "mm", "spacing": 3.0},
    )
    tifffile.imwrite(tmp_path / "labels.tif", labels_ijk, photometric="minisblack")
    case = io.load_case(tmp_path / "scan.tif", tmp_path / "labels.tif")
    assert case.grid.spacing == (3.0, 0.5, 0.5)
    other = {"axes": "ZYX", "unit": "mm", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "other.tif", labels_ijk, imagej=True, resolution=(2.0, 2.0), metadata=other)
    with pytest.raises(InputError, match=r"voxel size \(x, y, z\) \(0.5, 0.5, 2\) mm against \(0.5, 0.5, 3\) mm"):
        io.load_case(tmp_path / "scan.tif", tmp_path / "other.tif")


def test_labels_without_a_voxel_size_on_an_image_with_one_are_told_so(
    save_nifti: Callable[..., Path], tmp_path: Path, image_ijk: Any, labels_ijk: Any
) -> None:
    labels_zyx = np.ascontiguousarray(labels_ijk.T)
    tifffile.imwrite(tmp_path / "labels.tif", labels_zyx, photometric="minisblack")
    told = r"labels.tif does not say how large its voxels are, .* lies; save it as NIfTI with the geometry of that file"
    straight = save_nifti("straight.nii.gz", image_ijk, np.diag([0.5, 0.5, 2.0, 1.0]))
    with pytest.raises(InputError, match=told + r", or enter its voxel size there: \(x, y, z\) \(0.5, 0.5, 2\) mm\."):
        io.load_case(straight, tmp_path / "labels.tif")
    moved = save_nifti("moved.nii.gz", image_ijk, np.eye(4) + np.eye(4, k=3) * 5)
    with pytest.raises(InputError, match=told + r"\."):
        io.load_case(moved, tmp_path / "labels.tif")
    with pytest.raises(InputError, match=r"labels\.tif does not say how large"):
        io.load_case(tmp_path / "labels.tif", moved)


def test_slices_without_labels(image: Path) -> None:
    with pytest.raises(InputError, match="there is no label file"):
        io.load_case(image, None, [(0, 1)])


def test_nan_is_refused_or_replaced(save_nifti: Callable[..., Path], image_ijk: Any, labels: Path) -> None:
    broken = image_ijk.astype(np.float32)
    broken[0, 0, 0] = np.nan
    path = save_nifti("nan.nii.gz", broken)
    with pytest.raises(InputError, match=r"NaN or infinite in 1 of \d+ voxels; set data\.non_finite to replace"):
        io.load_case(path)
    assert np.isfinite(io.load_case(path, labels, non_finite="replace").image).all()


@pytest.mark.parametrize(
    ("name", "gist"),
    [
        ("missing.nii.gz", "missing.nii.gz does not exist; check the spelling"),
        ("", "is a folder; name an image file"),
        ("scan.png", "is neither NIfTI .* nor TIFF"),
    ],
)
def test_bad_paths(tmp_path: Path, name: str, gist: str) -> None:
    (tmp_path / "scan.png").write_bytes(b"png")
    with pytest.raises(InputError, match=gist):
        io.load_case(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif"])
@pytest.mark.parametrize("where", ["while it is read", "afterwards"])
def test_an_image_without_room_for_it_is_not_called_damaged(
    image: Path, tmp_path: Path, image_ijk: Any, monkeypatch: pytest.MonkeyPatch, suffix: str, where: str
) -> None:
    def short(*args: object, **options: object) -> None:
        raise MemoryError

    if suffix == ".tif":
        image = tmp_path / "scan.tif"
        tifffile.imwrite(image, image_ijk.T, photometric="minisblack")
    if where == "afterwards":
        monkeypatch.setattr("napari_rada.io.cases.Case.create", short)
    elif suffix == ".tif":
        monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", short)
    else:
        monkeypatch.setattr("napari_rada.io.nifti._voxels", short)
    with pytest.raises(NotEnoughMemoryError, match="Memory ran out"):
        io.load_case(image)
