from __future__ import annotations

import tracemalloc
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_rada import io
from napari_rada.data.grid import Grid
from napari_rada.errors import InputError
from napari_rada.events import Notice
from napari_rada.io import read_volume, write_volume
from napari_rada.io.tiff import open_tiff

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STACK = np.random.default_rng(5).integers(0, 4000, (5, 6, 7)).astype(np.uint16)


def tags(path: Path) -> dict[str, Any]:
    with tifffile.TiffFile(path) as tif:
        found = tif.pages.first.tags
        return {name: found[name].value for name in ("XResolution", "YResolution", "ResolutionUnit")}


def imagej_metadata(path: Path) -> dict[str, Any]:
    with tifffile.TiffFile(path) as tif:
        assert tif.imagej_metadata is not None
        return dict(tif.imagej_metadata)


@pytest.mark.parametrize(
    ("unit", "spacing_zyx"),
    [
        ("mm", (3.0, 0.5, 0.25)),
        ("um", (0.003, 0.0005, 0.00025)),
        ("micron", (0.003, 0.0005, 0.00025)),
        (r"\u00B5m", (0.003, 0.0005, 0.00025)),
        ("nm", (3e-6, 0.5e-6, 0.25e-6)),
        ("pm", (3e-9, 0.5e-9, 0.25e-9)),
        (r"\u00C5", (3e-7, 0.5e-7, 0.25e-7)),
        ("cm", (30.0, 5.0, 2.5)),
        ("inch", (76.2, 12.7, 6.35)),
    ],
)
def test_imagej_stack_and_its_mask(
    tmp_path: Path, prediction_for: Any, unit: str, spacing_zyx: tuple[float, ...]
) -> None:
    path, out = tmp_path / "stack.tif", tmp_path / "mask.tif"
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 3.0, "xorigin": 4.0, "min": 0.0, "max": 900.0}
    tifffile.imwrite(path, STACK, imagej=True, resolution=((4, 1), (2, 1)), resolutionunit=1, metadata=metadata)

    volume = io.read_volume(path)
    np.testing.assert_array_equal(volume.array, STACK)
    np.testing.assert_allclose(volume.grid.spacing, spacing_zyx)
    assert volume.calibrated
    assert volume.notes == ()
    assert volume.file_shape == (5, 6, 7)

    io.save_mask(prediction_for(io.load_case(path), (STACK > 2000).astype(np.uint8)), out)
    np.testing.assert_array_equal(tifffile.imread(out), STACK > 2000)
    assert tags(out) == tags(path)
    source, mask = imagej_metadata(path), imagej_metadata(out)
    assert {key: mask.get(key) for key in ("unit", "spacing", "xorigin")} == {
        key: source[key] for key in ("unit", "spacing", "xorigin")
    }
    assert "max" not in mask
    assert mask["slices"] == 5


@pytest.mark.parametrize("unit", ["µm".encode(), "µm".encode("latin-1"), "μm".encode(), rb"\u00B5m"])
def test_a_micro_sign_comes_back_however_it_was_written(tmp_path: Path, unit: bytes) -> None:
    path, out = tmp_path / "stack.tif", tmp_path / "mask.tif"
    text = b"ImageJ=1.53t\nimages=5\nslices=5\nunit=" + unit + b"\nspacing=3.0\n"
    with tifffile.TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, contiguous=False, metadata=None, description=text, resolution=(4, 2), resolutionunit=1)
            text = b""
    volume = io.read_volume(path)
    np.testing.assert_allclose(volume.grid.spacing, (0.003, 0.0005, 0.00025))
    io.write_volume(out, (STACK > 9).astype(np.uint8), volume.grid, path)
    assert imagej_metadata(out)["unit"] in (r"\u00B5m", r"\u03BCm")
    assert io.read_volume(out).grid.matches(volume.grid, 1e-9)


def test_what_a_format_cannot_hold_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr("napari_rada.io.formats.write_tiff", refuse)
    with pytest.raises(InputError, match=r"a.tif cannot be written \(no such thing\); choose another format"):
        io.write_volume(tmp_path / "a.tif", STACK, Grid.from_spacing(STACK.shape))


