"""Whether an image layer still shows the voxels of its file; that can be asked in the main thread, of any size."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from napari_rada.errors import InputError
from napari_rada.io import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VOXELS_KEY = "voxels"
"""Metadata of an Image layer: the number of the array that was read from its file, and a checksum of a sample of it."""
SAMPLED = 200_000
"""Voxels, or up to twice as many, that the checksum is about: few enough to be looked at again and again."""

_read: WeakValueDictionary[int, NDArray[Any]] = WeakValueDictionary()
"""Arrays that were read from a file, by their numbers, as long as somebody holds them."""


def note_voxels(array: NDArray[Any]) -> dict[str, tuple[int, int]]:
    """Return metadata that tell an array that was read from a file from one that takes its place in the layer."""
    _read[id(array)] = array
    return {VOXELS_KEY: (id(array), _checksum(array))}


def are_as_read(metadata: dict[str, Any], voxels: Any) -> bool:
    """Tell whether a layer's array is the one that was read from its file; taken for granted where that is not noted.

    Of a copy of the layer it is not: ask `file_holds` then. A change in place is seen where it meets the sample, as one
    of the whole scan does.
    """
    if VOXELS_KEY not in metadata:
        return True
    number, checksum = metadata[VOXELS_KEY]
    read = _read.get(number)
    return read is not None and read is voxels and _checksum(read) == checksum


def _checksum(voxels: NDArray[Any]) -> int:
    """Return a number that is another one after most changes of an array, in no more time than a click may take."""
    step = 2 * (voxels.size // (2 * SAMPLED)) + 1  # odd, so that it does not run along with the rows
    return zlib.crc32(np.ascontiguousarray(voxels.flat[::step]).data)


def file_holds(file: Path, voxels: NDArray[Any]) -> bool:
    """Tell whether a file holds these voxels; takes as long as reading it."""
    try:
        read = read_volume(file).array
    except InputError:
        return False
    return np.array_equal(read, voxels, equal_nan=read.dtype.kind == "f" and voxels.dtype.kind == "f")
