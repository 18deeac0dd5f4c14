"""What a file announces is bounded before anything of that size is read: headers can be damaged, or made to harm."""

from __future__ import annotations

import struct
from bisect import bisect
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from napari_rada.errors import InputError
from napari_rada.memory import free_memory, in_words

if TYPE_CHECKING:
    from pathlib import Path

DEFLATE_RATIO = 1032
"""No byte of a gzip or zlib stream can hold more bytes than this."""
MAX_EXTENSIONS = 64 * 2**20
"""Bytes before the voxels of a NIfTI file; real files have a few thousand."""
LONGEST_HEADER = 544
"""Bytes of a NIfTI-2 header and the flag behind it."""
MAX_REST = 2**20
"""Bytes that may follow the voxels of a NIfTI file and are ignored."""
CHUNK = 2**20


class _TiffLayout(NamedTuple):
    """Types of a count and an offset, bytes of an entry, and where the first offset lies."""

    counter: str
    offset: str
    entry: int
    first: int


_TIFF_LAYOUTS = {42: _TiffLayout("H", "I", 12, 4), 43: _TiffLayout("Q", "Q", 20, 8)}
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
# Where `vox_offset` lies, by the size of the header, which is the file's first number: NIfTI-1 and NIfTI-2.
_OFFSET_FIELD = {348: (108, "f"), 540: (168, "q")}


def check_announced(path: Path, announced: int, ratio: int | None) -> None:
    """Check that a file can hold, and this machine can take, as many bytes of voxels as a header announces.

    Parameters
    ----------
    ratio
        How many bytes one stored byte can stand for at most; None if nobody knows.

    Raises
    ------
    ValueError
        If the file cannot.
    InputError
        If this machine cannot.
    """
    stored = path.stat().st_size
    if ratio is not None and announced > ratio * stored:
        raise ValueError(
            f"its header announces {in_words(announced)} of voxels, which a file of {in_words(stored)} cannot hold"
        )
    free = free_memory()
    if announced > free:
        raise InputError(
            f"{path} holds {in_words(announced)} of voxels and {in_words(free)} of memory are free; crop or downsample "
            "it, or close other programs."
        )


def check_front(file: BinaryIO) -> None:
    """Check that what lies before the voxels of a NIfTI file is as long as it says.

    Extensions are otherwise read at the length that each announces, however large or negative.

    Parameters
    ----------
    file
        The unpacked content from its beginning.

    Raises
    ------
    ValueError
        If they are longer than the space before the voxels, or this is no NIfTI header.
    """
    front = file.read(LONGEST_HEADER)
    if len(front) < 4:
        raise ValueError("its header is cut off")
    for order in "<>":
        size = struct.unpack_from(f"{order}i", front)[0]
        if size in _OFFSET_FIELD:
            _check_extensions(file, front, size, order)
            return
    raise ValueError("it does not begin like a NIfTI file")


def _check_extensions(file: BinaryIO, front: bytes, size: int, order: str) -> None:
    where, kind = _OFFSET_FIELD[size]
    if len(front) < size + 4:
        raise ValueError("its header is cut off")
    offset = struct.unpack_from(order + kind, front, where)[0]
    if not 0 <= offset <= MAX_EXTENSIONS:
        raise ValueError(f"its voxels are said to begin at byte {offset:g}")
    if front[size] == 0:
        return
    content = front + file.read(max(0, int(offset) - len(front)))
    at = size + 4
    while at + 16 <= offset:
        length = struct.unpack_from(f"{order}i", content, at)[0] if at + 4 <= len(content) else -1
        if not 8 <= length <= offset - at:
            raise ValueError(f"a header extension is said to have {length} bytes")
        at += length


def check_rest(path: Path, file: BinaryIO) -> None:
    """Read a compressed NIfTI file to its end behind the voxels, so that its checksum is looked at.

    Raises
    ------
    InputError
        If much more follows than the header announces.
    OSError, EOFError, zlib.error
        If the content is damaged.
    """
    rest = 0
    while chunk := file.read(CHUNK):
        rest += len(chunk)
        if rest > MAX_REST:
            raise InputError(
                f"{path} goes on for more than {in_words(MAX_REST)} behind the voxels that its header announces; its "
                "header is damaged, export it again."
            )


def check_pages(file: BinaryIO, size: int) -> None:
    """Check that the page lists of a TIFF file lie in it side by side, so that reading them comes to an end.

    Parameters
    ----------
    file
        At its beginning.
    size
        Of the file, bytes.

    Raises
    ------
    ValueError
        If one lies beyond the end or over another. What does not begin as a TIFF file is left to the reader.
    """
    head = file.read(16)
    order, version = _BYTE_ORDERS.get(head[:2], ""), head[2:4]
    if not order or len(head) < 16:
        return
    number = struct.unpack(order + "H", version)[0]
    if number not in _TIFF_LAYOUTS:
        return
    layout = _TIFF_LAYOUTS[number]
    offset = struct.unpack_from(order + layout.offset, head, layout.first)[0]
    count_size, offset_size = struct.calcsize(order + layout.counter), struct.calcsize(order + layout.offset)
    starts: list[int] = []
    ends: list[int] = []
    while offset:
        file.seek(min(offset, size))
        found = file.read(count_size)
        entries = struct.unpack(order + layout.counter, found)[0] if len(found) == count_size else size
        end = offset + count_size + entries * layout.entry + offset_size
        if end > size:
            raise ValueError("the list of a page lies beyond its end")
        at = bisect(starts, offset)
        if (at and ends[at - 1] > offset) or (at < len(starts) and starts[at] < end):
            raise ValueError("the lists of two pages lie over each other")
        starts.insert(at, offset)
        ends.insert(at, end)
        file.seek(end - offset_size)
        offset = struct.unpack(order + layout.offset, file.read(offset_size))[0]