def test_exact_fractions_of_the_resolution_come_back(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path, STACK, imagej=True, resolution=((1234567, 98765), (7, 3)), metadata={"axes": "ZYX", "unit": "mm"}
    )
    volume = io.read_volume(path)
    io.write_volume(tmp_path / "mask.tif", (STACK > 9).astype(np.uint8), volume.grid, path)
    assert tags(tmp_path / "mask.tif") == tags(path)
    np.testing.assert_allclose(volume.grid.spacing, (3 / 7, 3 / 7, 98765 / 1234567))
    assert "no distance between its slices" in volume.notes[0]


@pytest.mark.parametrize(("resolution_unit", "mm"), [(2, 25.4), (3, 10.0)])
def test_plain_resolution_tags(tmp_path: Path, resolution_unit: int, mm: float) -> None:
    path, out = tmp_path / "stack.tif", tmp_path / "mask.tif"
    tifffile.imwrite(
        path, STACK, photometric="minisblack", resolution=((100, 1), (50, 1)), resolutionunit=resolution_unit
    )
    volume = io.read_volume(path)
    np.testing.assert_allclose(volume.grid.spacing, (mm / 50, mm / 50, mm / 100))
    assert "no distance between its slices" in volume.notes[0]
    io.write_volume(out, (STACK > 9).astype(np.uint8), volume.grid, path)
    assert tags(out) == tags(path)
    np.testing.assert_array_equal(tifffile.imread(out), STACK > 9)
    assert io.read_volume(out).grid.matches(volume.grid)


def test_ome_voxel_size_comes_back(tmp_path: Path) -> None:
    path, out = tmp_path / "stack.ome.tif", tmp_path / "mask.tif"
    sizes = {
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 500.0,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 0.002,
        "PhysicalSizeZUnit": "mm",
    }
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX", **sizes})
    volume = io.read_volume(path)
    np.testing.assert_allclose(volume.grid.spacing, (0.002, 0.0005, 0.00025))
    io.write_volume(out, (STACK > 9).astype(np.uint8), volume.grid, path)
    with tifffile.TiffFile(out) as tif:
        assert tif.is_ome
    assert io.read_volume(out).grid.matches(volume.grid, 1e-9)


def test_imagej_axes_have_units_of_their_own(tmp_path: Path) -> None:
    path, out = tmp_path / "stack.tif", tmp_path / "mask.tif"
    metadata = {"axes": "ZYX", "unit": "micron", "yunit": "nm", "zunit": "mm", "spacing": 0.005}
    tifffile.imwrite(path, STACK, imagej=True, resolution=((2, 1), (1, 500)), resolutionunit=1, metadata=metadata)
    volume = io.read_volume(path)
    np.testing.assert_allclose(volume.grid.spacing, (0.005, 0.0005, 0.0005))
    for dtype in (np.uint8, np.int32):
        io.write_volume(out, (STACK * 9).astype(dtype), volume.grid, path)
        assert io.read_volume(out).grid.matches(volume.grid, 1e-9)


def test_angstroms_of_ome_are_known_and_other_units_are_named(tmp_path: Path) -> None:
    sizes = {f"PhysicalSize{axis}": 5.0 for axis in "XYZ"}
    for unit, spacing in (("Å", 5e-7), ("pixel", 1.0)):
        units = {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
        tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, metadata={"axes": "ZYX", **sizes, **units})
        volume = io.read_volume(tmp_path / "a.tif")
        np.testing.assert_allclose(volume.grid.spacing, [spacing] * 3)
    assert volume.notes == ("a.tif gives its sizes in 'pixel', which is no known unit of length; 1 mm was taken.",)
    metadata = {"axes": "ZYX", "unit": "pixel", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "b.tif", STACK, imagej=True, metadata=metadata)
    assert (
        "gives its sizes in 'pixel', which is no known unit of length; one"
        in io.read_volume(tmp_path / "b.tif").notes[0]
    )


