"""Arrays on disk in chunks, zarr format 2, whose chunk files are complete or not there.

Written here and not by the zarr library, so that each chunk goes through `napari_rada.durable`: a chunk file that is
there is whole, was flushed to the disk, and need not be computed again. Chunks are packed with zlib; any zarr library
reads them.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.durable import reason_of, write_text, written_whole
from napari_rada.errors import InputError
from napari_rada.text import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LEVEL = 1
"""Of zlib: labels are small at any, and this is the fastest."""
REMEDY = "free some space or choose another place, then run the same command again"


@dataclass(frozen=True, eq=False)
class ChunkedArray:
    """One array; make it with `create` or `open`.

    Parameters
    ----------
    path
        Its folder.
    shape, chunks
        Of the array and of each chunk, border chunks included: what lies beyond the array in them is 0.
    dtype
        Of the array; little endian on the disk.
    """

    path: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def create(cls, path: Path, shape: Sequence[int], chunks: Sequence[int], dtype: object) -> ChunkedArray:
        """Make the folder and describe the array in it; one that is there already and is alike is gone on with.

        Raises
        ------
        InputError
            If another array is there, or the disk refuses.
        """
        array = cls(path, tuple(shape), tuple(chunks), np.dtype(dtype).newbyteorder("<"))  # type: ignore[call-overload]
        make_folder(path)
        if not (path / ".zarray").exists():
            write_text(path / ".zarray", json.dumps(array._description(), indent=2), InputError, REMEDY)
            return array
        there = cls.open(path)
        if (there.shape, there.chunks, there.dtype) != (array.shape, array.chunks, array.dtype):
            raise InputError(f"{path} holds an array of another shape or type; delete it, or choose another name.")
        return array

    @classmethod
    def open(cls, path: Path) -> ChunkedArray:
        """Open an array that this class wrote; raises `InputError` for any other."""
        try:
            content = read_json(path / ".zarray")
            shape, chunks = tuple(map(int, content["shape"])), tuple(map(int, content["chunks"]))
            array = cls(path, shape, chunks, np.dtype(content["dtype"]))
            if content != array._description():
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no array that this program wrote, or is damaged; predict again.") from None
        return array

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        """Read a part: one whole number, or one slice of a positive step, per axis; for dask."""
        starts, stops, rest = [], [], []
        for part, size in zip(index, self.shape, strict=True):
            start, stop, step = part.indices(size) if isinstance(part, slice) else (int(part), int(part) + 1, 0)
            starts.append(start)
            stops.append(max(start, stop))
            rest.append(slice(None, None, step) if step else 0)
        part_read: NDArray[Any] = self.read(starts, stops)[tuple(rest)]
        return part_read

    def write(self, start: Sequence[int], block: NDArray[Any]) -> None:
        """Write a block that begins and ends with chunks, or at the array's end; chunk by chunk, each one whole.

        Raises
        ------
        InputError
            If the disk refuses.
        """
        stop = [first + size for first, size in zip(start, block.shape, strict=True)]
        for index in self._indices(start, stop):
            inside = tuple(
                slice(number * side - first, min((number + 1) * side - first, size))
                for number, side, first, size in zip(index, self.chunks, start, block.shape, strict=True)
            )
            self._write_chunk(index, block[inside])

    def is_written(self, start: Sequence[int], stop: Sequence[int]) -> bool:
        """Tell whether every chunk of a part is there."""
        return all(self._file(index).is_file() for index in self._indices(start, stop))

    def read(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """Read a part; chunks that are not there count as 0.

        Raises
        ------
        InputError
            If a chunk is damaged.
        """
        part = np.zeros([b - a for a, b in zip(start, stop, strict=True)], dtype=self.dtype.newbyteorder("="))
        for index in self._indices(start, stop):
            chunk = self._read_chunk(index)
            if chunk is None:
                continue
            begin = [number * side for number, side in zip(index, self.chunks, strict=True)]
            low = [max(a, b) for a, b in zip(begin, start, strict=True)]
            high = [min(a + c, b) for a, c, b in zip(begin, self.chunks, stop, strict=True)]
            part[_slices(low, high, start)] = chunk[_slices(low, high, begin)]
        return part

    def _indices(self, start: Sequence[int], stop: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Return the numbers of the chunks that a part touches."""
        return itertools.product(
            *(range(a // side, ceil(b / side)) for a, b, side in zip(start, stop, self.chunks, strict=True))
        )

    def _file(self, index: Sequence[int]) -> Path:
        return self.path.joinpath(*map(str, index))

    def _write_chunk(self, index: tuple[int, ...], values: NDArray[Any]) -> None:
        chunk = np.zeros(self.chunks, dtype=self.dtype)
        chunk[tuple(slice(size) for size in values.shape)] = values
        path = self._file(index)
        make_folder(path.parent)
        with written_whole(path, InputError, REMEDY) as temporary:
            temporary.write_bytes(zlib.compress(chunk.tobytes(), LEVEL))

    def _read_chunk(self, index: tuple[int, ...]) -> NDArray[Any] | None:
        path = self._file(index)
        if not path.is_file():
            return None
        size = prod(self.chunks) * self.dtype.itemsize
        try:
            content = zlib.decompressobj().decompress(path.read_bytes(), size + 1)
        except (OSError, zlib.error):
            content = b""
        if len(content) != size:
            raise InputError(f"{path} is damaged; delete it and run the same command again.")
        return np.frombuffer(content, dtype=self.dtype).reshape(self.chunks)

    def _description(self) -> dict[str, object]:
        """Return what zarr's format 2 asks for."""
        return {
            "zarr_format": 2,
            "shape": list(self.shape),
            "chunks": list(self.chunks),
            "dtype": self.dtype.str,
            "compressor": {"id": "zlib", "level": LEVEL},
            "fill_value": 0,
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
        }


def make_folder(path: Path) -> None:
    """Make a folder and those above it; raises `InputError` if the system refuses."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as problem:
        raise InputError(f"The folder {path} cannot be made ({reason_of(problem)}); {REMEDY}.") from None


def _slices(low: Sequence[int], high: Sequence[int], origin: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
