"""The built-in sample: a synthetic abdominal scan with its true mask and three annotated slices.

It shows the program at work without a download. It is a demonstration, never a benchmark: a method that does well
here has proved nothing about real scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.grid import Grid, Shape, Spacing
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError

Volume: TypeAlias = NDArray[np.floating[Any]]
Layer: TypeAlias = tuple[Volume, Volume | float]
"""Depth under a surface in mm, and the signal of what lies inside."""

Point: TypeAlias = tuple[float, float, float]

SHAPE: Shape = (60, 88, 112)
SPACING: Spacing = (2.5, 1.5, 1.5)
EDGE_MM = 1.0
"""Width over which one tissue turns into the next."""

# Signal of each tissue, 0 (air) to about 1.
FAT, MUSCLE, ORGAN, MARROW, CORTEX, BLOOD = 0.80, 0.30, 0.56, 0.62, 0.12, 0.86


@dataclass(frozen=True, eq=False)
class Sample:
    """A synthetic scan and what it really shows.

    Parameters
    ----------
    case
        The scan, annotated in one slice per axis.
    truth
        (z, y, x) label values of every voxel: 0 background, 1 organ.
    """

    case: Case
    truth: NDArray[np.uint16]


def make_sample(seed: int = 0) -> Sample:
    """Make a synthetic scan of (60, 88, 112) voxels of 2.5 x 1.5 x 1.5 mm, the same for the same seed.

    It shows an irregular organ of two lobes among neighbours of similar intensity that touch it, in a body with
    fat, muscle, spine and a large vessel; with texture, a bias field, blur and Rician noise. Per array axis the slice
    in which the organ is largest is annotated.

    Parameters
    ----------
    seed
        Another seed gives another anatomy of the same kind.

    Raises
    ------
    InputError
        If it is no whole number, or negative.
    """
    if not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"The seed must be a whole number, 0 or more; found {seed!r}.")
    rng = np.random.default_rng(seed)
    space = _Space.centred(SHAPE, SPACING)
    organ = _organ(space, rng)
    truth = (organ > 0).astype(np.uint16)
    signal = _tissue(space, organ, rng)
    image = _acquire(space, signal, rng)
    case = Case.create(
        image,
        truth,
        slices=[_largest_slice(truth, axis) for axis in range(3)],
        grid=_grid(),
        classes=ClassTable((ClassInfo(0, "background"), ClassInfo(1, "organ", "a synthetic abdominal organ"))),
        name="sample",
    )
    return Sample(case, truth)


@dataclass(frozen=True, eq=False)
class _Space:
    """Positions in mm from the middle of the volume, z to the head, y to the back, x to the patient's left."""

    z: Volume
    y: Volume
    x: Volume
    spacing: Spacing

    @classmethod
    def centred(cls, shape: Shape, spacing: Spacing) -> _Space:
        axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        return cls(z, y, x, spacing)

    @property
    def shape(self) -> Shape:
        return (self.z.size, self.y.size, self.x.size)

    def radius(self, centre: Point, radii: Point) -> Volume:
        """Distance from an ellipsoid's centre, 1 at its surface."""
        parts = zip((self.z, self.y, self.x), centre, radii, strict=True)
        return np.asarray(np.sqrt(sum(((axis - c) / r) ** 2 for axis, c, r in parts)), dtype=np.float32)

    def ellipsoid(self, centre: Point, radii: Point) -> Volume:
        """Roughly the depth under the surface of an ellipsoid in mm; negative outside."""
        return (1.0 - self.radius(centre, radii)) * np.float32(min(radii))

    def noise(self, rng: np.random.Generator, sigma_mm: float) -> Volume:
        """Smooth noise of mean 0 and standard deviation 1."""
        white = rng.standard_normal(self.shape, dtype=np.float32)
        smooth = ndimage.gaussian_filter(white, [sigma_mm / s for s in self.spacing], mode="wrap", truncate=3.0)
        return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


def _organ(space: _Space, rng: np.random.Generator) -> Volume:
    """Depth under the organ's surface in mm: lobes that melt into each other, with waists and dents."""
    lobes: tuple[tuple[Point, Point], ...] = (
        ((4.0, -8.0, -26.0), (34.0, 26.0, 30.0)),
        ((-8.0, -20.0, 20.0), (24.0, 17.0, 24.0)),
        ((-24.0, 12.0, -36.0), (28.0, 19.0, 18.0)),
        ((25.0, 0.0, -6.0), (17.0, 15.0, 19.0)),
        ((22.0, -24.0, -46.0), (16.0, 14.0, 14.0)),
    )
    field = np.zeros(space.shape, dtype=np.float32)
    for centre, radii in lobes:
        moved = tuple(c + rng.normal(0.0, 2.0) for c in centre)
        field += np.exp(-1.5 * space.radius((moved[0], moved[1], moved[2]), radii) ** 2)
    return 30.0 * (field * (1.0 + 0.26 * space.noise(rng, 8.0)) - 0.30)


