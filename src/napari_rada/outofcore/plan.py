"""What is settled once for all chunks of a prediction, and kept beside the result, so that it can be gone on with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from math import prod
from operator import index as index_of
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.data.box import box_shape
from napari_rada.data.working import grid_factors
from napari_rada.durable import write_text
from napari_rada.errors import InputError
from napari_rada.io.chunked import REMEDY, make_folder
from napari_rada.io.lazy import files_of
from napari_rada.memory import GIB
from napari_rada.text import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_rada.data.box import Box
    from napari_rada.data.grid import Shape, Spacing
    from napari_rada.data.resampling import Factors
    from napari_rada.io.lazy import LazyVolume
    from napari_rada.training.trained import TrainedNetworks

FOLDER = ".napari-rada"
"""Beside the arrays of a result: the plan, and what is in between."""
CHUNK = 128
"""Voxels per side of a stored chunk, unless others are asked for, from `SMALLEST_CHUNK` to `LARGEST_CHUNK`."""
SMALLEST_CHUNK, LARGEST_CHUNK = 16, 1024
SAMPLES = 3
"""Places per axis at which a volume is looked at to recognise it."""
SAMPLE = 16
"""Voxels per side of such a place."""
COPIED = 256
"""Voxels per side, about, of what is read for one chunk of the coarser copy."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a chunk becomes.

    Parameters
    ----------
    networks, scan
        Hashes: of the weights and settings; of the volume's shape, type, files and voxels at a few places.
    shape, spacing
        Voxels, and mm, along (z, y, x).
    box
        The part of the volume that was scanned, which the working grid covers; all else is background.
    factors
        Voxels per voxel of the working grid, which the networks see.
    low, high
        Intensities that become 0 and 1.
    replacement
        Stands for NaN and infinity.
    chunk
        Side of the stored chunks, voxels.
    unit
        What is predicted at once, voxels of the grid that is predicted.
    probability
        Where the probability is kept too; empty if nowhere.
    """

    networks: str
    scan: str
    shape: Shape
    spacing: Spacing
    box: Box
    factors: Factors
    low: float
    high: float
    replacement: float
    chunk: int
    unit: Shape
    probability: str

    def __post_init__(self) -> None:
        triples = (self.shape, self.factors, self.unit)
        whole = all(len(triple) == 3 and all(type(n) is int and n > 0 for n in triple) for triple in triples)
        start, end = self.box
        corners = zip(start, end, self.shape, strict=True)
        numbers = (*self.spacing, self.low, self.high, self.replacement)
        texts = (self.networks, self.scan, self.probability)
        if not (
            whole
            and all(type(a) is type(b) is int and 0 <= a < b <= size for a, b, size in corners)
            and len(self.spacing) == 3
            and np.isfinite(numbers).all()
            and min(self.spacing) > 0
            and type(self.chunk) is int
            and SMALLEST_CHUNK <= self.chunk <= LARGEST_CHUNK
            and all(isinstance(text, str) for text in texts)
        ):
            raise ValueError("the plan is not one that this program made")

    @property
    def working_shape(self) -> Shape:
        """Voxels of the working grid along (Z, Y, X)."""
        return working_shape(box_shape(self.box), self.factors)

    @property
    def is_coarser(self) -> bool:
        """True if the working grid is coarser than the volume's."""
        return self.factors != (1, 1, 1)

    @property
    def predicted_shape(self) -> Shape:
        """Voxels of the grid that is predicted: the working grid, or, where that is not coarser, the whole volume's."""
        return predicted_shape(self.shape, self.box, self.factors)

    @property
    def copied(self) -> Shape:
        """Side of the chunks of the coarser copy, voxels of the working grid."""
        z, y, x = (max(1, COPIED // factor) for factor in self.factors)
        return (z, y, x)

    def levels(self) -> list[tuple[Shape, Factors, Factors]]:
        """Return shape, factors to the finest level, and factors to the level before, of each level, finest first.

        Axes are halved as far as that makes voxels rounder, until a level fits into one chunk.
        """
        found = [(self.shape, (1, 1, 1), (1, 1, 1))]
        while max(found[-1][0]) > self.chunk:
            shape, factors, _ = found[-1]
            sizes = [s * f for s, f in zip(self.spacing, factors, strict=True)]
            finest = min(size for size, side in zip(sizes, shape, strict=True) if side > 1)
            z, y, x = (2 if side > 1 and size < 2 * finest else 1 for size, side in zip(sizes, shape, strict=True))
            whole = (factors[0] * z, factors[1] * y, factors[2] * x)
            found.append((working_shape(self.shape, whole), whole, (z, y, x)))
        return found

    def save(self, out: Path) -> None:
        """Keep the plan beside the result; raises `InputError` if the disk refuses."""
        make_folder(out / FOLDER)
        write_text(out / FOLDER / "plan.json", json.dumps(asdict(self), indent=2), InputError, REMEDY)


def load_plan(out: Path) -> Plan | None:
    """Return the plan of a result that was begun, or None if nothing was.

    Raises
    ------
    InputError
        If there is something at `out` that this program did not write, or the plan is damaged.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    path = out / FOLDER / "plan.json"
    if not path.is_file():
        if out.is_dir() and {entry.name for entry in out.iterdir()} <= {FOLDER, ".zgroup"}:
            return None  # it was cut off before the plan was kept
        raise InputError(f"{out} exists and is no prediction that was begun here; choose another name for the output.")
    try:
        content = read_json(path)
        content.setdefault("box", [[0, 0, 0], content["shape"]])  # earlier versions knew no other
        return Plan(**{field.name: _as_written(content[field.name]) for field in fields(Plan)})
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged, the prediction cannot be gone on with; delete {out}.") from None


def _as_written(value: Any) -> Any:
    return tuple(map(_as_written, value)) if isinstance(value, list) else value


def hash_of_networks(run: TrainedNetworks) -> str:
    """Hash of the weights and of every setting that decides what they predict."""
    config = run.config
    parts = [config.data, config.model, config.inference]
    settings = [part.model_dump(mode="json") for part in parts]
    digest = hashlib.sha256(json.dumps([*settings, config.training.patch, run.classes.values]).encode())
    for name, values in sorted(run.checkpoint.model.items()):
        digest.update(name.encode())
        digest.update(values.contiguous().flatten().numpy().tobytes())
    return digest.hexdigest()


def hash_of_scan(volume: LazyVolume) -> str:
    """Hash of a volume's shape, type, voxel size and of its voxels at 27 places: recognises it, wherever it lies.

    Of a volume on the disk also size and time of writing of its files, since it may have changed elsewhere.
    """
    digest = hashlib.sha256(f"{volume.shape} {volume.dtype} {volume.placement}".encode())
    for file in () if volume.path is None else files_of(volume.path):
        digest.update(f"{file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    firsts = [np.linspace(0, max(0, size - SAMPLE), SAMPLES).astype(int).tolist() for size in volume.shape]
    for z in firsts[0]:
        for y in firsts[1]:
            for x in firsts[2]:
                last = [min(size, a + SAMPLE) for size, a in zip(volume.shape, (z, y, x), strict=True)]
                digest.update(volume.read(((z, y, x), (last[0], last[1], last[2]))).tobytes())
    return digest.hexdigest()


def working_shape(shape: Shape, factors: Factors) -> Shape:
    """Shape of blocks of `factors` voxels."""
    z, y, x = (-(-size // factor) for size, factor in zip(shape, factors, strict=True))
    return (z, y, x)


def predicted_shape(shape: Shape, box: Box, factors: Factors) -> Shape:
    """Shape of the grid that is predicted, of a volume of some shape of which a box was scanned."""
    return shape if factors == (1, 1, 1) else working_shape(box_shape(box), factors)


def working_factors(shape: Shape, spacing: Spacing, run: TrainedNetworks, wanted: Factors | None) -> Factors:
    """Return the factors to the working grid: those that the prediction in memory takes, unless others are wanted.

    Parameters
    ----------
    shape
        Of what was scanned.

    Raises
    ------
    InputError
        If they are no positive numbers, or leave less than two voxels along an axis.
    """
    if wanted is None:
        data = run.config.data
        return grid_factors(shape, spacing, data.max_voxels, data.spacing)
    try:
        z, y, x = map(index_of, wanted)  # of NumPy too
        fit = min(z, y, x) >= 1 and min(working_shape(shape, (z, y, x))) >= 2
    except (TypeError, ValueError):
        fit = False
    if not fit:
        raise InputError(
            f"The factors {wanted} do not fit a volume of {list(shape)} voxels; name three whole numbers "
            "from 1 that leave two voxels or more along each axis."
        )
    return (z, y, x)


def bytes_of_sums(sides: Sequence[int], channels: int) -> int:
    """Return the bytes of what is summed up for a box: `channels` values per voxel, and the sum of the weights."""
    return 4 * (channels + 1) * prod(sides)


def chunk_of(shape: Shape, wanted: int | None, channels: int, memory: float) -> int:
    """Choose the side of the stored chunks: `CHUNK`, or less where one such chunk would not fit into memory.

    Parameters
    ----------
    shape
        Of the volume.
    wanted
        The side that was asked for, if one was.
    channels, memory
        As `unit_of`.

    Raises
    ------
    InputError
        If chunks of the side that was asked for do not fit, though smaller ones would.
    """

    def fits(side: int) -> bool:
        return bytes_of_sums([min(side, size) for size in shape], channels) <= memory * GIB

    largest = next(filter(fits, range(LARGEST_CHUNK, SMALLEST_CHUNK, -SMALLEST_CHUNK)), SMALLEST_CHUNK)
    if wanted is None:
        return min(CHUNK, largest)
    if wanted > largest and not fits(wanted):
        raise InputError(
            f"Chunks of {wanted} voxels a side do not fit into {memory:g} GiB with {channels} values per voxel "
            f"(networks times classes); choose {largest} voxels or fewer, or more memory."
        )
    return wanted


def unit_of(shape: Shape, chunk: int, tile: Shape, channels: int, memory: float) -> Shape:
    """Choose what is predicted at once: as many stored chunks as memory allows.

    Tiles at the border of a unit are predicted for its neighbours too, so larger units waste less; they grow along the
    axis on which most is wasted.

    Parameters
    ----------
    shape
        Of the grid that is predicted.
    channels
        Values per voxel that are summed up: networks times classes.
    memory
        GiB that they may take.
    """
    sides = [min(chunk, size) for size in shape]
    while True:
        growable = [axis for axis in range(3) if sides[axis] < shape[axis]]
        for axis in sorted(growable, key=lambda a: sides[a] / tile[a]):
            grown = [min(side + chunk, shape[a]) if a == axis else side for a, side in enumerate(sides)]
            if bytes_of_sums(grown, channels) <= memory * GIB:
                sides = grown
                break
        else:
            return (sides[0], sides[1], sides[2])
