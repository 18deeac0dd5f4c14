"""napari's reader and writer for NIfTI volumes and TIFF stacks."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_info

from napari_rada._napari.layers import (
    CLASSES_KEY,
    SLICES_KEY,
    annotated_slices,
    class_infos,
    classes_metadata,
    full_resolution,
    grid_of,
    placement_of_grid,
    slices_metadata,
    source_of,
)
from napari_rada._napari.voxels import note_voxels
from napari_rada.data.classes import label_dtype
from napari_rada.errors import RadaError
from napari_rada.io import check_output, check_result, read_sidecar, read_volume, stem_of, suffix_of, write_volume
from napari_rada.io.annotations import read_classes, to_array, write_annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_rada._napari.layers import LayerData
    from napari_rada.data.classes import ClassInfo
    from napari_rada.data.grid import Grid
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.io import Volume

Paths: TypeAlias = "str | Sequence[str]"

LABEL_WORDS = {"label", "labels", "seg", "segmentation", "mask", "annotation", "annotations"}
"""A file of whole numbers with one of these words in its name, or whose header says so, is opened as labels."""

GEOMETRY = ("name", "scale", "translate", "rotate", "shear", "affine", "units", "axis_labels", "metadata")


class _Content(NamedTuple):
    """What is written of a layer."""

    array: NDArray[Any]
    grid: Grid
    source: Path | None
    planes: tuple[AnnotatedSlice, ...]
    infos: list[ClassInfo]

    @classmethod
    def of(cls, layer: Any) -> _Content:
        grid, infos = grid_of(layer), [info for info in class_infos(layer) if info.is_named]
        return cls(np.asarray(full_resolution(layer)), grid, source_of(layer), annotated_slices(layer), infos)


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Return the reader if every path is a NIfTI or TIFF file."""
    return read_layers if all(suffix_of(file) for file in _files(path)) else None


def read_layers(path: Paths) -> list[LayerData]:
    """Read each file into one layer; raises `InputError` for a file that is not one 3D volume."""
    return [_layer_of_file(file) for file in _files(path)]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one Labels layer in the geometry of its source file, or of the layer if there is none.

    A NIfTI header says that these are labels; annotated slices and named classes are written beside it. Returns the
    files written; errors as `write_image`.
    """
    return _written(path, data, attributes, labels=True)


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one Image layer in the geometry of its source file, or of the layer if there is none.

    Returns the files written.

    Raises
    ------
    OSError
        If the layer is not a single 3D volume, or a source or an annotation would be overwritten. It is no
        `RadaError`, because napari takes a ValueError for a missing writer and hides the sentence.
    """
    return _written(path, data, attributes, labels=False)


def take_labels(layer: Labels) -> Callable[[Path], list[Path]]:
    """Copy what a Labels layer holds now, in the main thread; raises `InputError` if it is not a single 3D volume.

    The function that is returned writes the copy as `write_labels` does, in any thread, but raises `InputError`.
    """
    content = _Content.of(layer)
    return partial(_write, content=content._replace(array=content.array.copy()), labels=True)


def _written(path: str, data: Any, attributes: dict[str, Any], *, labels: bool) -> list[str]:
    try:
        return [str(file) for file in _write(Path(path), _Content.of(_bare_layer(data, attributes)), labels=labels)]
    except RadaError as error:
        raise OSError(str(error)) from error


def _write(file: Path, content: _Content, *, labels: bool) -> list[Path]:
    array, grid, source, planes, infos = content
    inputs = [] if source is None else [source]
    # A sidecar with slices stays where none are ticked: it is that of another file of this name, or they would be lost.
    described = bool(planes) or (bool(infos) and read_sidecar(file) is None)
    file = check_output(file, inputs) if described else check_result(file, inputs)
    if described:
        return [file, write_annotation(file, _compact(array), grid, source, slices=planes or None, classes=infos)]
    write_volume(file, _compact(array), grid, source, labels=labels)
    return [file]


def _files(path: Paths) -> list[Path]:
    return [Path(path)] if isinstance(path, str) else [Path(one) for one in path]


def _layer_of_file(file: Path) -> LayerData:
    volume = read_volume(file)
    for note in volume.notes:
        show_info(note)
    place = placement_of_grid(volume.grid, file)
    if not volume.calibrated:
        place["units"] = ("pixel",) * 3
    settings = {"name": stem_of(file), **place}
    slices, infos = read_sidecar(file), read_classes(file)
    if slices is not None:
        settings["metadata"][SLICES_KEY] = slices_metadata(to_array(slices, volume))
    if infos:
        settings["metadata"][CLASSES_KEY] = classes_metadata(infos)
    if slices is not None or (infos and _is_whole(volume.array)) or _looks_like_labels(volume):
        return (volume.array.astype(label_dtype(volume.array, *(info.value for info in infos))), settings, "labels")
    settings["metadata"] |= note_voxels(volume.array)
    return (volume.array, settings, "image")


def _looks_like_labels(volume: Volume) -> bool:
    named = LABEL_WORDS & set(re.split(r"[^a-z]+", stem_of(volume.path).lower()))
    return (volume.labels or bool(named)) and _is_whole(volume.array)


def _is_whole(array: NDArray[Any]) -> bool:
    if array.dtype.kind != "f":
        return True
    return bool(np.isfinite(array).all() and (array == np.round(array)).all())


def _bare_layer(data: Any, attributes: dict[str, Any]) -> Any:
    """Make a layer of the data with its geometry and nothing else, so that one function reads the geometry of both."""
    kept = {key: attributes[key] for key in GEOMETRY if key in attributes}
    kept |= {key: attributes[key] for key in ("rgb", "multiscale") if attributes.get(key)}
    return Layer.create(data, {**kept, "contrast_limits": (0, 1)}, "image")


def _compact(array: NDArray[Any]) -> NDArray[Any]:
    """Store whole numbers in the smallest integer type: napari's own Labels layers are wide integers."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    return array.astype(label_dtype(array)) if array.dtype.kind in "ui" and array.dtype.itemsize > 2 else array
