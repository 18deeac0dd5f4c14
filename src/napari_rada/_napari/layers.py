"""The edge between napari and the engine: the only module that looks into a layer or makes the data of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from napari.layers import Image

from napari_rada._napari.geometry import as_stored, grid_of_world, upright
from napari_rada._napari.voxels import VOXELS_KEY, are_as_read, file_holds, note_voxels
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.io.files import suffix_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_rada.data.case import NonFinite
    from napari_rada.data.grid import Affine
    from napari_rada.prediction import Explanation, Prediction

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]

SOURCE_KEY = "source"
"""Metadata: the file that the volume was read from, as text."""
GRID_KEY = "grid"
"""Metadata: `affine`, the file's own (4, 4); `shape` and `shown_as`, the layer's matrix, when it was made."""
SLICES_KEY = "annotated_slices"
"""Metadata of a Labels layer: a list of `{"axis": 0, "index": 91}` in array axes (0 = z, 1 = y, 2 = x)."""
CLASSES_KEY = "classes"
"""Metadata of a Labels layer: a list of `{"value": 1, "name": "liver", "prompt": "…"}`."""
PROVENANCE_KEY = "provenance"
"""Metadata of an output layer: where it comes from."""
IMAGE_KEY = "made_for"
"""Metadata of a Labels layer: the unique id, as text, of the Image layer that it was made for."""

NOT_IN_SPACE = frozenset({"c", "channel", "channels", "t", "time", "rgb"})
"""Labels of axes that are none of a volume's, in lower case."""

MASK, PROBABILITY, DISAGREEMENT = "mask", "probability", "disagreement"
OUTPUTS = (MASK, PROBABILITY, DISAGREEMENT)


# --- from layers to a case ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a case is made of, copied from the layers: later edits of the layers do not reach it.

    Make it in the main thread with `take_snapshot`; `to_case` may run in a worker.
    """

    name: str
    image: Any
    labels: NDArray[Any] | None
    slices: tuple[AnnotatedSlice, ...] | None
    grid: Grid
    source: Path | None
    classes: tuple[ClassInfo, ...] = ()
    labels_name: str | None = None
    as_read: bool = True
    """False if the voxels may no longer be those of `source`, which is looked up then."""

    def to_case(self, non_finite: NonFinite = "refuse") -> Case:
        """Load what is still on disk, check everything, and return the case; raises `InputError`."""
        image = np.asarray(self.image)
        of_file = self.source is not None and (self.as_read or file_holds(self.source, image))
        case = Case.create(
            image,
            self.labels,
            slices=self.slices,
            grid=self.grid,
            name=self.name,
            non_finite=non_finite,
            source=self.source if of_file else None,
            labels_name=self.labels_name,
        )
        if case.classes is None:
            return case
        return replace(case, classes=case.classes.with_names(self.classes))


def take_snapshot(
    image_layer: Image,
    labels_layer: Labels | None = None,
    slices: Sequence[AnnotatedSlice] | None = None,
    *,
    name: str | None = None,
) -> Snapshot:
    """Copy the layers' data and geometry.

    Arrays in memory are copied; lazy ones (dask, memory-mapped) are kept and read by `Snapshot.to_case`.

    Parameters
    ----------
    slices
        The annotated slices; None takes those in the Labels layer's metadata and, if there are none, detects them.

    Raises
    ------
    InputError
        If the image is not a single 3D volume, or the Labels layer does not lie on its voxels.
    """
    grid = grid_of(image_layer)
    pixels = full_resolution(image_layer)
    if isinstance(pixels, np.ndarray) and not isinstance(pixels, np.memmap):
        pixels = pixels.copy()
    source, as_read = source_of(image_layer), image_file(image_layer) is not None
    snapshot = Snapshot(name or str(image_layer.name), pixels, None, None, grid, source, as_read=as_read)
    if labels_layer is None:
        return snapshot
    check_aligned(image_layer, labels_layer)
    chosen = annotated_slices(labels_layer) or None if slices is None else tuple(slices)
    labels = np.array(full_resolution(labels_layer))
    infos, labels_name = class_infos(labels_layer), str(labels_layer.name)
    return replace(snapshot, labels=labels, slices=chosen, classes=infos, labels_name=labels_name)


def case_from_layers(
    image_layer: Image,
    labels_layer: Labels | None = None,
    slices: Sequence[AnnotatedSlice] | None = None,
    *,
    name: str | None = None,
    non_finite: NonFinite = "refuse",
) -> Case:
    """Turn an Image layer, and a Labels layer on the same voxels, into a case.

    Spacing and orientation come from scale, translate, rotate, shear, affine and units; nothing is resampled. Of a
    multiscale image the finest level is taken.

    Parameters
    ----------
    slices
        The annotated slices; None takes those in the Labels layer's metadata and, if there are none, detects them.
    name
        The case's name, by default the image layer's.

    Raises
    ------
    InputError
        If the image is not a single 3D volume, the layers do not lie on the same voxels, or `Case.create` refuses.
    """
    return take_snapshot(image_layer, labels_layer, slices, name=name).to_case(non_finite)


def full_resolution(layer: Image | Labels) -> Any:
    """Return a layer's array, of a multiscale layer the finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def is_lazy(layer: Image | Labels) -> bool:
    """Tell whether a layer is read in parts: multiscale, or of dask, zarr or a mapped file."""
    return bool(layer.multiscale) or not isinstance(layer.data, np.ndarray) or isinstance(layer.data, np.memmap)


