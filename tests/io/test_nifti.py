"""Masks must lie exactly where the image lies: everything is checked against nibabel, not against our own reader."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_rada import io
from napari_rada.data.case import Case
from napari_rada.data.grid import Grid
from napari_rada.errors import InputError
from napari_rada.io.export import export_volume
from napari_rada.io.lazy import open_lazy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

ANGLE = np.deg2rad(17.0)
OBLIQUE = np.array(
    [
        [0.9 * np.cos(ANGLE), -1.1 * np.sin(ANGLE), 0.0, -31.4],
        [0.9 * np.sin(ANGLE), 1.1 * np.cos(ANGLE), 0.0, 27.1],
        [0.0, 0.0, 3.3, -5.9],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
SHEARED = OBLIQUE + np.array([[0, 0, 0.4, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
NEGATIVE = np.diag([-1.25, 1.25, -7.7, 1.0])


def make(data: NDArray[Any], affine: Any, qcode: int, scode: int, cls: Any = nib.Nifti1Image) -> Any:
    image = cls(data, None)
    if qcode:
        image.set_qform(affine, code=qcode)
    if scode:
        image.set_sform(affine, code=scode)
    image.header["qform_code"], image.header["sform_code"] = qcode, scode
    return cls(data, None, image.header) if not (qcode or scode) else image


GEOMETRIES = {
    "oblique, both": (OBLIQUE, 1, 2),
    "sheared, sform only": (SHEARED, 0, 2),
    "negative diagonal, sform only": (NEGATIVE, 0, 1),
    "oblique, qform only": (OBLIQUE, 3, 0),
    "negative, both, templates": (NEGATIVE, 4, 4),
    "neither": (NEGATIVE, 0, 0),
}


@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_mask_gets_the_geometry_of_its_image(
    prediction_for: Any, tmp_path: Path, image_ijk: Any, labels_ijk: Any, geometry: str, suffix: str, cls: Any
) -> None:
    image = make(image_ijk, *GEOMETRIES[geometry], cls)
    image.header["pixdim"][4] = 2.5
    image.header.set_xyzt_units("mm", "sec")
    path, out = tmp_path / f"scan{suffix}", tmp_path / f"mask{suffix}"
    nib.save(image, path)

    io.save_mask(prediction_for(io.load_case(path), labels_ijk.T), out)

    source, mask = nib.load(path), nib.load(out)
    assert type(mask) is cls
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), labels_ijk)
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == source.shape
    np.testing.assert_array_equal(mask.affine, source.affine)
    for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim"):
        np.testing.assert_array_equal(mask.header[field], source.header[field], err_msg=field)
    assert mask.header.get_xyzt_units() == source.header.get_xyzt_units()


def test_qform_and_sform_that_differ_both_come_back(
    prediction_for: Any, tmp_path: Path, image_ijk: Any, labels_ijk: Any
) -> None:
    image = nib.Nifti1Image(image_ijk, None)
    image.set_qform(OBLIQUE, code=1)
    image.set_sform(NEGATIVE, code=3)
    nib.save(image, tmp_path / "scan.nii.gz")
    io.save_mask(prediction_for(io.load_case(tmp_path / "scan.nii.gz"), labels_ijk.T), tmp_path / "mask.nii.gz")
    source, mask = nib.load(tmp_path / "scan.nii.gz"), nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.get_qform(), source.get_qform())
    np.testing.assert_array_equal(mask.get_sform(), source.get_sform())
    assert (mask.header["qform_code"], mask.header["sform_code"]) == (1, 3)


def test_axes_and_grid(save_nifti: Callable[..., Path], image_ijk: Any) -> None:
    volume = io.read_volume(save_nifti("scan.nii.gz", image_ijk, OBLIQUE))
    assert volume.grid.shape == (7, 8, 9)
    assert volume.file_shape == (9, 8, 7)
    assert volume.array[6, 2, 4] == image_ijk[4, 2, 6]
    np.testing.assert_allclose(volume.grid.spacing, (3.3, 1.1, 0.9), rtol=1e-6)
    np.testing.assert_allclose(volume.grid.affine @ (6, 2, 4, 1), OBLIQUE @ (4, 2, 6, 1), rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 0.001), ("meter", 1000.0), ("mm", 1.0), ("unknown", 1.0)])
def test_grid_is_in_millimetres_whatever_the_unit(tmp_path: Path, image_ijk: Any, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(image_ijk, np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "scan.nii")
    volume = io.read_volume(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.grid.spacing, np.array([4.0, 3.0, 2.0]) * factor)
    io.write_volume(tmp_path / "mask.nii", np.zeros((7, 8, 9), np.uint8), volume.grid, tmp_path / "scan.nii")
    mask = nib.load(tmp_path / "mask.nii")
    assert mask.header.get_xyzt_units()[0] == unit
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_the_origin_is_in_the_unit_of_the_header_too(tmp_path: Path, image_ijk: Any) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (100.0, 200.0, 300.0)
    image = nib.Nifti1Image(image_ijk, affine)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "scan.nii")
    np.testing.assert_allclose(io.read_volume(tmp_path / "scan.nii").grid.affine[:3, 3], (0.1, 0.2, 0.3))


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", ">u2", "<i4", ">f4", "<f8"])
def test_every_real_dtype_and_byte_order(tmp_path: Path, dtype: str) -> None:
    data = np.arange(60, dtype=dtype).reshape(3, 4, 5)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    nib.save(nib.Nifti1Image(data, np.eye(4), header), tmp_path / "scan.nii.gz")
    volume = io.read_volume(tmp_path / "scan.nii.gz")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, data.T)
    io.write_volume(tmp_path / "mask.nii.gz", (volume.array > 9).astype(np.uint16), volume.grid, volume.path)
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "mask.nii.gz").dataobj), data > 9)


def test_scaled_values_are_scaled_and_the_mask_is_not(tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(data, np.eye(4))
    image.header.set_slope_inter(0.5, -1024.0)
    nib.save(image, tmp_path / "scan.nii.gz")
    stored = nib.load(tmp_path / "scan.nii.gz")
    assert stored.dataobj.slope == 0.5
    volume = io.read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(volume.array, np.asanyarray(stored.dataobj).T)
    mask = np.full((5, 4, 3), 7, np.uint8)
    io.write_volume(tmp_path / "mask.nii.gz", mask, volume.grid, volume.path)
    written = nib.load(tmp_path / "mask.nii.gz")
    assert (written.dataobj.slope, written.dataobj.inter) == (1.0, 0.0)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), mask.T)


def test_mask_does_not_inherit_what_describes_the_image(tmp_path: Path, image_ijk: Any) -> None:
    image = nib.Nifti1Image(image_ijk, np.eye(4))
    image.header["descrip"], image.header["cal_max"] = b"patient 0815", 400
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"patient 0815"))
    nib.save(image, tmp_path / "scan.nii")
    volume = io.read_volume(tmp_path / "scan.nii")
    io.write_volume(tmp_path / "mask.nii", np.ones((7, 8, 9), np.uint8), volume.grid, volume.path)
    assert b"0815" not in (tmp_path / "mask.nii").read_bytes()
    assert nib.load(tmp_path / "mask.nii").header["cal_max"] == 0


@pytest.mark.parametrize("like", [True, False], ids=["as the image lies", "from its grid"])
def test_a_header_says_that_the_values_are_labels(
    save_nifti: Callable[..., Path], tmp_path: Path, image_ijk: Any, like: bool
) -> None:
    scan, copy, image = io.read_volume(save_nifti("scan.nii", image_ijk)), tmp_path / "copy.nii", tmp_path / "image.nii"
    path = tmp_path / "structure.nii.gz"
    mask = (scan.array > 9).astype(np.uint8)
    io.write_volume(path, mask, scan.grid, scan.path if like else None, labels=True)
    assert nib.load(path).header.get_intent()[0] == "label"
    export_volume(path, copy)
    io.write_volume(image, scan.array, scan.grid, path)
    found = [io.read_volume(file).labels for file in (path, copy, scan.path, image)]
    assert found == [True, True, False, False]


def test_fourth_axis_of_length_one_is_dropped_and_comes_back(save_nifti: Callable[..., Path], tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1)
    volume = io.read_volume(save_nifti("scan.nii.gz", data))
    assert volume.array.shape == (5, 4, 3)
    np.testing.assert_array_equal(volume.array, data[..., 0].T)
    io.write_volume(tmp_path / "mask.nii.gz", (volume.array > 9).astype(np.uint8), volume.grid, volume.path)
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert mask.shape == (3, 4, 5, 1)
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), data > 9)


def test_without_a_source_the_grid_is_written(tmp_path: Path) -> None:
    grid = Grid((5, 4, 3), OBLIQUE[:, [2, 1, 0, 3]])
    data = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    io.write_volume(tmp_path / "scan.nii.gz", data, grid)
    written = nib.load(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(written.affine, OBLIQUE, rtol=1e-6)
    np.testing.assert_allclose(written.get_qform(), OBLIQUE, atol=1e-5)
    assert written.header.get_xyzt_units()[0] == "mm"
    assert io.read_volume(tmp_path / "scan.nii.gz").grid.matches(grid)
    np.testing.assert_array_equal(written.get_fdata(), data.T)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_labels_that_need_eight_bytes_are_written(tmp_path: Path, dtype: str) -> None:
    labels = np.zeros((5, 4, 3), dtype=dtype)
    labels[2, 1:3] = 5_000_000_000
    io.write_volume(tmp_path / "labels.nii.gz", labels, Grid.from_spacing((5, 4, 3)))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "labels.nii.gz").array, labels)


def test_shape_that_does_not_fit(tmp_path: Path, save_nifti: Callable[..., Path], image_ijk: Any) -> None:
    grid = Grid.from_spacing((5, 4, 3))
    with pytest.raises(InputError, match=r"shape \(5, 4, 4\) but its geometry is for \(5, 4, 3\)"):
        io.write_volume(tmp_path / "mask.nii", np.zeros((5, 4, 4), np.uint8), grid)
    with pytest.raises(InputError, match="has it been changed"):
        io.write_volume(tmp_path / "mask.nii", np.zeros((5, 4, 3), np.uint8), grid, save_nifti("scan.nii", image_ijk))


def test_several_maps_go_into_the_fourth_axis(
    prediction_for: Any, tmp_path: Path, save_nifti: Callable[..., Path], labels_ijk: Any
) -> None:
    case = io.load_case(save_nifti("scan.nii.gz", np.arange(504, dtype=np.int16).reshape(9, 8, 7), OBLIQUE))
    io.save_probability(prediction_for(case, labels_ijk.T), tmp_path / "probability.nii.gz")
    written = nib.load(tmp_path / "probability.nii.gz")
    assert written.shape == (9, 8, 7, 2)
    assert written.get_data_dtype() == np.float32
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    np.testing.assert_array_equal(written.get_fdata()[..., 1], labels_ijk == 2)


def test_one_foreground_class_gives_one_map(
    prediction_for: Any, tmp_path: Path, save_nifti: Callable[..., Path], labels_ijk: Any
) -> None:
    case = io.load_case(save_nifti("scan.nii.gz", np.arange(504, dtype=np.int16).reshape(9, 8, 7)))
    prediction = prediction_for(case, (labels_ijk.T > 0).astype(np.uint8))
    io.save_probability(prediction, tmp_path / "probability.nii.gz")
    io.save_disagreement(prediction, tmp_path / "disagreement.nii.gz")
    np.testing.assert_array_equal(nib.load(tmp_path / "probability.nii.gz").get_fdata(), labels_ijk > 0)
    np.testing.assert_array_equal(nib.load(tmp_path / "disagreement.nii.gz").get_fdata(), np.full((9, 8, 7), 0.25))


@pytest.mark.parametrize(
    ("data", "gist"),
    [
        (np.zeros((4, 5), np.int16), r"has 2 dimensions \(4, 5\).*stack the slices"),
        (np.zeros((4, 5, 6, 7), np.int16), r"has 4 dimensions \(4, 5, 6, 7\).*save one time point"),
        (np.zeros((4, 5, 6, 1, 3), np.int16), "has 5 dimensions"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour.*grey values"),
        (np.zeros((4, 5, 6), np.complex64), "complex.*magnitude"),
    ],
)
def test_other_images_are_refused_with_the_remedy(save_nifti: Callable[..., Path], data: Any, gist: str) -> None:
    with pytest.raises(InputError, match=gist):
        io.read_volume(save_nifti("scan.nii.gz", data))


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.98])
def test_truncated_gzip(save_nifti: Callable[..., Path], image_ijk: Any, kept: float) -> None:
    path = save_nifti("scan.nii.gz", image_ijk)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=r"scan\.nii\.gz cannot be read as NIfTI, it is damaged or truncated") as error:
        io.read_volume(path)
    assert "\n" not in str(error.value)


def test_damage_is_one_clear_sentence(
    tmp_path: Path, save_nifti: Callable[..., Path], image_ijk: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = save_nifti("whole.nii", image_ijk).read_bytes()
    contents = {
        "text.nii.gz": b"hello",
        "text.nii": b"hello " * 100,
        "short.nii": whole[:600],
        "unzipped.nii.gz": whole,
        "zipped.nii": gzip.compress(whole),
        "type.nii": whole[:70] + b"\x63\x63" + whole[72:],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as NIfTI") as error:
            io.read_volume(tmp_path / name)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_flat_affine_names_the_file(tmp_path: Path, image_ijk: Any) -> None:
    image = nib.Nifti1Image(image_ijk, np.eye(4))
    image.header["srow_z"] = 0
    nib.save(image, tmp_path / "flat.nii")
    content = bytearray((tmp_path / "flat.nii").read_bytes())
    content[312:328] = bytes(16)  # srow_z, which nibabel writes from the affine
    (tmp_path / "flat.nii").write_bytes(content)
    with pytest.raises(InputError, match=r"flat\.nii: .*singular"):
        io.read_volume(tmp_path / "flat.nii")


def test_other_nifti_flavours_are_refused(tmp_path: Path) -> None:
    axis = nib.cifti2.SeriesAxis(0, 1, 3)
    scalars = nib.cifti2.ScalarAxis(["a", "b"])
    nib.save(nib.Cifti2Image(np.zeros((3, 2)), (axis, scalars)), tmp_path / "brain.nii")
    with pytest.raises(InputError, match="Cifti2Image"):
        io.read_volume(tmp_path / "brain.nii")


def test_real_scans(prediction_for: Any, shared_data: Path, tmp_path: Path) -> None:
    for name in ("btcv/case_00_ct.nii.gz", "hippocampus/hippocampus_001_mr.nii.gz"):
        case = io.load_case(shared_data / name)
        assert isinstance(case, Case)
        mask = (case.image > case.image.mean()).astype(np.uint8)
        io.save_mask(prediction_for(case, mask), tmp_path / "mask.nii.gz")
        source, written = nib.load(shared_data / name), nib.load(tmp_path / "mask.nii.gz")
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.header["sform_code"] == source.header["sform_code"]
        assert written.header["qform_code"] == source.header["qform_code"]
        np.testing.assert_array_equal(np.asanyarray(written.dataobj).T, mask)


def test_an_axis_too_long_for_nifti_1_is_written_as_nifti_2(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 40000), dtype=np.uint8)
    values[0, 1, 39999] = 1
    io.write_volume(tmp_path / "long.nii.gz", values, Grid.from_spacing(values.shape))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "long.nii.gz").array, values)


@pytest.mark.parametrize(("sform", "told"), [(0, True), (2, False)])
def test_a_missing_voxel_size_is_told(tmp_path: Path, image_ijk: Any, sform: int, told: bool) -> None:
    image = make(image_ijk, np.eye(4), 0, sform)
    image.header["pixdim"][1:4] = 0
    for name in ("scan.nii", "scan.nii.gz"):
        write_raw(tmp_path / name, image)
        volume = io.read_volume(tmp_path / name)
        assert volume.grid.spacing == (1.0, 1.0, 1.0)
        assert volume.calibrated is not told
        assert volume.notes == ((f"{name} gives no voxel size; 1 mm was taken.",) if told else ())
    assert len(open_lazy(tmp_path / "scan.nii").notes) == told


def write_raw(path: Path, image: Any) -> None:
    """Write a file with the header as it is, which nibabel would correct."""
    header = image.header.copy()
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(4) + np.asanyarray(image.dataobj).tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