def _tissue(space: _Space, organ: Volume, rng: np.random.Generator) -> Volume:
    """Signal of every voxel before acquisition; later layers cover earlier ones."""
    texture, fine = space.noise(rng, 7.0), space.noise(rng, 2.0)
    wobble = 2.0 * space.noise(rng, 16.0)
    body = _cylinder(space, (0.0, 0.0), (60.0, 78.0)) + wobble
    signal = np.zeros(space.shape, dtype=np.float32)
    layers: list[Layer] = [
        (body, FAT + 0.05 * fine),
        (body - 7.0, MUSCLE + 0.03 * fine),
        (body - 13.0, 0.38 + 0.07 * texture + 0.03 * fine),
        *_bowel(space, rng, fine),
        *_spine(space, fine),
        *_neighbours(space, fine),
        (_vessel(space, wobble), BLOOD + 0.02 * fine),
        (organ, ORGAN + 0.015 * texture + 0.025 * fine),
    ]
    for depth, value in layers:
        signal += _soft(depth) * (value - signal)
    return signal


def _bowel(space: _Space, rng: np.random.Generator, fine: Volume) -> list[Layer]:
    """Loops of bowel: a band of smooth noise, walls darker than the contents."""
    loops = 5.0 * (space.noise(rng, 8.0) - 0.6)
    region = space.ellipsoid((-30.0, -16.0, 26.0), (48.0, 34.0, 42.0))
    inside = np.minimum(loops, region)
    return [(inside, MUSCLE), (inside - 2.0, 0.60 + 0.05 * fine)]


def _spine(space: _Space, fine: Volume) -> list[Layer]:
    """Vertebral bodies with discs between them, a dark cortex, and the canal behind."""
    column = _cylinder(space, (40.0, 0.0), (13.0, 16.0))
    discs = 0.10 * np.cos(2 * np.pi * space.z / 30.0)
    canal = _cylinder(space, (53.0, 0.0), (5.0, 6.0))
    return [(column, CORTEX), (column - 2.0, MARROW + discs + 0.05 * fine), (canal, 0.90)]


def _neighbours(space: _Space, fine: Volume) -> list[Layer]:
    """Organs that touch the organ and hardly differ from it in signal."""
    return [
        (space.ellipsoid((8.0, 20.0, -44.0), (30.0, 15.0, 16.0)), ORGAN - 0.05 + 0.03 * fine),
        (space.ellipsoid((22.0, -10.0, 32.0), (22.0, 24.0, 26.0)), ORGAN + 0.05 + 0.03 * fine),
        (space.ellipsoid((-40.0, -18.0, -12.0), (18.0, 20.0, 28.0)), ORGAN + 0.02 + 0.03 * fine),
        (space.ellipsoid((0.0, 26.0, 44.0), (30.0, 15.0, 14.0)), ORGAN + 0.08 + 0.03 * fine),
    ]


def _vessel(space: _Space, wobble: Volume) -> Volume:
    """Depth in mm under the wall of a large vessel along the spine and of its branch to the organ."""
    trunk = _cylinder(space, (20.0, -6.0 + 4.0 * np.sin(space.z / 25.0)), (7.0, 7.0))
    along = np.clip((20.0 - space.y) / 40.0, 0.0, 1.0)
    branch = 4.0 - np.sqrt((space.z - 2.0 + 14.0 * along) ** 2 + (space.x + 6.0 - 8.0 * along) ** 2)
    reach = np.minimum(20.0 - space.y, space.y + 14.0)
    return np.asarray(np.maximum(trunk, np.minimum(branch, reach)) + 0.3 * wobble)


def _cylinder(space: _Space, centre: tuple[float, float | Volume], radii: tuple[float, float]) -> Volume:
    """Roughly the depth in mm under the surface of an elliptic cylinder along z."""
    distance = np.sqrt(((space.y - centre[0]) / radii[0]) ** 2 + ((space.x - centre[1]) / radii[1]) ** 2)
    return np.broadcast_to(np.asarray((1.0 - distance) * min(radii), dtype=np.float32), space.shape)


def _soft(depth: Volume) -> Volume:
    """Share of a voxel that lies inside, from the depth in mm."""
    return np.asarray(np.clip(depth / EDGE_MM + 0.5, 0.0, 1.0), dtype=np.float32)


def _acquire(space: _Space, signal: Volume, rng: np.random.Generator) -> NDArray[np.int16]:
    """Blur, add a bias field and Rician noise, round to whole numbers: what a scanner stores."""
    blurred = ndimage.gaussian_filter(signal, [0.4, 0.7, 0.7])
    bias = 1.0 + 0.16 * (space.y / 66.0) - 0.10 * (space.x / 84.0) + 0.06 * space.noise(rng, 45.0)
    noise = rng.normal(0.0, 0.045, (2, *space.shape)).astype(np.float32)
    magnitude = np.hypot(blurred * bias + noise[0], noise[1])
    return np.asarray(np.round(1000.0 * magnitude), dtype=np.int16)


def _largest_slice(truth: NDArray[np.uint16], axis: int) -> AnnotatedSlice:
    area = (truth != 0).sum(axis=tuple(other for other in range(3) if other != axis))
    return AnnotatedSlice(axis, int(area.argmax()))


def _grid() -> Grid:
    """Rows run to the patient's left and back, slices to the head, as scanners store axial series."""
    affine = Grid.from_spacing(SHAPE, SPACING).affine
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Grid(SHAPE, flip @ affine)