@pytest.mark.parametrize("tile", [None, (16, 16, 16)])
def test_volumetric_pages_are_not_read_in_parts(tmp_path: Path, tile: tuple[int, ...] | None) -> None:
    path, values = tmp_path / "a.tif", np.arange(20 * 24 * 28, dtype=np.uint16).reshape(20, 24, 28)
    tifffile.imwrite(path, values, tile=tile, volumetric=True, compression="zlib", photometric="minisblack")
    np.testing.assert_array_equal(io.read_volume(path).array, values)
    with pytest.raises(InputError, match=r"several slices in one page \(volumetric TIFF\), which cannot"):
        open_tiff(path)


@pytest.mark.parametrize("imagej", [True, False])
def test_without_calibration_one_millimetre_is_taken_and_told(tmp_path: Path, imagej: bool) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, imagej=imagej, photometric="minisblack", metadata={"axes": "ZYX"} if imagej else {})
    heard: list[Any] = []
    case = io.load_case(path, listener=heard.append)
    assert case.grid.spacing == (1.0, 1.0, 1.0)
    assert case.name == "stack"
    assert len(heard) == 1
    assert isinstance(heard[0], Notice)
    assert "1 mm" in heard[0].message


def test_without_a_source_the_grid_is_written(tmp_path: Path) -> None:
    for spacing in ((2.5, 0.7, 0.3), (3e-4, 2e-4, 1e-4), (1.0, 1.0, 1.0)):
        grid = Grid.from_spacing((5, 6, 7), spacing)
        io.write_volume(tmp_path / "stack.tif", STACK, grid)
        volume = io.read_volume(tmp_path / "stack.tif")
        np.testing.assert_allclose(volume.grid.spacing, spacing, rtol=1e-8)
        np.testing.assert_array_equal(volume.array, STACK)


@pytest.mark.parametrize("shape", [(5, 6, 3), (5, 6, 4), (3, 6, 7), (2, 2, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16])
def test_narrow_stacks_are_not_taken_for_colours(tmp_path: Path, shape: tuple[int, int, int], dtype: Any) -> None:
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    io.write_volume(tmp_path / "stack.tif", data, Grid.from_spacing(shape))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "stack.tif").array, data)


def test_several_maps_become_channels(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 5, 6, 7), dtype=np.float32)
    io.write_volume(tmp_path / "maps.tif", maps, Grid.from_spacing((5, 6, 7)))
    with tifffile.TiffFile(tmp_path / "maps.tif") as tif:
        assert tif.series[0].axes == "ZCYX"
        np.testing.assert_array_equal(tif.series[0].asarray(), maps.swapaxes(0, 1))


@pytest.mark.parametrize("dtype", [">u2", "<i2", "<f4", ">f4", "u1", "<u4"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_real_dtype_and_byte_order(tmp_path: Path, dtype: str, compression: str | None) -> None:
    data = STACK.astype(dtype)
    with tifffile.TiffWriter(tmp_path / "stack.tif", byteorder=">" if dtype.startswith(">") else "<") as writer:
        writer.write(data, photometric="minisblack", compression=compression)
    volume = io.read_volume(tmp_path / "stack.tif")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, data)


def test_pages_without_any_metadata(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "stack.tif") as writer:
        for page in STACK:
            writer.write(page, metadata=None, contiguous=False)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "stack.tif").array, STACK)


