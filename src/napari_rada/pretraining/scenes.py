"""Synthetic scans with a true mask: an organ among neighbours, as a scanner of some kind might show it.

Nothing of any real scan goes in. Shapes, neighbours, textures, contrasts, walls, vessels, bias fields, blur, noise and
spacing are drawn anew for every scan, far beyond what occurs, so that a network learns what holds for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_rada.pretraining.fields import CURVE_POINTS, organ, random_curve, smooth_noise, tube

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.grid import Shape, Spacing
    from napari_rada.pretraining.fields import Field

SIDES = (46, 80)
"""Voxels along the longest side of a scene, smallest and largest."""
LEAST_VOXELS = 300
"""A structure smaller than this is drawn again."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A synthetic scan.

    Parameters
    ----------
    image
        (z, y, x) float32, in no particular unit.
    mask
        (z, y, x) bool: the structure to be segmented.
    spacing
        mm along (z, y, x).
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    spacing: Spacing


def make_scene(rng: np.random.Generator) -> Scene:
    """Draw a scan with one visible structure of at least `LEAST_VOXELS` voxels."""
    while True:
        canvas = _Canvas.drawn(rng)
        size = rng.uniform(0.4, 0.75)
        level = organ(rng, canvas.points, np.zeros(3, dtype=np.float32), size)
        tissue, mask = _anatomy(rng, canvas, level, size)
        mask = _largest_part(_labelled(rng, canvas, mask, level, size))
        if mask.sum() >= LEAST_VOXELS and all(mask.any(axis=other).sum() >= 6 for other in ((1, 2), (0, 2), (0, 1))):
            return Scene(_acquired(rng, canvas, tissue), mask, canvas.spacing)


@dataclass(frozen=True, eq=False)
class _Canvas:
    """The grid of a scene: positions of its voxels, in units of half its longest side."""

    points: Field
    shape: Shape
    extent: NDArray[np.float64]
    spacing: Spacing

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> _Canvas:
        """Draw sides and spacing; most scans are coarser along one axis, up to six times."""
        extent = rng.uniform(0.75, 1.0, 3)
        step = np.full(3, 1.0)
        if rng.random() < 0.65:
            step[rng.integers(3)] = rng.uniform(1.3, 6.0)
        if rng.random() < 0.3:
            step[rng.integers(3)] *= 2.0
        side = rng.integers(*SIDES)
        sizes = [max(int(length * side / s), 12) for length, s in zip(extent, step, strict=True)]
        axes = [
            np.linspace(-length, length, size, dtype=np.float32) for length, size in zip(extent, sizes, strict=True)
        ]
        points = np.stack(np.meshgrid(*axes, indexing="ij"))
        spacing = tuple(float(v) for v in step)
        return cls(points, (sizes[0], sizes[1], sizes[2]), 2.0 * extent, (spacing[0], spacing[1], spacing[2]))

    def noise(self, rng: np.random.Generator, wavelength: float) -> Field:
        """Smooth noise (Z, Y, X), see `smooth_noise`."""
        return smooth_noise(rng, self.extent, self.shape, wavelength)


def _anatomy(rng: np.random.Generator, canvas: _Canvas, level: Field, size: float) -> tuple[Field, NDArray[np.bool_]]:
    """Signal of every voxel (Z, Y, X), and what of the structure is visible."""
    own = rng.uniform(0.05, 0.95)
    tissue = _surroundings(rng, canvas)
    visible = level < 0
    palette = own + np.exp(rng.uniform(np.log(0.04), np.log(0.5))) * rng.standard_normal(3)
    gap = rng.uniform(0.02, 0.15) if rng.random() < 0.5 else 0.0  # a film of other tissue around the structure
    covering = 0.3 if rng.random() < 0.25 else 0.0  # share of neighbours that cover the structure
    for _ in range(rng.integers(4, 15)):
        other = _neighbour(rng, canvas, size)
        if rng.random() < covering:
            visible &= ~other
        paint = other & (level >= gap)
        tissue[paint] = _neighbour_signal(rng, own, palette) + _texture(rng, canvas)[paint]
    if rng.random() < 0.35:
        wall = (level >= 0) & (level < rng.uniform(0.05, 0.2))
        tissue[wall] = rng.uniform(0.0, 1.0)
    inside = own + _inside(rng, canvas, level)
    tissue[visible] = inside[visible]
    return tissue, visible


def _neighbour(rng: np.random.Generator, canvas: _Canvas, size: float) -> NDArray[np.bool_]:
    """Draw what another organ, or a vessel that passes by, fills."""
    direction = rng.standard_normal(3)
    away = rng.uniform(0.5, 2.0) * size * direction / np.linalg.norm(direction)
    centre = away.astype(np.float32)
    if rng.random() < 0.7:
        return np.asarray(organ(rng, canvas.points, centre, size * rng.uniform(0.25, 1.0)) < 0)
    curve = random_curve(rng, np.zeros(3, dtype=np.float32), rng.uniform(0.8, 2.0), rng.uniform(0.0, 2.0))
    thickness = np.full(CURVE_POINTS, size * rng.uniform(0.05, 0.25), dtype=np.float32)
    return np.asarray(tube(canvas.points, curve - curve.mean(axis=0) + centre, thickness) < 0)


