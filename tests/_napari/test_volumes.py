from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dask.array
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_rada._napari.annotation import AnnotationModel
from napari_rada._napari.layers import is_lazy, new_labels_data
from napari_rada._napari.volumes import default_folder, result_to_layer_data, volume_of_layer
from napari_rada._napari.windows import own_range
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.io.chunked import ChunkedArray
from napari_rada.outofcore import VolumeResult

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (20, 32, 24)


class Watched:
    """An array that counts the voxels that are read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.read = 0

    def __getitem__(self, index: object) -> np.ndarray:
        part = self.values[index]
        self.read += part.size
        return part


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)


def multiscale(values: np.ndarray, **settings: object) -> Image:
    levels = [dask.array.from_array(part, chunks=8) for part in (values, values[::2, ::2, ::2])]
    return Image(levels, multiscale=True, contrast_limits=(0, 255), name="big", **settings)


def result_on_disk(out: Path, shape: tuple[int, int, int] = SHAPE) -> VolumeResult:
    for level, size in enumerate((shape, tuple(-(-side // 2) for side in shape))):
        array = ChunkedArray.create(out / str(level), size, (8, 8, 8), np.uint8)
        array.write((0, 0, 0), np.full(size, level + 1, dtype=np.uint8))
    (out / ".zattrs").write_text(json.dumps({"napari-rada": {"run": "r", "iteration": 3}}))
    return VolumeResult(out, None, shape, (1, 1, 1), 2, 9, 9)


def test_what_is_read_in_parts_is_recognised(tmp_path: Path, values: np.ndarray) -> None:
    mapped = np.memmap(tmp_path / "raw", dtype=np.uint8, mode="w+", shape=SHAPE)
    lazy = [multiscale(values), Image(dask.array.from_array(values), contrast_limits=(0, 255)), Image(mapped)]
    assert [is_lazy(layer) for layer in lazy] == [True] * 3
    assert not is_lazy(Image(values))


def test_a_multiscale_layer_becomes_a_volume_of_its_finest_level(values: np.ndarray) -> None:
    layer = multiscale(values, scale=(3, 2, 1), translate=(5, 0, 0), units=("um",) * 3)
    volume = volume_of_layer(layer)
    assert (volume.name, volume.shape, volume.chunks) == ("big", SHAPE, (8, 8, 8))
    np.testing.assert_allclose(volume.grid.spacing, (0.003, 0.002, 0.001))
    np.testing.assert_array_equal(volume.read(((1, 2, 3), (9, 9, 9))), values[1:9, 2:9, 3:9])


def test_the_result_lies_on_its_image_and_is_read_when_it_is_looked_at(tmp_path: Path, values: np.ndarray) -> None:
    image = multiscale(values, scale=(3, 2, 1), translate=(5, 0, 0), rotate=30, units=("um",) * 3)
    data, settings, kind = result_to_layer_data(result_on_disk(tmp_path / "o.zarr"), image)
    layer = Layer.create(data, settings, kind)
    assert isinstance(layer, Labels)
    assert layer.multiscale
    assert layer.name == "big mask"
    assert [level.shape for level in layer.data] == [SHAPE, (10, 16, 12)]
    assert all(hasattr(level, "__dask_graph__") for level in layer.data)
    for name in ("scale", "translate", "rotate"):
        np.testing.assert_array_equal(getattr(layer, name), getattr(image, name))
    assert layer.units == image.units
    assert layer.metadata["provenance"] == {"run": "r", "iteration": 3, "folder": str(tmp_path / "o.zarr")}
    assert int(layer.data[0][3, 4, 5]) == 1
    with pytest.raises(InputError, match="predict again"):
        result_to_layer_data(result_on_disk(tmp_path / "p.zarr", (4, 4, 4)), image)


def test_labelling_on_a_multiscale_image(values: np.ndarray) -> None:
    image = multiscale(values, scale=(3, 2, 1))
    labels = Layer.create(*new_labels_data(image))
    assert labels.data.shape == SHAPE
    np.testing.assert_array_equal(labels.scale, image.scale)
    labels.data[6, 4:10, 5:11] = 1
    model = AnnotationModel(labels)
    assert model.proposed == (AnnotatedSlice(0, 6),)


def test_labels_that_are_read_in_parts_are_not_searched_for_painted_slices(values: np.ndarray) -> None:
    watched = Watched((values > 100).astype(np.uint8))
    array = dask.array.from_array(watched, chunks=8, name=False, meta=np.empty((0, 0, 0), dtype=np.uint8))
    layer = Labels([array, array[::2, ::2, ::2]], multiscale=True)
    before = watched.read
    assert AnnotationModel(layer).rows == ()
    assert watched.read == before


def test_the_range_of_an_image_is_found_without_reading_it_all() -> None:
    values = np.random.default_rng(0).normal(100, 20, (60, 60, 60)).astype(np.float32)
    wanted = np.percentile(values, (1, 99))
    np.testing.assert_allclose(own_range(Image(values)), wanted, rtol=0.05)
    watched = Watched(values)
    array = dask.array.from_array(watched, chunks=(1, 60, 60), name=False, meta=np.empty((0, 0, 0), dtype=np.float32))
    lazy = Image(array, contrast_limits=(0, 255))
    watched.read = 0
    low, high = own_range(lazy)
    np.testing.assert_allclose((low, high), wanted, rtol=0.15)
    assert own_range(multiscale(values)) == own_range(Image(values[::2, ::2, ::2]))


def test_the_default_folder_is_in_the_run(tmp_path: Path) -> None:
    assert default_folder(tmp_path, "my scan/2") == tmp_path / "predictions" / "my-scan-2.ome.zarr"
    assert default_folder(tmp_path, "..") == tmp_path / "predictions" / "image.ome.zarr"
