"""Which slices of a label file are annotated: the text `axis:index`, and the sidecar file beside the labels.

Both count axes and slices as the file does (NIfTI: i = 0, j = 1, k = 2; TIFF: z = 0, y = 1, x = 2).
"""

from __future__ import annotations

import json
import re
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_rada.data.classes import MAX_LABEL, ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.durable import REMEDY, write_text
from napari_rada.errors import InputError
from napari_rada.io.files import SUFFIXES, Format, format_of, stem_of
from napari_rada.io.formats import write_volume
from napari_rada.io.volume import file_axis
from napari_rada.text import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.grid import Grid
    from napari_rada.io.volume import Volume

FileSlice: TypeAlias = tuple[int, int]
"""(axis, index) in the file's own voxel axes."""

SIDECAR_SUFFIX = ".slices.json"
MOST_TOLD = 9
"""So many slices are named in a sentence."""
KEY, CLASSES, FORMAT = "annotated_slices", "classes", "format"
CLASS_EXAMPLE = '{"value": 1, "name": "liver", "prompt": ""}'
EXAMPLE = '{"annotated_slices": [{"axis": 0, "index": 91}]}'


def write_slices(slices: Iterable[FileSlice]) -> list[str]:
    """Write slices as `parse_slices` reads each of them: ``axis:index``."""
    return [f"{axis}:{index}" for axis, index in slices]


def named_briefly(slices: Sequence[str]) -> str:
    """Name written slices in a sentence, of many the first ones."""
    more = f" and {len(slices) - MOST_TOLD} more" if len(slices) > MOST_TOLD else ""
    return f"{', '.join(slices[:MOST_TOLD])}{more}"


def parse_slices(text: str) -> tuple[FileSlice, ...]:
    """Read slices written as ``0:91;1:70;2:44``; commas do as well as semicolons.

    Raises
    ------
    InputError
        If a part is not axis:index.
    """
    found = []
    for part in re.split(r"[;,]", text):
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", part)
        if match is None:
            raise InputError(f"{part.strip()!r} is not a slice; write axis:index, for example 0:91;1:70;2:44.")
        found.append((int(match[1]), int(match[2])))
    return tuple(found)


def sidecar_path(labels: Path) -> Path:
    """Return where the sidecar of a label file is, or would be: ``scan_labels.slices.json`` for ``scan_labels.nii.gz``.

    One that carries the whole file name (``scan_labels.nii.gz.slices.json``) goes first. Such a name is also given
    where the short one is that of a file in another format, which counts axes in another order.
    """
    whole = labels.with_name(labels.name + SIDECAR_SUFFIX)
    short = labels.with_name(stem_of(labels) + SIDECAR_SUFFIX)
    return whole if whole.exists() or (short.exists() and not _is_of(short, labels)) else short


def _is_of(sidecar: Path, labels: Path) -> bool:
    """Tell whether a sidecar counts axes as a label file does.

    One that does not say how is that of a NIfTI file, if there is one of its name, else of whatever is there.
    """
    try:
        content, own = _content(sidecar), format_of(labels)
    except InputError:  # told when it is read
        return True
    named = content.get(FORMAT) if isinstance(content, dict) else None
    if named is not None:
        return bool(named == own.value)
    stem, niftis = stem_of(labels), (suffix for suffix, kind in SUFFIXES.items() if kind is Format.NIFTI)
    return own is Format.NIFTI or not any(labels.with_name(stem + suffix).exists() for suffix in niftis)


def read_sidecar(labels: Path) -> tuple[FileSlice, ...] | None:
    """Read the annotated slices beside a label file; None if nothing names them. Unknown keys are ignored.

    A sidecar may name classes alone.

    Raises
    ------
    InputError
        If the sidecar is not what it should be.
    """
    path = sidecar_path(labels)
    if not path.exists():
        return None
    content = _content(path)
    if isinstance(content, dict) and KEY not in content and CLASSES in content:
        return None
    entries = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{path} has no list {KEY!r}; it should look like {EXAMPLE}.")
    return tuple(_entry(entry, path) for entry in entries)


def read_classes(labels: Path) -> tuple[ClassInfo, ...]:
    """Read the classes that the sidecar of a label file names, sorted by value; none without a sidecar.

    Raises
    ------
    InputError
        If the sidecar is not what it should be.
    """
    path = sidecar_path(labels)
    content = _content(path) if path.exists() else {}
    entries = content.get(CLASSES, []) if isinstance(content, dict) else []
    if not isinstance(entries, list):
        raise InputError(f"{path} has {CLASSES!r} that are no list; each should look like {CLASS_EXAMPLE}.")
    infos = {info.value: info for info in (_class(entry, path) for entry in entries)}
    return tuple(infos[value] for value in sorted(infos))


