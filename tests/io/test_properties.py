"""Properties that hold for any geometry, any annotation and any bytes (hypothesis)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_rada import io
from napari_rada.config import RunConfig, load_config
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice, annotated_mask, detect_slices
from napari_rada.errors import RadaError
from napari_rada.io.annotations import parse_slices, read_sidecar, to_array, to_file, write_sidecar

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
sizes = st.integers(2, 7)
spacings = st.floats(0.05, 20.0)
angles = st.floats(-3.1, 3.1)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any shape, voxel size, place and orientation, left-handed ones included."""
    shape = (draw(sizes), draw(sizes), draw(sizes))
    x, y, z = draw(angles), draw(angles), draw(angles)
    turn = np.eye(3)
    for (a, b), angle in zip(((0, 1), (0, 2), (1, 2)), (x, y, z), strict=True):
        step = np.eye(3)
        step[[a, b, a, b], [a, b, b, a]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
        turn = turn @ step
    affine = np.eye(4)
    flips = np.array([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    affine[:3, :3] = turn * flips * [draw(spacings) for _ in range(3)]
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return Grid(shape, affine)


@PATIENT
@given(grids(), st.sampled_from([".nii", ".nii.gz"]), st.sampled_from(["u1", "i2", "u2", "f4"]))
def test_nifti_brings_every_voxel_back_to_its_place(grid: Grid, suffix: str, dtype: str) -> None:
    data = np.arange(np.prod(grid.shape)).reshape(grid.shape).astype(dtype)
    with TemporaryDirectory() as folder:
        first, second = Path(folder) / f"a{suffix}", Path(folder) / f"b{suffix}"
        io.write_volume(first, data, grid)
        read = io.read_volume(first)
        io.write_volume(second, data, read.grid, first)
        again = io.read_volume(second)
        raw = nib.load(first)
        assert np.array_equal(np.asanyarray(raw.dataobj).T, data)
    assert read.grid.matches(grid, 0.001)
    assert np.array_equal(read.array, data)
    assert np.array_equal(again.grid.affine, read.grid.affine)


@PATIENT
@given(sizes, sizes, sizes, spacings, spacings, spacings)
def test_tiff_brings_voxels_and_their_size_back(z: int, y: int, x: int, dz: float, dy: float, dx: float) -> None:
    data = np.arange(z * y * x, dtype=np.uint16).reshape(z, y, x)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        io.write_volume(path, data, Grid.from_spacing((z, y, x), (dz, dy, dx)))
        read = io.read_volume(path)
    assert np.array_equal(read.array, data)
    np.testing.assert_allclose(read.grid.spacing, (dz, dy, dx), rtol=1e-5)


planes = st.builds(AnnotatedSlice, st.integers(0, 2), st.integers(1, 14))


@PATIENT
@given(st.lists(planes, min_size=1, max_size=5, unique=True))
def test_slices_of_a_ball_are_detected_and_nothing_else(chosen: list[AnnotatedSlice]) -> None:
    z, y, x = np.indices((16, 16, 16))
    ball = (z - 7.5) ** 2 + (y - 7.5) ** 2 + (x - 7.5) ** 2 <= 90
    alone = [p for p in chosen if not any(o.axis == p.axis and abs(o.index - p.index) == 1 for o in chosen)]
    sparse = ball & annotated_mask((16, 16, 16), alone)
    assert set(detect_slices(sparse.astype(np.uint8))) == set(alone)


@PATIENT
@given(st.lists(planes, min_size=1, max_size=9, unique=True), st.sampled_from(["l.nii.gz", "l.tif", "l.nii"]))
def test_sidecars_bring_the_slices_back(chosen: list[AnnotatedSlice], name: str) -> None:
    grid = Grid.from_spacing((16, 16, 16))
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        io.write_volume(path, np.zeros(grid.shape, np.uint8), grid)
        write_sidecar(path, chosen)
        found = read_sidecar(path)
        assert found is not None
        assert set(to_array(found, io.read_volume(path))) == set(chosen)
        text = ";".join(f"{axis}:{index}" for axis, index in to_file(chosen, path))
        assert list(parse_slices(text)) == list(found)


def read_bytes(content: bytes, name: str, read: Any) -> None:
    """Read bytes as a file: a value or a `RadaError` of one line."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        sentence = "read"
        try:
            read(path)
        except RadaError as error:
            sentence = str(error)
    assert sentence
    assert "\n" not in sentence


HEADER = nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_bytes()


def tiff_bytes() -> bytes:
    with TemporaryDirectory() as folder:
        tifffile.imwrite(Path(folder) / "a.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
        return (Path(folder) / "a.tif").read_bytes()


TIFF = tiff_bytes()


@PATIENT
@given(st.binary(max_size=600), st.integers(0, 352), st.sampled_from(["a.nii", "a.nii.gz", "a.tif"]), st.booleans())
def test_any_bytes_are_read_or_refused(content: bytes, kept: int, name: str, packed: bool) -> None:
    """Bytes alone, or behind the beginning of a good file so that readers get further."""
    start = (TIFF if name == "a.tif" else HEADER)[:kept]
    whole = start + content
    read_bytes(gzip.compress(whole) if name == "a.nii.gz" and packed else whole, name, io.read_volume)


@PATIENT
@given(st.integers(0, 351), st.binary(min_size=1, max_size=16))
def test_any_change_of_a_header_is_read_or_refused(at: int, written: bytes) -> None:
    content = bytearray(HEADER)
    content[at : at + len(written)] = written
    read_bytes(bytes(content), "a.nii", io.read_volume)
    read_bytes(gzip.compress(content, 1), "a.nii.gz", io.read_volume)


@PATIENT
@given(st.integers(0, len(TIFF) - 1), st.binary(min_size=1, max_size=16))
def test_any_change_of_a_tiff_is_read_or_refused(at: int, written: bytes) -> None:
    content = bytearray(TIFF)
    content[at : at + len(written)] = written
    read_bytes(bytes(content), "a.tif", io.read_volume)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([*RunConfig.model_fields, "speed"])


@PATIENT
@given(st.dictionaries(keys, values, max_size=3) | values)
def test_any_settings_are_read_or_refused(content: Any) -> None:
    read_bytes(json.dumps(content).encode(), "a.yaml", load_config)


@PATIENT
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_text_is_read_or_refused(content: bytes) -> None:
    read_bytes(content, "a.yaml", load_config)
    read_bytes(content, "cases.csv", lambda path: io.find_cases([str(path.parent)]))
    read_bytes(content, "a.slices.json", lambda path: read_sidecar(path.with_name("a.nii")))
