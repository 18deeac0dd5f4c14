"""Scans with dense labels: finding them in a folder, and making the case of a person who annotates a few slices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_rada.data.case import Case
from napari_rada.errors import InputError
from napari_rada.evaluation.metrics import evaluate_masks
from napari_rada.evaluation.sparse import largest_slices
from napari_rada.io import check_same_grid, read_volume, stem_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.classes import ClassTable
    from napari_rada.data.grid import Spacing

LABEL_SUFFIX = "_label"


class ScanFiles(NamedTuple):
    """A scan and its dense labels."""

    name: str
    image: Path
    labels: Path


def find_scans(folder: Path | str) -> list[ScanFiles]:
    """Pair each ``NAME_label.*`` of a folder with the one other file whose name starts with ``NAME_``.

    Raises
    ------
    InputError
        If there is no such pair, or more than one image fits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one that holds images and their dense labels.")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    scans = []
    for labels in files:
        if not stem_of(labels).endswith(LABEL_SUFFIX):
            continue
        name = stem_of(labels).removesuffix(LABEL_SUFFIX)
        images = [path for path in files if path != labels and stem_of(path).startswith(f"{name}_")]
        if len(images) != 1:
            raise InputError(f"{labels}: {len(images)} files fit as its image; exactly one must be called {name}_….")
        scans.append(ScanFiles(name, images[0], labels))
    if not scans:
        raise InputError(f"{folder} holds no file called NAME{LABEL_SUFFIX}; dense labels are needed to measure.")
    return scans


def load_scan(scan: ScanFiles) -> tuple[Case, NDArray[np.uint16]]:
    """Read a scan as a case with the slice of largest area per axis annotated, and its dense labels (z, y, x).

    The slices are chosen by all classes together.
    """
    image, labels = read_volume(scan.image), read_volume(scan.labels)
    check_same_grid(labels, image)
    slices = largest_slices(labels.array)
    dense = labels.array.astype(np.uint16)
    return Case.create(image.array, dense, slices=slices, grid=image.grid, name=scan.name), dense


def scores(
    mask: NDArray[np.integer], dense: NDArray[np.integer], spacing: Spacing, classes: ClassTable
) -> tuple[float, float]:
    """Dice and HD95 in mm, mean over the foreground classes."""
    per_class = evaluate_masks(mask, dense, spacing, classes)
    return float(np.mean([m.dice for m in per_class])), float(np.mean([m.hd95_mm for m in per_class]))
