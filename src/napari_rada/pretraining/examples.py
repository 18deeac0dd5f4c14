"""From a synthetic scan to what the completer learns from: the cues of a few slices, and the truth everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.control import RunControl
from napari_rada.data.box import box_selector
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.data.working import make_working_case
from napari_rada.pretraining.scenes import make_scene
from napari_rada.propagation.cues import CueMaker
from napari_rada.propagation.diffusion import DiffusionPropagator
from napari_rada.settings import DiffusionConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.pretraining.scenes import Scene

OFF_CENTRE = 0.06
"""Slices that miss the largest area miss it by this share of the structure's length, as standard deviation."""


@dataclass(frozen=True, eq=False)
class Example:
    """One completion task on its working grid.

    Parameters
    ----------
    cues
        (K, Z, Y, X) float16.
    share
        (Z, Y, X) float16: how much of each voxel the structure fills.
    """

    cues: NDArray[np.float16]
    share: NDArray[np.float16]


def make_example(rng: np.random.Generator, max_voxels: int, margin: float) -> Example:
    """Draw a scene and a few annotated slices, propagate them, and compute the cues."""
    scene = make_scene(rng)
    return _example(scene, draw_slices(rng, scene.mask), max_voxels, margin)


def draw_slices(rng: np.random.Generator, mask: NDArray[np.bool_]) -> list[AnnotatedSlice]:
    """Choose slices as people do: mostly one per axis near the largest area, at times more, or one axis without."""
    axes = list(range(3))
    if rng.random() < 0.15:
        axes.remove(int(rng.integers(3)))
    slices = []
    exact = rng.random() < 0.6
    more = rng.random() < 0.15
    for axis in axes:
        area = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        hit = np.flatnonzero(area)
        wanted = int(area.argmax())
        if not exact:
            wanted = round(wanted + rng.normal(0.0, OFF_CENTRE) * len(hit))
        chosen = {int(np.clip(wanted, hit[0], hit[-1]))}
        if more:
            chosen |= {int(k) for k in rng.choice(hit, size=int(rng.integers(1, 4)))}
        slices += [AnnotatedSlice(axis, index) for index in sorted(chosen)]
    return slices


def _example(scene: Scene, slices: list[AnnotatedSlice], max_voxels: int, margin: float) -> Example:
    """Propagate the annotated slices of a scene, and compute their cues and the truth on the working grid."""
    dense = scene.mask.astype(np.uint16)
    z, y, x = scene.mask.shape
    grid = Grid.from_spacing((z, y, x), scene.spacing)
    case = Case.create(scene.image, dense, slices=slices, grid=grid, name="synthetic")
    working = make_working_case(case, check_trainable([case]), max_voxels=max_voxels, crop_margin=margin)
    propagator = DiffusionPropagator(DiffusionConfig(max_voxels=max_voxels))
    pseudo = propagator.propagate(working, held_out=False, control=RunControl(), on_progress=lambda done, total: None)
    cues = CueMaker(working, working.truth, working.slices).of_class(1, pseudo.probability[1])
    share = _filled(scene.mask[box_selector(working.box)], working.factors)
    return Example(cues.astype(np.float16), share.astype(np.float16))


def _filled(mask: NDArray[np.bool_], factors: tuple[int, int, int]) -> NDArray[np.float32]:
    pad = [(0, -size % factor) for size, factor in zip(mask.shape, factors, strict=True)]
    padded = np.pad(mask, pad, mode="edge")
    z, y, x = (size // factor for size, factor in zip(padded.shape, factors, strict=True))
    blocks = padded.reshape(z, factors[0], y, factors[1], x, factors[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)
