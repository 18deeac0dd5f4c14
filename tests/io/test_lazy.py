"""Volumes that are read in parts, and what is refused."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import dask.array
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from tests.zarrs import AXES, write_array, write_ome

from napari_rada import io
from napari_rada.data.grid import Grid
from napari_rada.errors import InputError, MissingDependencyError
from napari_rada.io.lazy import LazyVolume, from_array, open_lazy, placement_of
from napari_rada.io.ngff import MAX_CHUNK, Placement, read_multiscale

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (20, 26, 24)
BOX = ((3, 5, 7), (15, 26, 9))


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)


def part(values: np.ndarray) -> np.ndarray:
    return values[tuple(slice(a, b) for a, b in zip(*BOX, strict=True))]


def sent(volume: LazyVolume) -> LazyVolume:
    """Return a volume as it arrives in another process."""
    found: LazyVolume = pickle.loads(pickle.dumps(volume))  # noqa: S301 - our own
    return found


def test_another_process_opens_the_file_when_it_reads_and_once(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "scan.nii.gz"
    io.write_volume(path, values, Grid.from_spacing(SHAPE))
    volume = open_lazy(path)
    path.rename(tmp_path / "hidden.nii.gz")
    with pytest.raises(InputError, match=r"scan.nii.gz does not exist; check the spelling of the path\.$"):
        sent(volume).read(BOX)
    (tmp_path / "hidden.nii.gz").rename(path)
    np.testing.assert_array_equal(sent(volume).read(BOX), part(values))
    path.unlink()
    np.testing.assert_array_equal(sent(volume).read(BOX), part(values))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_gives_its_voxels_and_their_place(tmp_path: Path, values: np.ndarray, version: str) -> None:
    volume = open_lazy(write_ome(tmp_path / "scan.ome.zarr", values, version=version))
    np.testing.assert_array_equal(volume.read(BOX), part(values))
    assert (volume.name, volume.shape, volume.dtype, volume.chunks) == ("scan", SHAPE, np.uint8, (16, 16, 16))
    assert volume.placement == Placement((2.0, 1.0, 1.0), (3.0, 3.0, 3.0), "micrometer")
    np.testing.assert_allclose(volume.grid.spacing, (0.002, 0.001, 0.001))
    np.testing.assert_allclose(volume.grid.affine[:3, 3], 0.003)
    assert not volume.notes
    again = sent(volume)
    np.testing.assert_array_equal(again.read(BOX), part(values))
    assert (again.name, again.shape, again.dtype, again.chunks) == ("scan", SHAPE, np.uint8, (16, 16, 16))
    np.testing.assert_array_equal(sent(again).read(BOX), part(values))


def test_axes_of_length_one_before_the_volume_are_dropped(tmp_path: Path, values: np.ndarray) -> None:
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *AXES]
    path = write_ome(tmp_path / "a.zarr", values[None, None], axes=axes, scale=(1, 1, 2, 1, 1))
    volume = open_lazy(path)
    assert volume.placement.scale == (2, 1, 1)
    np.testing.assert_array_equal(volume.read(BOX), part(values))


def test_a_bare_array_has_voxels_of_one_millimetre(tmp_path: Path, values: np.ndarray) -> None:
    volume = open_lazy(write_array(tmp_path / "a", values))
    assert volume.grid.spacing == (1, 1, 1)
    assert volume.notes == ("a is a zarr array without voxel size; 1 mm was taken.",)


@pytest.mark.parametrize("slope", [None, 0.5])
def test_nifti_is_read_in_parts_as_it_is_read_whole(tmp_path: Path, values: np.ndarray, slope: float | None) -> None:
    path = tmp_path / "scan.nii"
    image = nib.Nifti1Image(np.ascontiguousarray(values.T), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(slope, 1.0 if slope else None)
    nib.save(image, path)
    volume, whole = open_lazy(path), io.read_volume(path)
    np.testing.assert_array_equal(volume.read(BOX), part(whole.array))
    assert volume.dtype == whole.array.dtype
    assert volume.grid.matches(whole.grid)
    assert volume.placement == Placement((3.0, 2.0, 1.0), (0.0, 0.0, 0.0), "millimeter")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="shorter than its header announces"):
        open_lazy(path)


def test_a_packed_nifti_is_read_whole_and_says_so(tmp_path: Path, values: np.ndarray) -> None:
    io.write_volume(tmp_path / "scan.nii.gz", values, Grid.from_spacing(SHAPE))
    volume = open_lazy(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(volume.read(BOX), part(values))
    assert "unpack it (gunzip)" in volume.notes[0]


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}])
def test_tiff_is_read_in_parts(tmp_path: Path, values: np.ndarray, how: dict[str, Any]) -> None:
    path, numbers = tmp_path / "scan.tif", values.astype(np.uint16)
    tifffile.imwrite(path, numbers, photometric="minisblack", metadata={"axes": "ZYX"}, **how)
    volume = open_lazy(path)
    np.testing.assert_array_equal(volume.read(BOX), part(numbers))
    assert volume.dtype == np.dtype(np.uint16)
    assert volume.grid.matches(io.read_volume(path).grid)


def test_arrays_of_dask_and_zarr_are_taken(tmp_path: Path, values: np.ndarray) -> None:
    stored = zarr.open_array(str(write_array(tmp_path / "a", values)))
    for array, chunks in ((dask.array.from_array(values, chunks=(8, 26, 24)), (8, 26, 24)), (stored, (16, 16, 16))):
        volume = from_array(array, spacing=(3, 2, 1))
        np.testing.assert_array_equal(volume.read(BOX), part(values))
        assert volume.chunks == chunks
        assert volume.grid.spacing == (3, 2, 1)


def test_a_turned_grid_has_no_place_in_ome_zarr() -> None:
    grid = Grid.from_spacing(SHAPE, (3.0, 2.0, 1.0))
    grid.affine[:3, 3] = (5, 6, 7)
    assert placement_of(grid).translation == (7, 6, 5)
    mirrored = Grid(SHAPE, np.diag([-1.0, 1.0, 1.0, 1.0]) @ grid.affine)
    assert placement_of(mirrored) == Placement((3.0, 2.0, 1.0), (0.0, 0.0, 0.0), "millimeter")


def test_blocks_of_voxels_lie_around_their_voxels() -> None:
    placement = Placement((2.0, 1.0, 1.0), (3.0, 0.0, 0.0), "micrometer").coarser((2, 4, 1))
    assert placement == Placement((4.0, 4.0, 1.0), (4.0, 1.5, 0.0), "micrometer")


def metadata(path: Path, **changes: Any) -> None:
    """Change the first image of an OME-Zarr 0.4."""
    content = json.loads((path / ".zattrs").read_text())
    content["multiscales"][0].update(changes)
    (path / ".zattrs").write_text(json.dumps(content))


def array_metadata(path: Path, **changes: Any) -> None:
    content = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(content | changes))


def dataset(name: str) -> list[dict[str, Any]]:
    return [{"path": name, "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}]


def scaled(*scale: float) -> list[dict[str, Any]]:
    return [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}]


SPACE = [{"name": name, "type": "space"} for name in "xyz"]
SECONDS = [{"name": name, "type": "space", "unit": "second"} for name in "zyx"]
MIXED = [
    {"name": name, "type": "space", "unit": unit} for name, unit in zip("zyx", ("meter", "inch", "inch"), strict=True)
]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"datasets": dataset("../other/0")}, "names the array ../other/0, which lies outside"),
        ({"datasets": dataset("/etc")}, "names the array /etc, which lies outside"),
        ({"datasets": dataset("link")}, "names the array link, which lies outside"),
        ({"datasets": dataset("7")}, "the array 7 that its metadata names is not there"),
        ({"datasets": []}, "multiscales metadata is damaged"),
        ({"datasets": "0"}, "multiscales metadata is damaged"),
        ({"datasets": scaled(0, 1, 1)}, "multiscales metadata is damaged"),
        ({"datasets": scaled(1, 1)}, "multiscales metadata is damaged"),
        ({"datasets": scaled(float("nan"), 1, 1)}, "multiscales metadata is damaged"),
        ({"axes": 3}, "multiscales metadata is damaged"),
        ({"axes": SPACE}, "has the axes x y z; a volume whose last three are z y x is needed"),
        ({"axes": SECONDS}, "measures in second; a length"),
        ({"axes": MIXED}, "measures its axes in meter, inch, inch; one unit is needed"),
    ],
)
def test_hostile_image_metadata(tmp_path: Path, values: np.ndarray, changes: dict[str, Any], answer: str) -> None:
    path = write_ome(tmp_path / "scan.ome.zarr", values)
    other = write_array(tmp_path / "other" / "0", values)
    (path / "link").symlink_to(other)
    metadata(path, **changes)
    with pytest.raises(InputError, match=answer):
        open_lazy(path)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"filters": [{"id": "pickle"}]}, "is packed by pickle, which is not read because it may run code"),
        ({"compressor": {"id": "json2"}}, "is packed by json2"),
        ({"chunks": [MAX_CHUNK, 16, 16]}, "too large to be read in parts"),
        ({"dtype": "|O"}, "holds no real numbers"),
        ({"dtype": [["a", "<f4"]]}, "holds no real numbers"),
        ({"dtype": "<c8"}, "holds no real numbers"),
        ({"shape": [-20, 26, 24]}, "is damaged or holds no real numbers"),
        ({"shape": [20, 26]}, "cannot be read as zarr|has 2 axes"),
        ({"chunks": [0, 16, 16]}, "is damaged or holds no real numbers"),
    ],
)
def test_hostile_array_metadata(tmp_path: Path, values: np.ndarray, changes: dict[str, Any], answer: str) -> None:
    path = write_ome(tmp_path / "scan.ome.zarr", values)
    array_metadata(path, **changes)
    with pytest.raises(InputError, match=answer):
        open_lazy(path)


def test_codecs_of_format_3_are_looked_at_inside_shards_too(tmp_path: Path, values: np.ndarray) -> None:
    path = write_ome(tmp_path / "scan.ome.zarr", values, version="0.5")
    described = path / "0" / "zarr.json"
    content = json.loads(described.read_text())
    inner = [{"name": "bytes"}, {"name": "numcodecs.pickle"}]
    shard = {"name": "sharding_indexed", "configuration": {"chunk_shape": [8, 8, 8], "codecs": inner}}
    described.write_text(json.dumps(content | {"codecs": [shard]}))
    with pytest.raises(InputError, match="is packed by pickle"):
        open_lazy(path)


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_are_refused(tmp_path: Path, values: np.ndarray, channels: int) -> None:
    axes = [{"name": "c", "type": "channel"}, *AXES]
    path = write_ome(tmp_path / "a.zarr", np.stack([values] * channels), axes=axes, scale=(1, 2, 1, 1))
    with pytest.raises(InputError, match=r"has 4 axes .*; a single 3D volume is needed: save one channel"):
        open_lazy(path)


def test_what_is_no_zarr_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    answers = {
        "missing.zarr": "does not exist; name the folder of an OME-Zarr",
        "file.zarr": "is no folder",
        "empty.zarr": "holds no zarr",
        "folder": "is a folder but no zarr",
        "group.zarr": "without multiscales metadata, no OME-Zarr image; name what is to be predicted in it, for "
        "example .*0",
        "damaged.zarr": "is damaged or cannot be read",
        "scan.png": "is neither NIfTI",
    }
    (tmp_path / "file.zarr").write_text("")
    for name in ("empty.zarr", "folder", "damaged.zarr"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged.zarr" / "zarr.json").write_text("{")
    (tmp_path / "scan.png").write_text("")
    (write_ome(tmp_path / "group.zarr", values) / ".zattrs").unlink()
    for name, answer in answers.items():
        with pytest.raises(InputError, match=answer):
            open_lazy(tmp_path / name)


def test_a_damaged_chunk_is_told_when_it_is_read(tmp_path: Path, values: np.ndarray) -> None:
    path = write_ome(tmp_path / "scan.ome.zarr", values)
    chunk = next(p for p in (path / "0").glob("**/*") if p.is_file() and p.name[0].isdigit())
    chunk.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"scan: the voxels from \(0, 0, 0\) to .* cannot be read"):
        open_lazy(path).read(((0, 0, 0), SHAPE))


def test_small_or_textual_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 voxels"):
        from_array(np.zeros((1, 4, 4)))
    with pytest.raises(InputError, match="real numbers are needed"):
        from_array(np.full((4, 4, 4), "a"))
    with pytest.raises(InputError, match="has 2 axes"):
        from_array(np.zeros((4, 4)))


def test_without_the_zarr_library_it_is_named(
    tmp_path: Path, values: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ome(tmp_path / "scan.ome.zarr", values)
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package zarr; install it with: pip install"):
        open_lazy(path)


def test_what_is_written_is_read_back(tmp_path: Path, values: np.ndarray) -> None:
    found = read_multiscale(write_ome(tmp_path / "scan.ome.zarr", values))
    assert found.array == tmp_path / "scan.ome.zarr" / "0"
