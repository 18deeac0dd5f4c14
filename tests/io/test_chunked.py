from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_rada import durable
from napari_rada.errors import InputError
from napari_rada.io.chunked import ChunkedArray

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, CHUNKS = (20, 33, 16), (8, 16, 16)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.uint16)


def test_what_is_written_is_read_here_and_by_the_zarr_library(tmp_path: Path, values: np.ndarray) -> None:
    array = ChunkedArray.create(tmp_path / "a", SHAPE, CHUNKS, np.uint16)
    array.write((0, 0, 0), values)
    for found in (ChunkedArray.open(tmp_path / "a").read((0, 0, 0), SHAPE), zarr.open_array(str(tmp_path / "a"))[...]):
        np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(array.read((3, 10, 2), (17, 33, 9)), values[3:17, 10:33, 2:9])
    np.testing.assert_array_equal(array[3:17, 10:, :9], values[3:17, 10:, :9])
    np.testing.assert_array_equal(array[5, 1:30:3, np.int64(7)], values[5, 1:30:3, 7])


def test_only_whole_chunks_count(tmp_path: Path, values: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    array = ChunkedArray.create(tmp_path / "a", SHAPE, CHUNKS, np.uint16)
    array.write((0, 0, 0), values[:8])
    assert array.is_written((0, 0, 0), (8, 33, 16))
    assert not array.is_written((0, 0, 0), (9, 33, 16))
    assert not array.read((8, 0, 0), SHAPE).any(), "what is not there is 0"

    def cut_off(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "flush_file", cut_off)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); free some space"):
        array.write((8, 0, 0), values[8:16])
    assert not array.is_written((8, 0, 0), (16, 33, 16))


def test_an_array_that_is_begun_again_keeps_its_chunks(tmp_path: Path, values: np.ndarray) -> None:
    ChunkedArray.create(tmp_path / "a", SHAPE, CHUNKS, np.uint16).write((0, 0, 0), values)
    again = ChunkedArray.create(tmp_path / "a", SHAPE, CHUNKS, np.uint16)
    np.testing.assert_array_equal(again.read((0, 0, 0), SHAPE), values)


@pytest.mark.parametrize("other", [(SHAPE, CHUNKS, np.uint8), (SHAPE, SHAPE, np.uint16), (CHUNKS, CHUNKS, np.uint16)])
def test_another_array_is_not_gone_on_with(tmp_path: Path, other: tuple[Any, Any, Any]) -> None:
    ChunkedArray.create(tmp_path / "a", SHAPE, CHUNKS, np.uint16)
    with pytest.raises(InputError, match="holds an array of another shape or type"):
        ChunkedArray.create(tmp_path / "a", *other)


@pytest.mark.parametrize("damage", [b"", b"no zlib", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_damaged_chunk_is_told(tmp_path: Path, values: np.ndarray, damage: bytes) -> None:
    array = ChunkedArray.create(tmp_path / "a", SHAPE, CHUNKS, np.uint16)
    array.write((0, 0, 0), values)
    (tmp_path / "a" / "1" / "0" / "0").write_bytes(damage)
    with pytest.raises(InputError, match="is damaged; delete it"):
        array.read((0, 0, 0), SHAPE)


def test_a_foreign_array_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no array that this program wrote"):
        ChunkedArray.open(tmp_path)
    ChunkedArray.create(tmp_path / "a", SHAPE, CHUNKS, np.uint16)
    text = (tmp_path / "a" / ".zarray").read_text()
    (tmp_path / "a" / ".zarray").write_text(text.replace('"zlib"', '"pickle"'))
    with pytest.raises(InputError, match="is no array that this program wrote"):
        ChunkedArray.open(tmp_path / "a")
