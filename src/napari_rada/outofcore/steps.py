"""The steps of a prediction, each cut into units that can be computed anywhere, in any order, and again.

A unit writes chunk files, which are complete or not there; it is done when all of its files are there. The steps come
one after the other: where the working grid is coarser, a coarser copy of the volume, its prediction, the enlargement;
otherwise the prediction at once. Then the coarser levels of the result, one from another. Only what was scanned is
predicted, all else is background.

Shape legend: N networks, C classes, Z Y X grid that is predicted, z y x volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.data.box import box_shape, overlap
from napari_rada.data.intensity import to_unit_range
from napari_rada.data.resampling import block_mean, upsample
from napari_rada.errors import InputError, RunFolderError
from napari_rada.inference.tiles import predict_part
from napari_rada.inference.window import TileGrid, boxes
from napari_rada.io.chunked import ChunkedArray
from napari_rada.outofcore.plan import FOLDER, Plan, hash_of_networks, load_plan
from napari_rada.training.trained import TrainedNetworks, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.box import Box
    from napari_rada.data.grid import Shape
    from napari_rada.data.resampling import Factors
    from napari_rada.io.lazy import LazyVolume
    from napari_rada.models.triple_view import TripleViewModel


@dataclass(frozen=True)
class Order:
    """All that a process needs to compute a unit of a prediction; small, so that it can be sent.

    `call` names the one call that made the order: workers outlive it, and what they opened for it.
    """

    run_dir: str
    weights: Weights
    device: str
    volume: LazyVolume
    out: str
    call: str


class Site:
    """An order with everything open: networks, volume and arrays.

    Raises
    ------
    InputError
        If this machine does not see what was begun.
    RunFolderError
        If the run has changed since the prediction was begun.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.out = Path(order.out)
        plan = load_plan(self.out)
        if plan is None:
            raise _unseen(order.out)
        if plan.probability and not Path(plan.probability).is_dir():
            raise _unseen(plan.probability)
        self.plan: Plan = plan
        self.run = TrainedNetworks.read(order.run_dir, order.weights)
        if hash_of_networks(self.run) != plan.networks:
            raise RunFolderError(
                f"The run {order.run_dir} has changed since {self.out} was begun; choose another name for the output."
            )
        self.volume = order.volume

    @cached_property
    def model(self) -> TripleViewModel:
        """The networks."""
        return self.run.model(self.order.device)

    @cached_property
    def coarse(self) -> ChunkedArray:
        """The volume on the working grid, (Z, Y, X) in 0..1, where that is coarser."""
        plan = self.plan
        return ChunkedArray.create(self.out / FOLDER / "coarse", plan.working_shape, plan.copied, np.float32)

    @cached_property
    def probability(self) -> ChunkedArray:
        """The mean softmax of the networks, (C, Z, Y, X)."""
        plan, classes = self.plan, len(self.run.classes)
        where = Path(plan.probability) / "0" if plan.probability else self.out / FOLDER / "probability"
        chunks = (classes, *(min(plan.chunk, size) for size in plan.predicted_shape))
        return ChunkedArray.create(where, (classes, *plan.predicted_shape), chunks, np.float32)

    @cached_property
    def labels(self) -> list[ChunkedArray]:
        """The result, (z, y, x), finest level first."""
        side, dtype = self.plan.chunk, self.run.classes.dtype
        return [
            ChunkedArray.create(self.out / str(level), shape, [min(side, size) for size in shape], dtype)
            for level, (shape, _, _) in enumerate(self.plan.levels())
        ]

    def steps(self) -> list[Step]:
        """Return the steps in their order."""
        first: list[Step] = [Copy(self), Predict(self), Enlarge(self)] if self.plan.is_coarser else [Predict(self)]
        return first + [Shrink(self, level) for level in range(1, len(self.labels))]

    def is_complete(self) -> bool:
        """Tell whether all levels of the result, and the probability if it is kept, are there and described."""
        kept = [self.probability] if self.plan.probability else []
        written = all(array.is_written((0,) * array.ndim, array.shape) for array in (*self.labels, *kept))
        images = [self.out, *(array.path.parent for array in kept)]
        return written and all((image / ".zattrs").is_file() for image in images)

    def read_volume(self, box: Box) -> NDArray[np.float32]:
        """Read a box of what was scanned as the networks see it where the working grid is not coarser."""
        (z0, y0, x0), (z1, y1, x1) = np.add(box, self.plan.box[0]).tolist()
        with np.errstate(over="ignore"):
            values = self.volume.read(((z0, y0, x0), (z1, y1, x1))).astype(np.float32)
        values[~np.isfinite(values)] = self.plan.replacement
        return to_unit_range(values, self.plan.low, self.plan.high)

    def amid_background(self, box: Box, find: Callable[[Box], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the probability (C, z, y, x) in a box of the volume: what is found where it was scanned.

        Parameters
        ----------
        find
            Returns the probability in a box of what was scanned.
        """
        inside, here = overlap(self.plan.box, box)
        (z0, z1), (y0, y1), (x0, x1) = ((part.start, part.stop) for part in inside)
        part = ((z0, y0, x0), (z1, y1, x1))
        if box_shape(part) == box_shape(box):
            return find(part)
        found = np.zeros((len(self.run.classes), *box_shape(box)), dtype=np.float32)
        found[0] = 1.0
        if min(box_shape(part)):
            found[(slice(None), *here)] = find(part)
        return found

    def decide(self, probability_Czyx: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
        """Return the label value of the most probable class."""
        return self.run.classes.decode(probability_Czyx.argmax(axis=0))


class Step:
    """One step of a site's prediction.

    Parameters
    ----------
    what
        Its units, for messages.
    shape, side
        Of the grid that it writes, and of the part of it that is computed at once.
    """

    def __init__(self, site: Site, what: str, shape: Shape, side: Shape) -> None:
        self.site = site
        self.plan = site.plan
        self.what = what
        self._shape = shape
        self._side = side

    def units(self) -> list[Box]:
        """Return the boxes that are computed at once."""
        return list(boxes(self._shape, self._side))

    def is_done(self, box: Box) -> bool:
        """Tell whether everything that a unit writes is there."""
        raise NotImplementedError

    def do(self, box: Box, control: RunControl) -> None:
        """Compute a unit and write it."""
        raise NotImplementedError

    def write(self, array: ChunkedArray, start: Sequence[int], block: NDArray[Any]) -> None:
        """Write a block into the output, if that is still the one of the plan.

        A worker finishes its unit also after the call was stopped; meanwhile the output can be deleted and begun anew.

        Raises
        ------
        InputError
            If it was, or the disk refuses.
        """
        if load_plan(self.site.out) != self.plan:
            raise InputError(f"{self.site.out} was deleted or begun anew meanwhile; run the same command again.")
        array.write(start, block)


class Copy(Step):
    """Average blocks of the volume: the volume on the working grid."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, "chunks of the coarser copy", site.plan.working_shape, site.plan.copied)

    def is_done(self, box: Box) -> bool:
        """Tell whether the chunk of the copy is there."""
        return self.site.coarse.is_written(*box)

    def do(self, box: Box, control: RunControl) -> None:
        """Read, average, write."""
        control.check()
        values = self.site.read_volume(_finer(box, self.plan.factors, box_shape(self.plan.box)))
        self.write(self.site.coarse, box[0], block_mean(values, self.plan.factors))


class Predict(Step):
    """Ask the networks."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, "chunks", site.plan.predicted_shape, site.plan.unit)
        self._keeps = self.plan.is_coarser or bool(self.plan.probability)

    def is_done(self, box: Box) -> bool:
        """Tell whether probability, if it is kept, and labels, if they are decided here, are there."""
        site = self.site
        kept = not self._keeps or site.probability.is_written(*_with_classes(box, site))
        return kept and (self.plan.is_coarser or site.labels[0].is_written(*box))

    def do(self, box: Box, control: RunControl) -> None:
        """Predict all tiles that touch the unit and blend them."""
        site, config = self.site, self.site.run.config
        grid = TileGrid(self.plan.working_shape, config.training.patch, config.inference.overlap)
        read = (lambda part: site.coarse.read(*part)) if self.plan.is_coarser else site.read_volume

        def mean(part: Box) -> NDArray[np.float32]:
            softmax_NCZYX = predict_part(site.model, read, grid, part, config.inference, control)
            return np.asarray(softmax_NCZYX.mean(axis=0))

        mean_CZYX = mean(box) if self.plan.is_coarser else site.amid_background(box, mean)
        if self._keeps:
            self.write(site.probability, _with_classes(box, site)[0], mean_CZYX)
        if not self.plan.is_coarser:
            self.write(site.labels[0], box[0], site.decide(mean_CZYX))


class Enlarge(Step):
    """Interpolate the probability to the volume's grid and decide every voxel."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, "chunks at full size", site.plan.shape, _cube(site.plan.chunk))

    def is_done(self, box: Box) -> bool:
        """Tell whether the labels are there."""
        return self.site.labels[0].is_written(*box)

    def do(self, box: Box, control: RunControl) -> None:
        """Interpolate what was predicted in the chunk, and decide."""
        control.check()
        probability_Czyx = self.site.amid_background(box, self._enlarged)
        self.write(self.site.labels[0], box[0], self.site.decide(probability_Czyx))

    def _enlarged(self, box: Box) -> NDArray[np.float32]:
        """Interpolate between the working voxels in a box of what was scanned and one beyond it on each side."""
        factors, shape = self.plan.factors, self.plan.working_shape
        low = [max(0, a // f - 1) for a, f in zip(box[0], factors, strict=True)]
        high = [min(size, ceil(b / f) + 1) for b, f, size in zip(box[1], factors, shape, strict=True)]
        around = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        coarse = self.site.probability.read(*_with_classes(around, self.site))
        z, y, x = ((b - a) * f for a, b, f in zip(low, high, factors, strict=True))
        fine = upsample(coarse, factors, (z, y, x))
        inside = tuple(slice(a - c * f, b - c * f) for a, b, c, f in zip(*box, low, factors, strict=True))
        return fine[(slice(None), *inside)]


class Shrink(Step):
    """Take the commonest label of each block of a level: the next level."""

    def __init__(self, site: Site, level: int) -> None:
        levels = site.plan.levels()
        super().__init__(site, f"chunks of level {level}", levels[level][0], _cube(site.plan.chunk))
        self._source, self._target = site.labels[level - 1], site.labels[level]
        self._source_shape, self._factors = levels[level - 1][0], levels[level][2]

    def is_done(self, box: Box) -> bool:
        """Tell whether the labels of the level are there."""
        return self._target.is_written(*box)

    def do(self, box: Box, control: RunControl) -> None:
        """Read the finer level, write this one."""
        control.check()
        fine = self._source.read(*_finer(box, self._factors, self._source_shape))
        self.write(self._target, box[0], commonest(fine, self._factors))


def commonest(labels: NDArray[np.unsignedinteger], factors: Factors) -> NDArray[np.unsignedinteger]:
    """Return the commonest label of each block of `factors` voxels of (z, y, x); of equally common ones the first."""
    pad = [(0, -size % factor) for size, factor in zip(labels.shape, factors, strict=True)]
    padded = np.pad(labels, pad, mode="edge")
    z, y, x = (size // factor for size, factor in zip(padded.shape, factors, strict=True))
    blocks = padded.reshape(z, factors[0], y, factors[1], x, factors[2]).transpose(1, 3, 5, 0, 2, 4)
    voxels = blocks.reshape(-1, z, y, x)
    found: NDArray[np.unsignedinteger] = voxels[0].copy()
    most = (voxels == voxels[0]).sum(axis=0, dtype=np.uint8)
    for voxel in voxels[1:]:
        count = (voxels == voxel).sum(axis=0, dtype=np.uint8)
        better = count > most
        found[better], most[better] = voxel[better], count[better]
    return found


def _unseen(folder: str) -> InputError:
    return InputError(
        f"{folder} holds nothing that was begun; whoever computes must see run, volume and output under the "
        "same paths as the machine that asks."
    )


def _finer(box: Box, factors: Factors, shape: Shape) -> Box:
    """Return the box of a finer grid, of `shape`, that a box of a coarser one covers."""
    low = [a * f for a, f in zip(box[0], factors, strict=True)]
    high = [min(b * f, size) for b, f, size in zip(box[1], factors, shape, strict=True)]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _with_classes(box: Box, site: Site) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (0, *box[0]), (len(site.run.classes), *box[1])


def _cube(side: int) -> Shape:
    return (side, side, side)