def shape_of(layer: Image | Labels) -> tuple[int, int, int]:
    """Return (z, y, x) of a layer that holds a single 3D volume.

    Raises
    ------
    InputError
        If it holds anything else, with the remedy.
    """
    shape = tuple(int(size) for size in full_resolution(layer).shape)
    if getattr(layer, "rgb", False):
        raise InputError(
            f"Layer '{layer.name}' is an RGB image; one intensity per voxel is needed. "
            "Right-click it, choose Split RGB, and take one channel."
        )
    if len(shape) == 2:
        raise InputError(f"Layer '{layer.name}' is 2D {shape}; a 3D volume is needed. Open the whole stack instead.")
    if len(shape) != 3:
        raise InputError(
            f"Layer '{layer.name}' has {len(shape)} dimensions {shape}; a single 3D volume is needed. "
            "Right-click it, choose Split Stack, and take one channel or time point."
        )
    for label in layer.axis_labels:
        if label.lower() in NOT_IN_SPACE:
            raise InputError(
                f"Axis '{label}' of layer '{layer.name}' {shape} is no direction in space; a single 3D volume is "
                "needed. Open the whole stack of one channel or time point, or correct the layer's axis labels."
            )
    return (shape[0], shape[1], shape[2])


def world_matrix(layer: Image | Labels) -> Affine:
    """(4, 4) from voxel index (z, y, x, 1) to world millimetres, with all of the layer's transforms and its units."""
    origin = np.asarray(layer.data_to_world((0.0, 0.0, 0.0)))
    columns = [np.asarray(layer.data_to_world(tuple(unit))) - origin for unit in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack(columns)
    matrix[:3, 3] = origin
    millimetres = [_millimetres(unit, str(layer.name)) for unit in layer.units]
    return np.asarray(np.diag([*millimetres, 1.0]) @ matrix)


def grid_of(layer: Image | Labels) -> Grid:
    """Return the voxel grid of a layer: the file's own while the layer is shown as it was read.

    Raises
    ------
    InputError
        If the layer is not a single 3D volume, or an axis is not a length.
    """
    shape, matrix = shape_of(layer), world_matrix(layer)
    found = _grid_of_file(layer, shape, matrix)
    if found is not None:
        return found
    known = layer.metadata.get(GRID_KEY) or {}
    return replace(grid_of_world(shape, matrix), oriented=known.get("oriented", False))


def check_aligned(image_layer: Image | Labels, labels_layer: Labels) -> None:
    """Raise `InputError` unless both layers put the same voxel at the same place."""
    image_shape, labels_shape = shape_of(image_layer), shape_of(labels_layer)
    pair = f"Labels layer '{labels_layer.name}' does not fit image '{image_layer.name}'"
    if image_shape != labels_shape:
        raise InputError(f"{pair}: it has {labels_shape} voxels, not {image_shape}. Press 'New labels' to make one.")
    image_matrix, labels_matrix = world_matrix(image_layer), world_matrix(labels_layer)
    tolerance = 0.01 * float(np.linalg.norm(image_matrix[:3, :3], axis=0).min())
    corners = np.array([[z, y, x, 1] for z in (0, 1) for y in (0, 1) for x in (0, 1)]).T
    corners[:3] *= np.asarray(image_shape)[:, None] - 1
    distance = float(np.linalg.norm(((image_matrix - labels_matrix) @ corners)[:3], axis=0).max())
    if distance > tolerance:
        raise InputError(
            f"{pair}: scale, translation or orientation differ, a corner lies {distance:.3g} mm off. "
            "Press 'New labels' to make a layer that fits."
        )


def source_of(layer: Image | Labels) -> Path | None:
    """Return the file on whose voxels the layer lies, if it is still there and the layer was not moved or cut since."""
    source = layer.metadata.get(SOURCE_KEY)
    if not source or not _is_as_read(layer):
        return None
    return Path(source) if Path(source).is_file() else None


def image_file(layer: Image) -> Path | None:
    """Return the file of an image, None also where its voxels were replaced since they were read."""
    return source_of(layer) if are_as_read(layer.metadata, full_resolution(layer)) else None


def suffix_beside(layer: Image | Labels) -> str:
    """Return the suffix of a file that is shown where the layer lies: stacks are shown as stored, others upright."""
    return ".tif" if _is_stack(source_of(layer)) else ".nii.gz"


def _is_stack(file: Path | None) -> bool:
    return file is not None and suffix_of(file).lower() in (".tif", ".tiff")


def _is_as_read(layer: Image | Labels) -> bool:
    try:
        return _grid_of_file(layer, shape_of(layer), world_matrix(layer)) is not None
    except InputError:
        return False


def _grid_of_file(layer: Image | Labels, shape: tuple[int, int, int], matrix: Affine) -> Grid | None:
    """Return the file's own grid while the layer is shown as it was read, else None."""
    known = layer.metadata.get(GRID_KEY)
    if known is None or tuple(known["shape"]) != shape:
        return None
    if not np.allclose(matrix, known["shown_as"], rtol=1e-6, atol=1e-9):
        return None
    return Grid(shape, np.asarray(known["affine"], dtype=np.float64), known.get("oriented", True))


def _millimetres(unit: Any, name: str) -> float:
    """Millimetres per unit; a pixel, napari's default, counts as one."""
    quantity = 1.0 * unit
    if quantity.check("[length]"):
        return float(quantity.to("mm").magnitude)
    if str(unit) in ("pixel", "dimensionless", ""):
        return 1.0
    raise InputError(
        f"Layer '{name}' has an axis in {unit}; all three axes must be lengths. Correct the layer's units."
    )


# --- annotated slices -----------------------------------------------------------------------------------------------


def annotated_slices(layer: Labels) -> tuple[AnnotatedSlice, ...]:
    """Return the planes marked as annotated in the layer's metadata, sorted."""
    return tuple(sorted(AnnotatedSlice(int(s["axis"]), int(s["index"])) for s in layer.metadata.get(SLICES_KEY, ())))


def set_annotated_slices(layer: Labels, slices: Sequence[AnnotatedSlice]) -> None:
    """Write the planes marked as annotated into the layer's metadata."""
    layer.metadata[SLICES_KEY] = slices_metadata(slices)


def slices_metadata(slices: Sequence[AnnotatedSlice]) -> list[dict[str, int]]:
    """Return annotated slices as plain data."""
    return [{"axis": plane.axis, "index": plane.index} for plane in sorted(slices)]


def class_infos(layer: Labels) -> tuple[ClassInfo, ...]:
    """Return the classes that were named in the layer's metadata, without background, sorted by value."""
    entries = layer.metadata.get(CLASSES_KEY, ())
    infos = [ClassInfo(int(e["value"]), str(e["name"]), str(e.get("prompt", ""))) for e in entries]
    return tuple(sorted((info for info in infos if info.value > 0), key=lambda info: info.value))


def set_class_infos(layer: Labels, infos: Sequence[ClassInfo]) -> None:
    """Write the classes into the layer's metadata."""
    layer.metadata[CLASSES_KEY] = classes_metadata(infos)


def classes_metadata(infos: Sequence[ClassInfo]) -> list[dict[str, int | str]]:
    """Return classes as plain data, without background."""
    return [{"value": info.value, "name": info.name, "prompt": info.prompt} for info in infos if info.value > 0]


def open_images(viewer: ViewerModel) -> list[Image]:
    """Return the image layers, outputs of this plugin left out, bottom first."""
    return [layer for layer in viewer.layers if isinstance(layer, Image) and not is_output(layer)]


def selected_images(viewer: ViewerModel) -> list[Image]:
    """Return those of the open images that are selected in the layer list."""
    return [layer for layer in open_images(viewer) if layer in viewer.layers.selection]


def lies_on(image_layer: Image | Labels, labels_layer: Labels) -> bool:
    """Tell whether both layers put the same voxel at the same place."""
    try:
        check_aligned(image_layer, labels_layer)
    except InputError:
        return False
    return True


def is_output(layer: Image | Labels) -> bool:
    """Tell whether the layer was made by this plugin out of a prediction."""
    return PROVENANCE_KEY in layer.metadata


# --- from volumes and predictions to layers -------------------------------------------------------------------------


def placement_of_grid(grid: Grid, source: Path | None = None) -> dict[str, Any]:
    """Layer settings that show a volume of `grid`: scale, affine, units, axis labels, and metadata with the source."""
    placement = as_stored(grid) if _is_stack(source) else upright(grid)
    known = {
        "shape": grid.shape,
        "affine": grid.affine.tolist(),
        "oriented": grid.oriented,
        "shown_as": placement.matrix.tolist(),
    }
    metadata: dict[str, Any] = {GRID_KEY: known}
    if source is not None:
        metadata[SOURCE_KEY] = str(source)
    return {
        "scale": placement.scale,
        "affine": placement.affine,
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
        "metadata": metadata,
    }


def placement_of_layer(layer: Image | Labels, **metadata: Any) -> dict[str, Any]:
    """Copy of a layer's whole placement: every transform, units, axis labels, and its metadata with additions."""
    own = (SLICES_KEY, CLASSES_KEY, PROVENANCE_KEY, VOXELS_KEY)
    kept = {key: value for key, value in layer.metadata.items() if key not in own}
    return {
        "scale": np.array(layer.scale),
        "translate": np.array(layer.translate),
        "rotate": np.array(layer.rotate),
        "shear": np.array(layer.shear),
        "affine": np.array(layer.affine.affine_matrix),
        "units": tuple(layer.units),
        "axis_labels": tuple(layer.axis_labels),
        "metadata": {**kept, **metadata},
    }


def case_to_layer_data(case: Case) -> list[LayerData]:
    """Show a case: its image and, if it is labelled, its sparse labels with the annotated slices in the metadata."""
    place = placement_of_grid(case.grid, case.source)
    shown = {**place, "metadata": {**place["metadata"], **note_voxels(case.image)}}
    layers: list[LayerData] = [(case.image, {"name": case.name, **shown}, "image")]
    if case.labels is not None:
        metadata = {**place["metadata"], SLICES_KEY: slices_metadata(case.annotated)}
        if case.classes is not None:
            metadata[CLASSES_KEY] = classes_metadata(case.classes.classes)
        layers.append((case.labels, {**place, "name": labels_name_of(case), "metadata": metadata}, "labels"))
    return layers


def labels_name_of(case: Case) -> str:
    """Return what the Labels layer of a case is called, also if it never had one."""
    return case.labels_name or f"{case.name} labels"


def new_labels_data(image_layer: Image) -> LayerData:
    """Return an empty Labels layer on the image's voxels; a brush in it stays inside the slice shown."""
    shape = shape_of(image_layer)
    place = placement_of_layer(image_layer, **{SLICES_KEY: [], IMAGE_KEY: str(image_layer.unique_id)})
    return (np.zeros(shape, dtype=np.uint8), {"name": f"{image_layer.name} labels", **place}, "labels")


def prediction_to_layer_data(
    prediction: Prediction, image_layer: Image, outputs: Sequence[str] = (MASK,)
) -> list[LayerData]:
    """Turn a prediction into new layers that lie exactly on the image layer.

    Parameters
    ----------
    outputs
        Any of `mask`, `probability` (one layer per foreground class) and `disagreement`; what the prediction does
        not have is left out.

    Raises
    ------
    InputError
        If the image layer's voxels are not those that were predicted.
    """
    _check_voxels(prediction.mask.shape, image_layer, "The prediction", "predict again")
    stem = str(image_layer.name)
    place = placement_of_layer(image_layer, **{PROVENANCE_KEY: dict(prediction.provenance)})
    layers: list[LayerData] = []
    if MASK in outputs:
        layers.append((prediction.mask, {"name": f"{stem} mask", **place}, "labels"))
    if PROBABILITY in outputs:
        layers += _probability_layers(prediction, stem, place)
    if DISAGREEMENT in outputs and prediction.disagreement is not None:
        layers.append(_heat_layer(prediction.disagreement, f"{stem} disagreement", "inferno", place))
    return [(data, _own_metadata(settings), kind) for data, settings, kind in layers]


def explanation_to_layer_data(explanation: Explanation, image_layer: Image) -> LayerData:
    """Turn where the networks look for a class into an Image layer that lies exactly on the image layer.

    Raises
    ------
    InputError
        If the image layer's voxels are not those that were looked at.
    """
    _check_voxels(explanation.heat.shape, image_layer, "The map of where the networks look", "ask for it again")
    provenance = {**explanation.provenance, "class": explanation.class_name}
    place = placement_of_layer(image_layer, **{PROVENANCE_KEY: provenance})
    return _heat_layer(explanation.heat, f"{image_layer.name} looked at for {explanation.class_name}", "magma", place)


def _check_voxels(shape: tuple[int, ...], image_layer: Image, what: str, remedy: str) -> None:
    """Raise `InputError` unless the image layer has `shape` (z, y, x)."""
    present = shape_of(image_layer)
    if shape != present:
        raise InputError(f"{what} has {shape} voxels, but layer '{image_layer.name}' has {present} now; {remedy}.")


def _probability_layers(prediction: Prediction, stem: str, place: dict[str, Any]) -> list[LayerData]:
    classes = prediction.classes.classes[1:]
    if len(classes) == 1:
        return [_heat_layer(prediction.foreground, f"{stem} probability", "viridis", place)]
    return [
        _heat_layer(prediction.probability[index], f"{stem} probability of {info.name}", "viridis", place)
        for index, info in enumerate(classes, start=1)
    ]


def _heat_layer(values: NDArray[np.float32], name: str, colormap: str, place: dict[str, Any]) -> LayerData:
    """Show a map from 0 to its highest value over the image; what is 0 stays clear."""
    top = max(float(values.max(initial=0.0)), 0.01)
    look = {"colormap": colormap, "contrast_limits": (0.0, top), "blending": "additive", "opacity": 0.6}
    return (values, {"name": name, **place, **look}, "image")


def _own_metadata(settings: dict[str, Any]) -> dict[str, Any]:
    """Give each layer a metadata dictionary of its own, so that a note on one is no note on the others."""
    return {**settings, "metadata": dict(settings["metadata"])}