def test_a_box_of_packed_pages_keeps_no_whole_page(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((30, 512, 512), "u1"), compression="zlib", photometric="minisblack")
    voxels = open_tiff(path)[0]
    tracemalloc.start()
    part = voxels[slice(0, 30), slice(0, 8), slice(0, 8)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.shape == (30, 8, 8)
    assert peak < 8 * 512 * 512, "of 30 pages"


def write_pages_of_two_sizes(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK, metadata=None)
        writer.write(STACK[0, :3], metadata=None)


OTHER_IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "2D": (lambda p: tifffile.imwrite(p, STACK[0]), r"has 2 dimensions \(6, 7\)"),
    "colour": (lambda p: tifffile.imwrite(p, np.zeros((6, 7, 3), "u1"), photometric="rgb"), "colours.*one channel"),
    "colour stack": (
        lambda p: tifffile.imwrite(p, np.zeros((5, 6, 7, 3), "u1"), photometric="rgb"),
        "holds colours",
    ),
    "channels": (
        lambda p: tifffile.imwrite(p, np.zeros((5, 2, 6, 7), "u1"), imagej=True, metadata={"axes": "ZCYX"}),
        "holds channels.*one channel",
    ),
    "time": (
        lambda p: tifffile.imwrite(p, np.zeros((5, 6, 7), "u1"), imagej=True, metadata={"axes": "TYX"}),
        "holds time points.*if these are slices, name the axis Z",
    ),
    "two sizes": (write_pages_of_two_sizes, "holds 2 images of different kinds"),
}


@pytest.mark.parametrize("kind", OTHER_IMAGES)
def test_other_images_are_refused_with_the_remedy(tmp_path: Path, kind: str) -> None:
    write, gist = OTHER_IMAGES[kind]
    write(tmp_path / "image.tif")
    with pytest.raises(InputError, match=gist):
        io.read_volume(tmp_path / "image.tif")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7])
@pytest.mark.parametrize("kind", ["imagej", "plain", "zlib", "pages"])
def test_damage_is_one_clear_sentence(
    tmp_path: Path, kind: str, kept: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stack.tif"
    stack = np.random.default_rng(1).integers(0, 255, (10, 40, 40)).astype(np.uint8)
    if kind == "pages":
        with tifffile.TiffWriter(path) as writer:
            for page in stack:
                writer.write(page, metadata=None, contiguous=False)
    else:
        compression = "zlib" if kind == "zlib" else None
        metadata = {"axes": "ZYX"}
        tifffile.imwrite(path, stack, imagej=kind == "imagej", compression=compression, metadata=metadata)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="cannot be read as TIFF, it is damaged") as error:
        io.read_volume(path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_text_is_not_a_tiff(tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_text("hello")
    with pytest.raises(InputError, match=r"cannot be read as TIFF.*not a TIFF file"):
        io.read_volume(tmp_path / "stack.tif")


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("bool", "uint8"),
        ("int8", "uint8"),
        ("int16", "uint8"),
        ("int64", "uint8"),
        ("uint16", "uint16"),
        ("uint32", "uint32"),
        ("int32", "int16"),
        ("float16", "float32"),
        ("float64", "float32"),
    ],
)
def test_every_dtype_keeps_its_voxel_size(tmp_path: Path, dtype: str, stored: str) -> None:
    values = np.zeros((3, 4, 5), dtype=dtype)
    values[1, 2, 3] = {"uint32": 2**30, "int32": -300}.get(dtype, 1)
    write_volume(tmp_path / "a.tif", values, Grid.from_spacing((3, 4, 5), (2.0, 0.6, 0.5)))
    found = read_volume(tmp_path / "a.tif")
    assert found.array.dtype == stored
    np.testing.assert_array_equal(found.array, values)
    assert found.grid.spacing == pytest.approx((2.0, 0.6, 0.5))
    assert found.notes == ()


def test_what_no_metadata_can_describe_is_written_plainly(tmp_path: Path) -> None:
    values = np.full((2, 3, 4), 2**40, dtype=np.uint64)
    write_volume(tmp_path / "a.tif", values, Grid.from_spacing((2, 3, 4)))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, values)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is installed, which reads such files")
def test_a_package_that_is_needed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "packed.tif"
    tifffile.imwrite(path, np.ones((3, 4, 5), np.uint8), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tif:
        places = [page.tags["Compression"].valueoffset for page in tif.pages]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place : place + 2] = (5).to_bytes(2, "little")  # LZW
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"packed in a way that needs another package; .*: pip install imagecodecs"):
        io.read_volume(path)
