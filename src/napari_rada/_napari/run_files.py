"""A run folder back into the viewer: its layers, settings and curve, also after napari was restarted."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels

from napari_rada import io
from napari_rada._napari.autosave import latest_autosave
from napari_rada._napari.kept_names import keep_as, kept_name
from napari_rada._napari.layers import (
    annotated_slices,
    case_to_layer_data,
    full_resolution,
    grid_of,
    image_file,
    is_output,
    lies_on,
    open_images,
    source_of,
)
from napari_rada._napari.pairing import image_of, note_image
from napari_rada._napari.preview import add_layers
from napari_rada.data.classes import MAX_LABEL, ClassInfo, ClassTable, label_dtype
from napari_rada.errors import InputError, RunFolderError
from napari_rada.io.annotations import read_classes, to_array

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_rada._napari.layers import LayerData
    from napari_rada.config import RunConfig
    from napari_rada.data.case import Case
    from napari_rada.events import StepLogged, Validated
    from napari_rada.training.run_folder import RunFolder


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """What a run folder gives back.

    Parameters
    ----------
    cases
        Each with the labels, if it was annotated, as they were last painted.
    steps, validations
        The curve, that of continued runs included.
    can_predict
        True if there is a checkpoint.
    """

    path: Path
    config: RunConfig
    cases: tuple[Case, ...]
    steps: tuple[StepLogged, ...]
    validations: tuple[Validated, ...]
    can_predict: bool

    @property
    def layers(self) -> tuple[tuple[LayerData, ...], ...]:
        """Per case: the image and, if it was annotated, the labels."""
        return tuple(tuple(case_to_layer_data(case)) for case in self.cases)


def load_run(folder: RunFolder) -> LoadedRun:
    """Read a run folder; takes as long as reading its images.

    Raises
    ------
    RunFolderError
        If it is damaged, or an image has changed since.
    InputError
        If an image cannot be read.
    """
    from napari_rada.training.snapshot import load_cases

    config = folder.config()
    return LoadedRun(
        folder.path,
        config,
        tuple(_latest(folder, case) for case in load_cases(folder, config)),
        tuple(folder.steps()),
        tuple(folder.validations()),
        folder.last_checkpoint.exists(),
    )


def classes_of_run(run_dir: Path) -> tuple[ClassInfo, ...]:
    """Return the foreground classes of a run, from a small file of its folder; raises `RunFolderError`."""
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.snapshot import load_classes

    return load_classes(RunFolder.open(run_dir)).classes[1:]


def _latest(folder: RunFolder, case: Case) -> Case:
    """Return the case with its labels as they were last painted, if they were saved after Start."""
    path = latest_autosave(folder.path, case)
    if path is None:
        return case
    volume = io.read_volume(path)
    slices = io.read_sidecar(path) or ()
    painted = volume.array.astype(label_dtype(volume.array, MAX_LABEL))
    infos = [*(case.classes.classes if case.classes else ()), *read_classes(path)]
    found = [value for value in np.unique(painted) if 0 <= value <= MAX_LABEL]  # others are no class, but stay painted
    classes = ClassTable.from_values([*found, *(info.value for info in infos)]).with_names(infos)
    annotated = tuple(sorted(to_array(slices, volume)))
    return replace(case, labels=painted, annotated=annotated, classes=classes)


def show_scans(viewer: ViewerModel, run: LoadedRun) -> dict[Image, Labels | None]:
    """Return the layers of a run's cases, an image and, if it was annotated, its labels; those not open are added."""
    scans: dict[Image, Labels | None] = {}
    for case, (image_data, *labels_data) in zip(run.cases, run.layers, strict=True):
        image = open_image(viewer, case, run.path) or add_layers(viewer, [image_data])[0]
        scans[image] = None
        for data in labels_data:
            labels = open_labels(viewer, image, str(data[1]["name"])) or add_layers(viewer, [data])[0]
            note_image(labels, image)
            keep_as(labels, str(data[1]["name"]), viewer.layers)
            scans[image] = labels
    return scans


def open_image(viewer: ViewerModel, case: Case, run_dir: Path) -> Image | None:
    """Return the open layer that shows the image of a run's case: of its name, on its grid and from its file.

    An image that came from no file is known by its voxels, of which the run folder holds a copy.
    """
    named = [layer for layer in open_images(viewer) if _is_called(layer, case.name)]
    return next((layer for layer in named if _shows(layer, case, run_dir)), None)


def open_labels(viewer: ViewerModel, image: Image, name: str) -> Labels | None:
    """Return the open annotation of an image, kept under this name: it is newer than any file, unless it is empty.

    One that has no such name yet goes by that which it is called.
    """
    layers = [layer for layer in viewer.layers if isinstance(layer, Labels) and not is_output(layer)]
    fitting = [layer for layer in layers if _is_kept_as(layer, name) and lies_on(image, layer)]
    own = [layer for layer in fitting if image_of(layer, open_images(viewer)) in (image, None)]
    return next((layer for layer in own if annotated_slices(layer) or np.any(full_resolution(layer))), None)


def labels_of_run(viewer: ViewerModel, image: Image, run_dir: Path) -> Labels | None:
    """Return the open annotation of an image that a run learned from, None if there is none or the run is gone."""
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.snapshot import load_labels_names

    try:
        names = load_labels_names(RunFolder.open(run_dir))
    except RunFolderError:
        return None
    only = next(iter(names.values())) if len(names) == 1 else None  # also if the image was renamed since
    name = names.get(str(image.name), only)
    return None if name is None else open_labels(viewer, image, name)


def _is_kept_as(layer: Labels, name: str) -> bool:
    kept = kept_name(layer)
    return _is_called(layer, name) if kept is None else kept == name


def _is_called(layer: Image | Labels, name: str) -> bool:
    """Tell whether a layer has this name, also where the viewer numbered it because another one had it too."""
    return re.fullmatch(rf"{re.escape(name)}( \[\d+\])?", str(layer.name)) is not None


def _shows(layer: Image, case: Case, run_dir: Path) -> bool:
    try:
        grid, source = grid_of(layer), image_file(layer)
    except InputError:
        return False
    if case.source is None or not grid.matches(case.grid):
        return False
    if source is not None:
        return source.resolve() == case.source.resolve()
    source = source_of(layer)  # of a copy of a layer that was read from the file
    held = source is not None and source.resolve() == case.source.resolve()
    copied = held or case.source.resolve().is_relative_to(run_dir.resolve())
    return copied and np.array_equal(np.asarray(full_resolution(layer), dtype=np.float32), case.image)
