"""Smooth random fields and shapes given by a level: negative inside, positive outside, about -1 in the middle.

Points are (3, Z, Y, X) positions along (z, y, x) in units of the scene, which reaches at most from -1 to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_rada.data.grid import Shape

Field = NDArray[np.float32]

CURVE_POINTS = 24
"""Balls that make up a tube."""


def smooth_noise(rng: np.random.Generator, extent: NDArray[np.float64], shape: Shape, wavelength: float) -> Field:
    """Return noise (Z, Y, X) of mean 0 and standard deviation about 1 that changes over `wavelength` scene units.

    Parameters
    ----------
    extent
        Length of the scene along (z, y, x).
    """
    cells = [int(np.clip(round(length / wavelength), 1, size)) + 3 for length, size in zip(extent, shape, strict=True)]
    lattice = torch.from_numpy(rng.standard_normal(cells).astype(np.float32))[None, None]
    field = F.interpolate(lattice, size=[*shape], mode="trilinear", align_corners=True)[0, 0].numpy()
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def warped(rng: np.random.Generator, points: Field, amount: float, wavelength: float) -> Field:
    """Return the points moved by a smooth random displacement of standard deviation `amount`."""
    shape = (points.shape[1], points.shape[2], points.shape[3])
    extent = np.ptp(points.reshape(3, -1), axis=1).astype(float)
    moved = [points[axis] + amount * smooth_noise(rng, extent, shape, wavelength) for axis in range(3)]
    return np.stack(moved).astype(np.float32)


def rotation(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a uniformly random rotation matrix (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q *= np.sign(np.diag(r))
    return np.asarray(q, dtype=np.float32)


def ellipsoid(rng: np.random.Generator, points: Field, centre: Field, radii: Field) -> Field:
    """Return the level of a randomly turned superellipsoid."""
    power = rng.uniform(1.7, 3.5)
    local = np.tensordot(rotation(rng), points - centre[:, None, None, None], axes=1)
    scaled = np.abs(local / radii[:, None, None, None])
    return np.asarray((scaled**power).sum(axis=0) ** (1 / power) - 1.0, dtype=np.float32)


def tube(points: Field, curve: Field, radii: Field) -> Field:
    """Return the level of a tube: balls along a curve (n, 3) with `radii` (n,)."""
    nearest = np.full(points.shape[1:], np.inf, dtype=np.float32)
    for centre, radius in zip(curve, radii, strict=True):
        offset = points - centre[:, None, None, None]
        np.minimum(nearest, np.einsum("izyx,izyx->zyx", offset, offset) / radius**2, out=nearest)
    return np.asarray(np.sqrt(nearest) - 1.0, dtype=np.float32)


def random_curve(rng: np.random.Generator, start: Field, length: float, bend: float) -> Field:
    """Return a smooth curve (n, 3) that starts in `start` and turns slowly."""
    heading = rotation(rng)[0]
    turn = bend * rotation(rng)[0]
    step = length / CURVE_POINTS
    place, found = start.astype(np.float32), []
    for _ in range(CURVE_POINTS):
        found.append(place)
        heading = (
            heading
            + turn / CURVE_POINTS
            + 0.15 * bend * rng.standard_normal(3).astype(np.float32) / np.sqrt(CURVE_POINTS)
        )
        heading = (heading / np.linalg.norm(heading)).astype(np.float32)
        place = place + step * heading
    curve = np.stack(found)
    return np.asarray(curve, dtype=np.float32)


def organ(rng: np.random.Generator, points: Field, centre: Field, size: float) -> Field:
    """Return the level of one random organ: compact, bent, lobed, notched, branching, a tube, or a blob."""
    moved = warped(rng, points, size * rng.uniform(0.02, 0.22), size * rng.uniform(0.5, 1.5))
    kind = rng.choice(["compact", "bent", "lobed", "notched", "branching", "tube", "blob"], p=_SHARES)
    radii = (size * rng.uniform(0.45, 1.0, 3)).astype(np.float32)
    if kind == "bent":
        axis, along = rng.permutation(3)[:2]
        moved = moved.copy()
        moved[axis] += rng.uniform(-0.8, 0.8) / size * (moved[along] - centre[along]) ** 2
        radii[along] *= 1.3
    if kind == "tube":
        return _winding(rng, moved, centre, size)
    level = ellipsoid(rng, moved, centre, radii)
    if kind in ("lobed", "branching"):
        for _ in range(rng.integers(1, 5)):
            level = np.minimum(level, _part(rng, moved, centre, size, branch=kind == "branching"))
    if kind == "notched":
        away = _nearby(rng, centre, size * rng.uniform(0.6, 1.1))
        level = np.maximum(level, -ellipsoid(rng, moved, away, (size * rng.uniform(0.35, 0.9, 3)).astype(np.float32)))
    if kind == "blob":
        extent = np.ptp(points.reshape(3, -1), axis=1).astype(float)
        shape = (points.shape[1], points.shape[2], points.shape[3])
        level = level + rng.uniform(0.1, 0.4) * smooth_noise(rng, extent, shape, size * rng.uniform(0.3, 0.8))
    return level


_SHARES = [0.2, 0.18, 0.16, 0.14, 0.12, 0.12, 0.08]


def _winding(rng: np.random.Generator, points: Field, centre: Field, size: float) -> Field:
    """Return the level of a tube through the centre, thick or thin, straight or winding."""
    length, bend = size * rng.uniform(1.6, 2.6), rng.uniform(0.0, 3.5)
    curve = random_curve(rng, np.zeros(3, dtype=np.float32), length, bend)
    curve = curve - curve.mean(axis=0) + centre
    thickness = size * rng.uniform(0.16, 0.45)
    waves = 1.0 + rng.uniform(0.0, 0.4) * np.sin(
        np.linspace(0.0, rng.uniform(2.0, 9.0), CURVE_POINTS) + rng.uniform(0, 6)
    )
    taper = np.linspace(1.0, rng.uniform(0.5, 1.3), CURVE_POINTS)
    return tube(points, curve.astype(np.float32), (thickness * waves * taper).astype(np.float32))


def _part(rng: np.random.Generator, points: Field, centre: Field, size: float, *, branch: bool) -> Field:
    """Return the level of a lobe beside the centre, or of a tube that leaves it."""
    start = _nearby(rng, centre, size * rng.uniform(0.3, 0.9))
    if not branch:
        return ellipsoid(rng, points, start, (size * rng.uniform(0.25, 0.6, 3)).astype(np.float32))
    curve = random_curve(rng, start, size * rng.uniform(0.4, 1.0), rng.uniform(0.0, 2.0))
    return tube(points, curve, np.full(CURVE_POINTS, size * rng.uniform(0.1, 0.25), dtype=np.float32))


def _nearby(rng: np.random.Generator, centre: Field, distance: float) -> Field:
    return np.asarray(centre + distance * rotation(rng)[0], dtype=np.float32)
