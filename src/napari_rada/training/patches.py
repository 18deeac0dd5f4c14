"""Patches: what one training batch is cut from and how.

Shape legend: B batch, C classes, N networks (3), Z Y X a whole volume, D H W a patch, all along (z, y, x).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_rada.training.augmentation import Deformation, vary_intensity

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.data.grid import Shape
    from napari_rada.settings import Augment
    from napari_rada.training.volumes import Volume

OUTSIDE = -2
"""In the place of the truth where a patch reaches beyond the volume; `UNKNOWN` is what nobody annotated in it."""


class Batch(NamedTuple):
    """Patches on the training device."""

    image_BDHW: Tensor
    truth_BDHW: Tensor
    views_BDHW: Tensor
    pseudo_BNDHW: Tensor
    distance_BNDHW: Tensor
    prior_BCDHW: Tensor
    cues_BJDHW: Tensor


class PatchSampler:
    """Cuts random patches; every choice comes from one generator, so that a run can be repeated and resumed.

    Parameters
    ----------
    volumes
        At least one labelled.
    patch
        Patch size along (z, y, x); volumes that are smaller are padded.
    centred
        Share of the labelled patches that are placed around an annotated foreground voxel; the rest lie anywhere.
    augment
        `flips`: also quarter turns, in planes of square pixels and square patches; `deform`: see `Deformation`.
    num_cues
        How many cues the networks are given.
    prior_dropout
        Share of the patches in which the networks get no propagation, so that they also learn to do without.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        patch: Shape,
        *,
        num_classes: int,
        num_cues: int = 1,
        centred: float,
        augment: Augment,
        prior_dropout: float,
        rng: np.random.Generator,
    ) -> None:
        self.patch = patch
        self.rng = rng
        self._num_classes = num_classes
        self._num_cues = num_cues
        self._centred = centred
        self._augment = augment
        self._prior_dropout = prior_dropout
        self._labelled = [volume for volume in volumes if volume.is_labelled]
        self._unlabelled = [volume for volume in volumes if not volume.is_labelled] or self._labelled
        self._foreground = [np.flatnonzero(volume.truth > 0) for volume in self._labelled]

    def batch(self, labelled: int, unlabelled: int) -> Batch:
        """Draw and cut a batch: first the labelled patches, then the unlabelled ones."""
        return self.cut(self.draw(labelled, unlabelled)).to(torch.device("cpu"))

    def draw(self, labelled: int, unlabelled: int) -> Draws:
        """Choose where the patches of a batch come from, and how they are deformed; the quick part."""
        draws = [self._draw_labelled() for _ in range(labelled)]
        return Draws(draws + [self._draw(self._pick(self._unlabelled), None) for _ in range(unlabelled)])

    def cut(self, draws: Draws, chosen: Container[int] | None = None, *, pinned: bool = False) -> Cuts:
        """Cut the patches that were drawn, or only the `chosen` ones of them; uses no random number.

        Several batches may be cut at a time. `pinned` memory is read by a CUDA device without the processor.
        """
        return Cuts(
            self._cut(draw, pinned) for position, draw in enumerate(draws) if chosen is None or position in chosen
        )

    def _pick(self, volumes: Sequence[Volume]) -> Volume:
        return volumes[int(self.rng.integers(len(volumes)))]

    def _draw_labelled(self) -> _Draw:
        choice = int(self.rng.integers(len(self._labelled)))
        volume, foreground = self._labelled[choice], self._foreground[choice]
        centre = None
        if len(foreground) and self.rng.random() < self._centred:
            voxel = foreground[int(self.rng.integers(len(foreground)))]
            centre = np.unravel_index(int(voxel), volume.truth.shape)
        return self._draw(volume, None if centre is None else (int(centre[0]), int(centre[1]), int(centre[2])))

    def _draw(self, volume: Volume, centre: tuple[int, int, int] | None) -> _Draw:
        """Choose a patch around `centre`, or anywhere, and the fold of its prior."""
        return _Draw(volume, self._place(volume, centre), self._fold(volume))

    def _fold(self, volume: Volume) -> int | None:
        """Choose the prior of one fold, or none."""
        dropped = self.rng.random() < self._prior_dropout
        if volume.prior is None or volume.cues is None or dropped:
            return None
        folds = tuple(volume.held_out) or (3,)
        return folds[int(self.rng.integers(len(folds)))]

    def _cut(self, draw: _Draw, pinned: bool) -> _Cut:
        volume, place, fold = draw

        def window(values: NDArray[np.generic] | None, fill: float | None) -> Tensor | None:
            return None if values is None else place.window(values, fill, pinned=pinned)

        image, deformation = place.window(volume.image, None, pinned=pinned), place.deformation
        if deformation is not None:  # what varies intensities does so on the processor, and after everything else
            image = vary_intensity(deformation.apply(image, linear=True), deformation.seed)
        return _Cut(
            place,
            (self._num_classes, self._num_cues),
            image.pin_memory() if pinned else image,
            place.window(volume.truth, OUTSIDE, pinned=pinned),
            place.window(volume.views, 0, pinned=pinned),
            window(volume.pseudo, 0),
            window(volume.pseudo_distance, np.inf),
            window(None if volume.prior is None or fold is None else volume.prior[fold], None),
            window(None if volume.cues is None or fold is None else volume.cues[fold], None),
        )

    def _place(self, volume: Volume, centre: tuple[int, int, int] | None) -> _Place:
        corner = self._corner(volume.image.shape, centre)
        if self._augment != "deform":
            return _Place(corner, self.patch, *self._symmetry(volume.spacing))
        deformation = Deformation.draw(self.rng, self.patch, volume.spacing)
        z, y, x = volume.image.shape
        return _Place(deformation.corner(corner, (z, y, x)), deformation.window, deformation=deformation)

    def _corner(self, shape: Sequence[int], centre: tuple[int, int, int] | None) -> tuple[int, int, int]:
        corner = []
        for axis, (size, patch) in enumerate(zip(shape, self.patch, strict=True)):
            last = max(0, size - patch)
            if centre is None:
                corner.append(int(self.rng.integers(last + 1)))
            else:
                jitter = int(self.rng.integers(-(patch // 4), patch // 4 + 1))
                corner.append(int(np.clip(centre[axis] - patch // 2 + jitter, 0, last)))
        return (corner[0], corner[1], corner[2])

    def _symmetry(self, spacing: tuple[float, float, float]) -> tuple[tuple[int, ...], tuple[int, int], int]:
        """Axes to flip, plane to turn in, quarter turns."""
        if self._augment == "none":
            return (), (1, 2), 0
        flips = tuple(axis for axis in range(3) if self.rng.random() < 0.5)
        planes = [
            (a, b)
            for a, b in ((0, 1), (0, 2), (1, 2))
            if self.patch[a] == self.patch[b] and abs(spacing[a] - spacing[b]) < 0.1 * spacing[b]
        ]
        if not planes:
            return flips, (1, 2), 0
        return flips, planes[int(self.rng.integers(len(planes)))], int(self.rng.integers(4))


class Draws(tuple["_Draw", ...]):
    """The patches of a batch, before they are cut."""

    __slots__ = ()

    def __str__(self) -> str:
        """Say where they come from: case and first voxel (z, y, x) on the working grid."""
        return "; ".join(f"{draw.volume.name} from {draw.place.corner}" for draw in self)


class _Draw(NamedTuple):
    """A patch that was chosen and not cut yet; `fold` is the one whose prior it gets, None for no prior."""

    volume: Volume
    place: _Place
    fold: int | None


class _Place(NamedTuple):
    """Where a patch lies and how it is turned or deformed; spatial axes are always the last three."""

    corner: tuple[int, int, int]
    size: Shape
    flips: tuple[int, ...] = ()
    plane: tuple[int, int] = (1, 2)
    turns: int = 0
    deformation: Deformation | None = None

    def window(self, values: NDArray[Any], fill: float | None, *, pinned: bool) -> Tensor:
        """Cut (…, Z, Y, X) as it lies; beyond the border comes `fill`, or the border's own values if None."""
        ends = zip(self.corner, self.size, values.shape[-3:], strict=True)
        where = [(max(0, start), min(size, start + length)) for start, length, size in ends]
        patch: NDArray[Any] = values[(slice(None),) * (values.ndim - 3) + tuple(slice(*span) for span in where)]
        sides = zip(self.corner, self.size, where, strict=True)
        missing = [(first - start, start + length - last) for start, length, (first, last) in sides]
        if any(map(any, missing)):
            pad = [(0, 0)] * (patch.ndim - 3) + missing
            patch = np.pad(patch, pad, mode="edge") if fill is None else np.pad(patch, pad, constant_values=fill)
        kind = torch.from_numpy(np.empty(0, patch.dtype)).dtype
        own = torch.empty(patch.shape, dtype=kind, pin_memory=pinned)
        np.copyto(own.numpy(), patch)
        return own

    def turned(self, window: Tensor, *, linear: bool) -> Tensor:
        """Turn or deform a window (…, W) to a patch (…, P), on the device where it lies.

        A deformation interpolates quantities (`linear`); others are names.
        """
        if self.deformation is not None:
            return self.deformation.apply(window, linear=linear)
        first = window.ndim - 3
        flipped = window.flip([first + axis for axis in self.flips]) if self.flips else window
        plane = (first + self.plane[0], first + self.plane[1])
        return torch.rot90(flipped, self.turns, plane) if self.turns else flipped


class _Cut(NamedTuple):
    """A patch as it was cut, with the types of its volume; None where there is nothing to cut.

    The image is deformed already, everything else is still to be turned or deformed. `channels` are those of prior
    and cues.
    """

    place: _Place
    channels: tuple[int, int]
    image: Tensor
    truth: Tensor
    views: Tensor
    pseudo: Tensor | None
    distance: Tensor | None
    prior: Tensor | None
    cues: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """Move to a device, turn or deform there, and widen types; a `Batch` without its batch axis."""
        num_networks, (classes, cues), shape = 3, self.channels, self.shape

        def moved(part: Tensor) -> Tensor:
            return part.to(device, non_blocking=device.type == "cuda")

        def turned(part: Tensor, *, linear: bool = False) -> Tensor:
            if device.type == "mps":  # where names could not be interpolated in 3D for long (pytorch#160541)
                return moved(self.place.turned(part, linear=linear))
            return self.place.turned(moved(part), linear=linear)

        def names(part: Tensor | None) -> Tensor:
            blank = (num_networks, *shape)
            return torch.zeros(blank, dtype=torch.long, device=device) if part is None else turned(part).long()

        def quantities(part: Tensor | None, channels: int, value: float, *, linear: bool = True) -> Tensor:
            blank = (channels, *shape)
            return torch.full(blank, value, device=device) if part is None else turned(part, linear=linear).float()

        return Batch(
            image_BDHW=moved(self.image) if self.place.deformation else turned(self.image),
            truth_BDHW=names(self.truth),
            views_BDHW=turned(self.views),
            pseudo_BNDHW=names(self.pseudo),
            distance_BNDHW=quantities(self.distance, num_networks, math.inf, linear=False),
            prior_BCDHW=quantities(self.prior, classes, 1.0 / classes),
            cues_BJDHW=quantities(self.cues, cues, 0.0),
        )

    @property
    def shape(self) -> Shape:
        """Shape of the patch."""
        return self.place.size if self.place.deformation is None else self.place.deformation.patch


class Cuts(tuple[_Cut, ...]):
    """The patches of a batch as they were cut, in memory of the processor."""

    __slots__ = ()

    def to(self, device: torch.device) -> Batch:
        """Make the batch on a device; from pinned memory to a CUDA device without waiting."""
        return Batch(*(torch.stack(parts) for parts in zip(*(cut.to(device) for cut in self), strict=True)))