def write_sidecar(
    labels: Path,
    slices: Sequence[AnnotatedSlice] | None,
    classes: Sequence[ClassInfo] = (),
    *,
    remedy: str = REMEDY,
) -> Path:
    """Write the annotated slices and classes beside a label file and return where.

    Parameters
    ----------
    labels
        The label file; decides the name and how axes are counted.
    slices
        In array axes; None to name classes alone, so that slices are detected by whoever reads the labels.
    classes
        Those with a name or a prompt of their own are written too.
    remedy
        The advice where the operating system refuses.
    """
    content: dict[str, object] = {FORMAT: format_of(labels).value}
    if slices is not None:
        content[KEY] = [{"axis": axis, "index": index} for axis, index in to_file(slices, labels)]
    if named := [{"value": c.value, "name": c.name, "prompt": c.prompt} for c in classes if c.is_named]:
        content[CLASSES] = named
    path = sidecar_path(labels)
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n", remedy=remedy)
    return path


def write_annotation(
    path: Path,
    array: NDArray[Any],
    grid: Grid,
    like: Path | None = None,
    *,
    labels: bool = True,
    slices: Sequence[AnnotatedSlice] | None,
    classes: Sequence[ClassInfo] = (),
    remedy: str = REMEDY,
    before: Callable[[Path], None] | None = None,
) -> Path:
    """Write labels and their sidecar, each whole or not at all, and return where the sidecar is.

    They are two files. Wherever this is cut off, no slice counts as annotated that is not so in the labels that are
    there. Parameters are those of `write_volume` and `write_sidecar`.
    """

    def replace(temporary: Path) -> None:
        if before is not None:
            before(temporary)
        _write_ahead(path, slices, classes, remedy)

    write_volume(path, array, grid, like, labels=labels, remedy=remedy, before=replace)
    return write_sidecar(path, slices, classes, remedy=remedy)


def _write_ahead(
    labels: Path, slices: Sequence[AnnotatedSlice] | None, classes: Sequence[ClassInfo], remedy: str
) -> None:
    """Write the sidecar that is true of a label file before and after it is replaced.

    Slices are left out that were annotated and are no more. Beside labels of which there are no older ones everything
    is true.
    """
    if not labels.exists():
        write_sidecar(labels, slices, classes, remedy=remedy)
        return
    try:
        before = set(read_sidecar(labels) or ())
    except InputError:  # it goes in a moment
        before = set()
    kept = [plane for plane in slices or () if before.issuperset(to_file([plane], labels))]
    if len(kept) < len(before):
        write_sidecar(labels, kept, classes, remedy=remedy)


def to_array(slices: Sequence[FileSlice], volume: Volume) -> tuple[AnnotatedSlice, ...]:
    """Turn slices of a file into slices of the array that was read from it.

    Raises
    ------
    InputError
        If the file has no such axis or slice.
    """
    shape = volume.file_shape
    for axis, index in slices:
        if not 0 <= axis <= 2:
            raise InputError(f"Slice {axis}:{index} names axis {axis}; {volume.path} has the axes 0, 1 and 2.")
        if not 0 <= index < shape[axis]:
            raise InputError(
                f"Slice {axis}:{index} lies outside {volume.path}; "
                f"its axis {axis} has the slices 0 to {shape[axis] - 1}."
            )
    return tuple(AnnotatedSlice(file_axis(volume.path, axis), index) for axis, index in slices)


def to_file(slices: Sequence[AnnotatedSlice], path: Path | None) -> list[FileSlice]:
    """Turn slices of an array into slices as the file at `path` counts them, sorted."""
    return sorted((file_axis(path, plane.axis), plane.index) for plane in slices)


def _content(path: Path) -> object:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); it should look like {EXAMPLE}.") from None


def _class(entry: object, path: Path) -> ClassInfo:
    if isinstance(entry, dict):
        value, name, prompt = entry.get("value"), entry.get("name"), entry.get("prompt", "")
        if type(value) is int and 0 < value <= MAX_LABEL and name and isinstance(name, str) and isinstance(prompt, str):
            return ClassInfo(value, name, prompt)
    found = shorten(json.dumps(entry), 60, placeholder="…")
    raise InputError(f"{path} holds {found} where a class should be; it should look like {CLASS_EXAMPLE}.")


def _entry(entry: object, path: Path) -> FileSlice:
    if isinstance(entry, dict):
        axis, index = entry.get("axis"), entry.get("index")
        if type(axis) is int and type(index) is int:
            return axis, index
    found = shorten(json.dumps(entry), 60, placeholder="…")
    raise InputError(f"{path} holds {found} where a slice should be; it should look like {EXAMPLE}.")
