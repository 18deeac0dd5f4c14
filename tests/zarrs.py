"""Zarr folders for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from napari_rada.io.chunked import ChunkedArray

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]


def write_array(path: Path, values: NDArray[Any], *, version: int = 2) -> Path:
    """Write a zarr array; format 3 needs version 3 of the zarr library."""
    chunks = tuple(min(16, size) for size in values.shape)
    if version == 3:
        zarr = pytest.importorskip("zarr", minversion="3")
        zarr.create_array(str(path), shape=values.shape, chunks=chunks, dtype=values.dtype, zarr_format=3)[...] = values
    else:
        ChunkedArray.create(path, values.shape, chunks, values.dtype).write((0,) * values.ndim, values)
    return path


def write_ome(
    path: Path,
    values: NDArray[Any],
    *,
    version: str = "0.4",
    scale: tuple[float, ...] = (2.0, 1.0, 1.0),
    axes: list[Any] | None = None,
) -> Path:
    """Write an OME-Zarr image with one level, 0.4 or 0.5."""
    path.mkdir(parents=True)
    steps = [{"type": "scale", "scale": list(scale)}, {"type": "translation", "translation": [3.0] * len(scale)}]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    image = {"axes": AXES if axes is None else axes, "datasets": datasets}
    if version == "0.5":
        attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps({"multiscales": [image | {"version": "0.4"}]}))
    write_array(path / "0", values, version=3 if version == "0.5" else 2)
    return path
