"""Zarr folders for tests, written by the zarr library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import zarr

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]


def write_array(path: Path, values: NDArray[Any], *, version: int = 2, chunks: tuple[int, ...] | None = None) -> Path:
    """Write a zarr array."""
    chunks = chunks or tuple(min(16, size) for size in values.shape)
    array = zarr.create_array(
        str(path), shape=values.shape, chunks=chunks, dtype=values.dtype, zarr_format=version, overwrite=True
    )
    array[...] = values
    return path


def write_ome(
    path: Path,
    values: NDArray[np.generic],
    *,
    version: str = "0.4",
    scale: tuple[float, ...] = (2.0, 1.0, 1.0),
    axes: list[Any] | None = None,
    dataset: str = "0",
) -> Path:
    """Write an OME-Zarr image with one level, 0.4 or 0.5."""
    path.mkdir(parents=True)
    steps = [{"type": "scale", "scale": list(scale)}, {"type": "translation", "translation": [3.0] * len(scale)}]
    datasets = [{"path": dataset, "coordinateTransformations": steps}]
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
