"""Patches: what one training batch is cut from and how.

Shape legend: B batch, C classes, N networks (3), Z Y X a whole volume, D H W a patch, all along (z, y, x).
"""

from __future__ import annotations

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
    """Patches, on the training device once they are moved there."""

    image_BDHW: Tensor
    truth_BDHW: Tensor
    views_BDHW: Tensor
    pseudo_BNDHW: Tensor
    distance_BNDHW: Tensor
    prior_BCDHW: Tensor
    cues_BJDHW: Tensor

    def to(self, device: torch.device) -> Batch:
        """Move every tensor; from pinned memory to a graphics card without waiting."""
        return Batch(*(tensor.to(device, non_blocking=device.type == "cuda") for tensor in self))

    def pinned(self) -> Batch:
        """Copy every tensor into memory from which a CUDA device reads without the processor."""
        return Batch(*(tensor.pin_memory() for tensor in self))


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
        return self.cut(self.draw(labelled, unlabelled))

    def draw(self, labelled: int, unlabelled: int) -> Draws:
        """Choose where the patches of a batch come from, and how they are deformed; the quick part."""
        draws = [self._draw_labelled() for _ in range(labelled)]
        return Draws(draws + [self._draw(self._pick(self._unlabelled), None) for _ in range(unlabelled)])

    def cut(self, draws: Draws, chosen: Container[int] | None = None) -> Batch:
        """Cut the patches that were drawn, or only the `chosen` ones of them; uses no random number.

        Several batches may be cut at a time.
        """
        patches = [self._cut(draw) for position, draw in enumerate(draws) if chosen is None or position in chosen]
        return Batch(*(torch.stack(parts) for parts in zip(*patches, strict=True)))

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

    def _cut(self, draw: _Draw) -> Batch:
        """Cut one patch, a `Batch` without its batch axis."""
        volume, place, shape = draw.volume, draw.place, self.patch
        num_networks = 3
        if volume.pseudo is None or volume.pseudo_distance is None:
            pseudo = torch.zeros((num_networks, *shape), dtype=torch.long)
            distance = torch.full((num_networks, *shape), torch.inf)
        else:
            pseudo = place.cut(volume.pseudo, 0).long()
            distance = place.cut(volume.pseudo_distance, np.inf)
        prior, cues = self._prior(draw)
        image, deformation = place.cut(volume.image, None), place.deformation
        return Batch(
            image_BDHW=image if deformation is None else vary_intensity(image, deformation.seed),
            truth_BDHW=place.cut(volume.truth, OUTSIDE).long(),
            views_BDHW=place.cut(volume.views, 0),
            pseudo_BNDHW=pseudo,
            distance_BNDHW=distance,
            prior_BCDHW=prior,
            cues_BJDHW=cues,
        )

    def _prior(self, draw: _Draw) -> tuple[Tensor, Tensor]:
        """Prior and cues of the fold that was drawn, or the blank prior."""
        volume, place, fold = draw
        if volume.prior is None or volume.cues is None or fold is None:
            blank = torch.full((self._num_classes, *self.patch), 1.0 / self._num_classes)
            return blank, torch.zeros((self._num_cues, *self.patch))
        return place.cut(volume.prior[fold], None).float(), place.cut(volume.cues[fold], None).float()

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

    def cut(self, values: NDArray[np.generic], fill: float | None) -> Tensor:
        """Cut (…, Z, Y, X); beyond the border comes `fill`, or the border's own values if None.

        Values without a `fill` are quantities, which a deformation interpolates; the others are names.
        """
        ends = zip(self.corner, self.size, values.shape[-3:], strict=True)
        where = [(max(0, start), min(size, start + length)) for start, length, size in ends]
        patch: NDArray[Any] = values[(slice(None),) * (values.ndim - 3) + tuple(slice(*span) for span in where)]
        sides = zip(self.corner, self.size, where, strict=True)
        missing = [(first - start, start + length - last) for start, length, (first, last) in sides]
        if any(map(any, missing)):
            pad = [(0, 0)] * (patch.ndim - 3) + missing
            patch = np.pad(patch, pad, mode="edge") if fill is None else np.pad(patch, pad, constant_values=fill)
        first = patch.ndim - 3
        patch = np.flip(patch, tuple(first + axis for axis in self.flips))
        patch = np.rot90(patch, self.turns, (first + self.plane[0], first + self.plane[1]))
        cut = torch.from_numpy(np.ascontiguousarray(patch))
        return cut if self.deformation is None else self.deformation.apply(cut, linear=fill is None)
