"""Deformation: a patch looks like one of another person, scanned on another day.

Small rotations, scalings and shifts of everything in a patch, and changes of the image's intensity. There are no flips:
the scans of a cohort share their orientation, and a mirrored heart is not one of the cohort.

Shape legend: P patch, W window: the part of a volume that a deformed patch is made from; all along (z, y, x).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from monai.transforms.compose import Compose
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.data.grid import Shape, Spacing

ROTATION = 0.26
"""Largest rotation about each axis, in radians (15 degrees)."""
SCALING = 0.22
"""Largest logarithm of the scale that all axes share (a factor of 1.25)."""
STRETCHING = 0.08
"""Largest logarithm of the scale of one axis beside the others."""
SHIFT = 0.08
"""Largest shift along an axis, as a share of the patch."""


_OF_THREAD = threading.local()
"""MONAI's transforms have a random state, so every thread that cuts patches has its own."""


@dataclass(frozen=True, eq=False)
class Deformation:
    """An affine map from a patch into the volume that it is made from.

    Parameters
    ----------
    patch
        Shape of the patch.
    matrix
        (3, 3) from offsets in the patch to offsets in the volume, both in voxels from the middle.
    shift
        From the middle of the undeformed patch to that of the deformed one, in voxels of the volume.
    seed
        Of the changes of intensity that go with it.
    """

    patch: Shape
    matrix: NDArray[np.float64]
    shift: tuple[int, int, int]
    seed: int = 0
    _grids: dict[torch.device, Tensor] = field(default_factory=dict, init=False)

    @classmethod
    def draw(cls, rng: np.random.Generator, patch: Shape, spacing: Spacing) -> Deformation:
        """Draw one at random; it turns in millimetres, so that anisotropic voxels are not sheared.

        Parameters
        ----------
        spacing
            mm per voxel.
        """
        scale = np.exp(rng.uniform(-SCALING, SCALING) + rng.uniform(-STRETCHING, STRETCHING, 3))
        turn = _rotation(rng.uniform(-ROTATION, ROTATION, 3))
        mm = np.asarray(spacing)
        z, y, x = (int(step) for step in np.rint(rng.uniform(-SHIFT, SHIFT, 3) * patch))
        return cls(patch, (turn * scale) * mm / mm[:, None], (z, y, x), int(rng.integers(2**31)))

    @property
    def window(self) -> Shape:
        """Shape of the part of the volume that the patch comes from, whatever it touches included."""
        z, y, x = (ceil(side) + 2 for side in np.abs(self.matrix) @ np.asarray(self.patch))
        return (z, y, x)

    def corner(self, corner: tuple[int, int, int], shape: Shape) -> tuple[int, int, int]:
        """Return the first voxel of the window for a patch whose first voxel, undeformed, is `corner`.

        At least one voxel of a volume of this shape is in the window, however thin the volume is beside the patch.
        """
        sides = zip(corner, self.patch, self.window, self.shift, shape, strict=True)
        z, y, x = (
            min(max(first + (side - wide) // 2 + step, 1 - wide), size - 1) for first, side, wide, step, size in sides
        )
        return (z, y, x)

    def apply(self, window: Tensor, *, linear: bool) -> Tensor:
        """Make the patch (…, P) from the window (…, W): interpolated, or with the values of the nearest voxels."""
        entries = window.reshape(1, -1, *self.window).float()
        mode = "bilinear" if linear else "nearest"
        patch = F.grid_sample(entries, self._grid(window.device), mode=mode, padding_mode="border", align_corners=False)
        return patch.reshape(*window.shape[:-3], *self.patch).to(window.dtype)

    def _grid(self, device: torch.device) -> Tensor:
        """Where in the window every voxel of the patch comes from, (1, P, 3), in -1..1 along (x, y, z)."""
        if device not in self._grids:
            self._grids[device] = F.affine_grid(
                self._theta.to(device, non_blocking=True), [1, 1, *self.patch], align_corners=False
            )
        return self._grids[device]

    @property
    def _theta(self) -> Tensor:
        """The map (1, 3, 4) between voxels in -1..1, as torch wants it."""
        matrix = self.matrix * np.asarray(self.patch) / np.asarray(self.window)[:, None]
        theta = np.zeros((1, 3, 4), dtype=np.float32)
        theta[0, :, :3] = matrix[::-1, ::-1]  # torch counts axes from the last
        return torch.from_numpy(theta)


def vary_intensity(image: Tensor, seed: int) -> Tensor:
    """Change contrast, brightness, noise, bias field and sharpness of an image (P), intensities around 0..1."""
    if not hasattr(_OF_THREAD, "intensities"):
        _OF_THREAD.intensities = _intensities()
    transform = _OF_THREAD.intensities
    transform.set_random_state(seed=seed)
    return torch.as_tensor(transform(image[None])).as_subclass(torch.Tensor)[0]


def _intensities() -> Compose:
    # MONAI takes seconds to import; nothing but training with deformation needs it.
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.array import (
        RandAdjustContrast,
        RandBiasField,
        RandGaussianNoise,
        RandGaussianSmooth,
        RandScaleIntensity,
        RandShiftIntensity,
    )

    return Compose(
        [
            RandAdjustContrast(prob=0.8, gamma=(0.6, 1.6)),
            RandScaleIntensity(factors=0.3, prob=0.8),
            RandShiftIntensity(offsets=0.15, prob=0.8),
            RandBiasField(prob=0.3, coeff_range=(-0.2, 0.2)),
            RandGaussianSmooth(sigma_x=(0.25, 0.8), sigma_y=(0.25, 0.8), sigma_z=(0.25, 0.8), prob=0.2),
            RandGaussianNoise(prob=0.4, std=0.08),
        ]
    )


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (3, 3) about the axes z, y and x, one after the other, by angles in radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        single = np.eye(3)
        single[first, first] = single[second, second] = np.cos(angle)
        single[first, second], single[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ single
    return turn
