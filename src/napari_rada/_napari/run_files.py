"""A run folder back into the viewer: its layers, settings and curve, also after napari was restarted."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada import io
from napari_rada._napari.layers import case_to_layer_data
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.io.annotations import read_classes, to_array, write_sidecar

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada._napari.layers import LayerData
    from napari_rada.config import RunConfig
    from napari_rada.data.case import Case
    from napari_rada.data.grid import Grid
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import StepLogged, Validated
    from napari_rada.training.run_folder import RunFolder

AUTOSAVE = "autosave"
"""Folder, inside a run folder, of the labels as they were last painted."""


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """What a run folder gives back.

    Parameters
    ----------
    layers
        Per case: the image and, if it was annotated, the labels as they were last painted.
    steps, validations
        The curve, that of continued runs included.
    can_predict
        True if there is a checkpoint.
    """

    path: Path
    config: RunConfig
    layers: tuple[tuple[LayerData, ...], ...]
    steps: tuple[StepLogged, ...]
    validations: tuple[Validated, ...]
    can_predict: bool


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
    layers = []
    for case in load_cases(folder, config):
        latest = _latest(folder, case)
        layers.append(tuple(case_to_layer_data(latest)))
    return LoadedRun(
        folder.path,
        config,
        tuple(layers),
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
    path = autosave_path(folder.path, case.name)
    if not path.exists():
        return case
    volume = io.read_volume(path)
    slices = io.read_sidecar(path) or ()
    painted = volume.array.astype(np.uint16)
    infos = [*(case.classes.classes if case.classes else ()), *read_classes(path)]
    classes = ClassTable.from_values([*np.unique(painted), *(info.value for info in infos)]).with_names(infos)
    annotated = tuple(sorted(to_array(slices, volume)))
    return replace(case, labels=painted, annotated=annotated, classes=classes)


def autosave_path(folder: Path, name: str) -> Path:
    """Return where the labels of a case called `name` are saved under a folder."""
    return folder / AUTOSAVE / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)[:80]}_labels.nii.gz"


def autosave(
    path: Path,
    labels: NDArray[Any],
    slices: tuple[AnnotatedSlice, ...],
    grid: Grid,
    classes: tuple[ClassInfo, ...] = (),
) -> None:
    """Write labels and their annotated slices, whole or not at all; raises `InputError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    smallest = np.min_scalar_type(int(labels.max(initial=0)))
    io.write_volume(path, labels.astype(smallest), grid, None)
    write_sidecar(path, slices, classes)