def _labelled(
    rng: np.random.Generator, canvas: _Canvas, visible: NDArray[np.bool_], level: Field, size: float
) -> NDArray[np.bool_]:
    """Return what an annotator marks: at times only up to a plane, at times with an unsteady hand."""
    mask = visible
    if rng.random() < 0.3:
        axis, wavelength = int(rng.integers(3)), rng.uniform(0.15, 0.4)
        drawn = [canvas.noise(rng, wavelength).take(0, axis) for _ in range(canvas.shape[axis])]
        unsteady = rng.uniform(0.02, 0.08) * np.stack(drawn, axis)
        mask = (level + unsteady < 0) & (visible | (level >= 0))
    if rng.random() < 0.25:
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        along = np.tensordot(direction.astype(np.float32), canvas.points, axes=1)
        mask = mask & (along < rng.uniform(0.2, 0.8) * size)
    return mask


def _neighbour_signal(rng: np.random.Generator, own: float, palette: NDArray[np.float64]) -> float:
    """Draw a neighbour's signal: that of the structure, one of the few that recur, or any."""
    kind = rng.random()
    if kind < 0.3:
        return float(own + rng.normal(0.0, 0.02))
    if kind < 0.8:
        return float(rng.choice(palette) + rng.normal(0.0, 0.02))
    return float(rng.uniform(0.0, 1.0))


def _surroundings(rng: np.random.Generator, canvas: _Canvas) -> Field:
    """Tissue around: a few levels that change from place to place, with texture."""
    levels = rng.uniform(0.0, 1.0, rng.integers(1, 5)).astype(np.float32)
    where = canvas.noise(rng, rng.uniform(0.25, 0.9))
    edges = np.sort(rng.normal(0.0, 0.7, len(levels) - 1))
    return np.asarray(levels[np.digitize(where, edges)] + _texture(rng, canvas), dtype=np.float32)


def _texture(rng: np.random.Generator, canvas: _Canvas) -> Field:
    """Variation of the signal inside one tissue."""
    strength = rng.exponential(0.04)
    return np.asarray(strength * canvas.noise(rng, rng.uniform(0.06, 0.5)), dtype=np.float32)


def _inside(rng: np.random.Generator, canvas: _Canvas, level: Field) -> Field:
    """Return what changes inside the structure: texture, a core, vessels, spots."""
    signal = _texture(rng, canvas)
    if rng.random() < 0.15:
        core = level < -rng.uniform(0.2, 0.6)
        signal[core] += rng.uniform(-0.35, 0.35)
    if rng.random() < 0.2:
        contrast = rng.uniform(-0.4, 0.4)
        for _ in range(rng.integers(1, 5)):
            start = rng.normal(0.0, 0.3, 3).astype(np.float32)
            curve = random_curve(rng, start, rng.uniform(0.4, 1.2), rng.uniform(0.0, 3.0))
            vessel = tube(canvas.points, curve, np.full(CURVE_POINTS, rng.uniform(0.02, 0.07), dtype=np.float32))
            signal[vessel < 0] += contrast
    if rng.random() < 0.12:
        spots = canvas.noise(rng, rng.uniform(0.08, 0.25)) > rng.uniform(1.0, 2.0)
        signal[spots] += rng.uniform(-0.35, 0.35)
    return signal


def _acquired(rng: np.random.Generator, canvas: _Canvas, tissue: Field) -> NDArray[np.float32]:
    """Return the scan: blur, bias field, noise (plain, or of a magnitude), gamma."""
    finest = min(canvas.spacing)
    blur = rng.uniform(0.2, 1.0)
    image = ndimage.gaussian_filter(tissue, [blur * finest / s for s in canvas.spacing])
    if rng.random() < 0.6:
        image = image * np.exp(rng.uniform(0.0, 0.3) * canvas.noise(rng, rng.uniform(0.7, 2.0)))
    strength = min(rng.exponential(0.05), 0.25)
    noise = rng.standard_normal(image.shape).astype(np.float32)
    if rng.random() < 0.4:
        noise = ndimage.gaussian_filter(noise, 0.6)
        noise /= noise.std()
    image = image + strength * noise
    if rng.random() < 0.4:
        image = np.hypot(image, strength * rng.standard_normal(image.shape))
    low, high = image.min(), image.max()
    return np.asarray(((image - low) / (high - low)) ** np.exp(rng.normal(0.0, 0.3)), dtype=np.float32)


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(parts == 1 + np.bincount(parts.ravel())[1:].argmax())
