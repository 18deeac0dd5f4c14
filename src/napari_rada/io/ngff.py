"""OME-Zarr: what a folder says of itself, in versions 0.4 and 0.5, and what a result says of itself, in version 0.4.

Metadata is read as plain JSON, before the zarr library is asked: a folder may come from a stranger. Paths in it must
not lead out of the folder, and arrays must be packed by methods that cannot run code (a zarr array may name pickle).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.durable import write_text
from napari_rada.errors import InputError
from napari_rada.io.chunked import REMEDY
from napari_rada.text import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.classes import ClassTable

MARKERS = (".zarray", ".zgroup", "zarr.json")
SPACE = ("z", "y", "x")
MM_PER_UNIT = {
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "decimeter": 100.0,
    "meter": 1000.0,
    "inch": 25.4,
}
UNPACKED = frozenset(
    {"adler32", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "endian", "fixedscaleoffset"}
    | {"fletcher32", "gzip", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle", "transpose"}
    | {"zlib", "zstd"}
)
"""Codecs that turn bytes into numbers and nothing else; in format 3 their names may begin with ``numcodecs.``."""
MAX_CHUNK = 2**30
"""Bytes of a chunk, unpacked: it is read as a whole."""


@dataclass(frozen=True)
class Placement:
    """Where a volume lies, as OME-Zarr tells it.

    Parameters
    ----------
    scale, translation
        Along (z, y, x), in `unit`; the translation is that of the first voxel's centre.
    unit
        A length of `MM_PER_UNIT`, or None if the file tells none.
    """

    scale: tuple[float, float, float]
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit: str | None = None

    @property
    def millimetres(self) -> float:
        """Millimetres per unit; 1 where there is none."""
        return 1.0 if self.unit is None else MM_PER_UNIT[self.unit]

    def beginning(self, first: Sequence[int]) -> Placement:
        """Return the placement of the part of an image that begins with a voxel, by its index along (z, y, x)."""
        z, y, x = (t + s * index for t, s, index in zip(self.translation, self.scale, first, strict=True))
        return Placement(self.scale, (z, y, x), self.unit)

    def coarser(self, factors: Sequence[int]) -> Placement:
        """Return the placement of blocks of `factors` voxels."""
        z, y, x = (s * f for s, f in zip(self.scale, factors, strict=True))
        moved = [t + s * (f - 1) / 2 for t, s, f in zip(self.translation, self.scale, factors, strict=True)]
        return Placement((z, y, x), (moved[0], moved[1], moved[2]), self.unit)


@dataclass(frozen=True)
class Multiscale:
    """The finest level of an OME-Zarr image: its folder, and where its voxels lie.

    Parameters
    ----------
    array
        Folder of the array.
    axes
        One lower-case name per axis of the array; the last three are z, y, x.
    placement
        Of the last three.
    """

    array: Path
    axes: tuple[str, ...]
    placement: Placement


def is_zarr(path: Path | str) -> bool:
    """Tell whether a path is meant as zarr: by its name, or by what lies in the folder."""
    path = Path(path)
    return path.name.lower().endswith(".zarr") or any(os.path.isfile(path / name) for name in MARKERS)


def is_array(folder: Path) -> bool:
    """Tell whether a zarr folder holds an array itself, and not a group of them."""
    if (folder / ".zarray").is_file():
        return True
    return (folder / "zarr.json").is_file() and _json(folder / "zarr.json").get("node_type") == "array"


def read_multiscale(folder: Path) -> Multiscale:
    """Read the metadata of an OME-Zarr image.

    Raises
    ------
    InputError
        If it is missing, damaged, of a plate, or names an array outside the folder.
    """
    entry = _entry(folder)
    try:
        axes, units = _axes(entry["axes"])
        first = entry["datasets"][0]
        scale, translation = _transform(
            [*first.get("coordinateTransformations", []), *entry.get("coordinateTransformations", [])], len(axes)
        )
        array = _inside(folder, str(first["path"]))
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{folder}: its multiscales metadata is damaged or of another version than 0.4 and 0.5; write it again."
        ) from None
    if axes[-3:] != SPACE:
        raise InputError(f"{folder} has the axes {' '.join(axes)}; a volume whose last three are z y x is needed.")
    if len(set(units[-3:])) > 1:
        raise InputError(f"{folder} measures its axes in {', '.join(map(str, units[-3:]))}; one unit is needed.")
    unit = units[-1]
    if unit is not None and unit not in MM_PER_UNIT:
        raise InputError(f"{folder} measures in {unit}; a length such as micrometer or millimeter is needed.")
    return Multiscale(array, axes, Placement(_triple(scale), _triple(translation), unit))


def check_array(folder: Path) -> None:
    """Check that reading a zarr array can neither run code nor take more memory than a chunk of 1 GiB.

    Raises
    ------
    InputError
        If not, or if the metadata is damaged.
    """
    name = "zarr.json" if (folder / "zarr.json").is_file() else ".zarray"
    content = _json(folder / name)
    try:
        if name == ".zarray":
            chunks, dtype = content["chunks"], np.dtype(content["dtype"])
            codecs = [*(content.get("filters") or []), *filter(None, [content.get("compressor")])]
            names = [str(codec["id"]) for codec in codecs]
        else:
            codecs = content["codecs"]
            dtype, names = np.dtype(content["data_type"]), _codecs(codecs)
            parts = codecs[0] if names[0] == "sharding_indexed" else content["chunk_grid"]  # what is read at once
            chunks = parts["configuration"]["chunk_shape"]
        shape, size = [int(n) for n in content["shape"]], int(np.prod([int(n) for n in chunks], dtype=object))
        if dtype.kind not in "buif" or min([*shape, *chunks], default=0) < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{folder}: its {name} is damaged or holds no real numbers; write the array again.") from None
    foreign = sorted(set(names) - UNPACKED)
    if foreign:
        raise InputError(
            f"{folder} is packed by {', '.join(foreign)}, which is not read because it may run code or is unknown; "
            "write it again with blosc, zstd or gzip."
        )
    if size * dtype.itemsize > MAX_CHUNK:
        raise InputError(
            f"{folder} is stored in chunks of {list(chunks)} voxels, too large to be read in parts; write it again in "
            "chunks of 128 voxels a side or so."
        )


def write_group(folder: Path) -> None:
    """Make a group that holds no image yet."""
    if not (folder / ".zgroup").exists():
        write_text(folder / ".zgroup", json.dumps({"zarr_format": 2}), InputError, REMEDY)


def write_image(
    folder: Path,
    levels: Sequence[tuple[str, Placement]],
    *,
    name: str,
    channels: Sequence[str] = (),
    classes: ClassTable | None = None,
    method: str | None = None,
    provenance: dict[str, str | int | float],
) -> None:
    """Describe the arrays of a group as an OME-Zarr 0.4 image: what makes it complete.

    Parameters
    ----------
    levels
        Path and placement of each array, finest first.
    channels
        Names of what a first axis holds; none for arrays (z, y, x).
    classes
        If the image is of labels.
    method
        How a level was made from the one before.
    """
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] if channels else []
    unit = levels[0][1].unit
    axes += [{"name": axis, "type": "space"} | ({"unit": unit} if unit else {}) for axis in SPACE]
    lead = [1.0] if channels else []
    datasets = [
        {
            "path": path,
            "coordinateTransformations": [
                {"type": "scale", "scale": [*lead, *place.scale]},
                {"type": "translation", "translation": [*(0.0 for _ in lead), *place.translation]},
            ],
        }
        for path, place in levels
    ]
    image: dict[str, Any] = {"version": "0.4", "name": name, "axes": axes, "datasets": datasets}
    content: dict[str, Any] = {"multiscales": [image | ({"type": method} if method else {})]}
    if classes is not None:
        properties = [{"label-value": c.value, "name": c.name} for c in classes.classes]
        content["image-label"] = {"version": "0.4", "properties": properties}
    if channels:
        content["omero"] = {"channels": [{"label": label, "active": True} for label in channels]}
    content["napari-rada"] = provenance
    write_text(folder / ".zattrs", json.dumps(content, indent=2, ensure_ascii=False), InputError, REMEDY)


def _entry(folder: Path) -> dict[str, Any]:
    """Return the first image of a group."""
    if (folder / "zarr.json").is_file():
        found = _json(folder / "zarr.json").get("attributes", {})
        found = found.get("ome", {}) if isinstance(found, dict) else {}
    else:
        found = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    images = found.get("multiscales") if isinstance(found, dict) else None
    if isinstance(images, list) and images and isinstance(images[0], dict):
        return images[0]
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and is_zarr(path))[:5]
    hint = f"name what is to be predicted in it, for example {folder / inside[0]}" if inside else "name an OME-Zarr"
    raise InputError(f"{folder} is a zarr group without multiscales metadata, no OME-Zarr image; {hint}.")


def _axes(found: object) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    if not isinstance(found, list):
        raise TypeError
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in found]
    return tuple(str(axis["name"]).lower() for axis in axes), tuple(axis.get("unit") for axis in axes)


def _transform(found: Sequence[Any], axes: int) -> tuple[list[float], list[float]]:
    """Apply scales and translations one after the other."""
    scale: NDArray[np.float64] = np.ones(axes)
    translation: NDArray[np.float64] = np.zeros(axes)
    for step in found:
        values = np.asarray(step.get(step["type"]), dtype=np.float64) if step["type"] != "identity" else None
        if values is None:
            continue
        if values.shape != (axes,) or not np.isfinite(values).all():
            raise ValueError
        if step["type"] == "scale":
            scale, translation = scale * values, translation * values
        else:
            translation = translation + values
    if not (scale > 0).all():
        raise ValueError
    return scale.tolist(), translation.tolist()


def _inside(folder: Path, name: str) -> Path:
    """Return an array that the metadata names, which must lie in the folder, links followed."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder}: its metadata names the array {name}, which lies outside of it; it is not read.")
    if not is_array(path):
        raise InputError(f"{folder}: the array {name} that its metadata names is not there; copy the whole folder.")
    return path


def _codecs(found: object, depth: int = 0) -> list[str]:
    """Name the codecs of format 3, those inside of shards included."""
    if not isinstance(found, list) or depth > 3:
        raise TypeError
    names = []
    for codec in found:
        names.append(str(codec["name"]).removeprefix("numcodecs."))
        for key in ("codecs", "index_codecs"):
            names += _codecs((codec.get("configuration") or {}).get(key, []), depth + 1)
    return names


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged or cannot be read; write the array again, or copy the whole folder.")
    return content


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    return (values[-3], values[-2], values[-1])
