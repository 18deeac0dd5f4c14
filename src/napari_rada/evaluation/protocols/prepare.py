"""Bringing published scans to the form that a protocol trains on: cropped, resampled, NIfTI, in one folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from scipy import ndimage

from napari_rada.data.grid import Grid
from napari_rada.durable import write_text
from napari_rada.errors import InputError
from napari_rada.evaluation.protocols.sources import read_source
from napari_rada.events import Listener, Stage, StageProgress, ignore
from napari_rada.io import write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.grid import Shape, Spacing
    from napari_rada.evaluation.protocols.definitions import ProtocolDefinition
    from napari_rada.evaluation.protocols.sources import RawScan, Source

Crop: TypeAlias = Literal["label", "none"]
MARGIN_VOXELS = 25
"""Left around the structure when a scan is cropped (lineage: 10 to 25 voxels)."""
STATEMENT = "prepared.json"


@dataclass(frozen=True)
class Preparation:
    """How scans are prepared.

    Parameters
    ----------
    definition
        The protocol.
    crop
        ``label``: to the box around the structure and a margin, test scans included, as the lineage does: it uses the
        labels of the test scans to find their place. ``none``: not at all.
    voxel
        mm along (z, y, x) of files that do not tell; that of the protocol by default.
    """

    definition: ProtocolDefinition
    crop: Crop = "label"
    voxel: Spacing | None = None

    def describe(self) -> dict[str, object]:
        """Return what decides the prepared files, in plain data."""
        return {
            "protocol": self.definition.name,
            "crop": self.crop,
            "voxel": self.voxel or self.definition.voxel,
            "resample": self.definition.resample,
            "margin": MARGIN_VOXELS,
        }


def prepare(
    sources: Sequence[Source],
    folder: Path,
    preparation: Preparation,
    *,
    control: RunControl,
    listener: Listener = ignore,
) -> None:
    """Write ``NAME_image.nii.gz`` and ``NAME_label.nii.gz`` of every scan that the folder does not hold yet.

    Raises
    ------
    InputError
        If the folder was prepared in another way, or a scan cannot be used.
    Stopped
        If a stop was requested; finished scans are kept.
    """
    _check_same(folder / STATEMENT, preparation)
    for number, source in enumerate(sources):
        listener(StageProgress(Stage.PREPARE, number, len(sources), source.name))
        control.check()
        image, labels = folder / f"{source.name}_image.nii.gz", folder / f"{source.name}_label.nii.gz"
        if image.exists():  # written last
            continue
        array, classes, grid = prepared(read_source(source), source, preparation)
        if classes is not None:
            write_volume(labels, classes, grid)
        write_volume(image, array, grid)
    listener(StageProgress(Stage.PREPARE, len(sources), len(sources)))


def prepared(
    scan: RawScan, source: Source, preparation: Preparation
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, Grid]:
    """Crop and resample one scan.

    Returns
    -------
    image, labels, grid
        (z, y, x); labels hold 1, 2, … in the order of the protocol's structures, None if the scan has none.

    Raises
    ------
    InputError
        If a labelled scan does not hold the structure.
    """
    definition = preparation.definition
    spacing = scan.spacing or preparation.voxel or definition.voxel
    image, labels = np.asarray(scan.image, dtype=np.float32), None
    if scan.labels is not None:
        labels = np.zeros(image.shape, np.uint8)
        for value, found in enumerate(definition.structures.values(), start=1):
            labels[np.isin(scan.labels, found)] = value
        if not labels.any():
            raise InputError(f"{source.labels} holds no {' or '.join(definition.structures)}; leave the scan out.")
        if preparation.crop == "label":
            box = _box(labels, spacing, definition)
            image, labels = image[box], labels[box]
    target = definition.resample
    if target is not None and not np.allclose(spacing, target, rtol=1e-3):
        factors = [own / wanted for own, wanted in zip(spacing, target, strict=True)]
        image = ndimage.zoom(image, factors, order=1, mode="nearest", grid_mode=True)
        labels = None if labels is None else ndimage.zoom(labels, factors, order=0, mode="nearest", grid_mode=True)
        spacing = target
    shape: Shape = (image.shape[0], image.shape[1], image.shape[2])
    return np.ascontiguousarray(image), labels, Grid.from_spacing(shape, spacing)


def _box(labels: NDArray[np.uint8], spacing: Spacing, definition: ProtocolDefinition) -> tuple[slice, ...]:
    """Box around the structure and the margin, as large as a patch where the scan is."""
    target = definition.resample or spacing
    box = []
    for axis in range(3):
        found = np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis)))
        scale = target[axis] / spacing[axis]
        margin = MARGIN_VOXELS * scale
        missing = definition.patch[axis] * scale - (found[-1] + 1 - found[0] + 2 * margin)
        margin += max(0.0, missing) / 2
        box.append(slice(max(0, int(found[0] - margin)), int(np.ceil(found[-1] + 1 + margin))))
    return tuple(box)


def _check_same(statement: Path, preparation: Preparation) -> None:
    text = json.dumps(preparation.describe(), indent=1)
    if statement.exists() and statement.read_text(encoding="utf-8") != text:
        raise InputError(f"{statement.parent} was prepared in another way; choose another output folder.")
    write_text(statement, text)
