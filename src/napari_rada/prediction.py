"""What comes out: the mask and how sure it is, on the case's own grid.

Shape legend: N opinions, C classes, Z Y X working grid, z y x full grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.classes import ClassTable
    from napari_rada.data.grid import Grid


@dataclass(frozen=True, eq=False)
class Prediction:
    """A dense labelling of one case.

    Parameters
    ----------
    name
        The case's name.
    mask
        (z, y, x) label values, smallest unsigned dtype that holds them.
    probability
        (C, z, y, x) float32 per class index, sums to 1.
    disagreement
        (z, y, x) float32 in 0..1: how much the opinions that the mask is made of (three networks; random walker,
        completer and their pool) contradict each other, see `disagreement`; None where there was only one opinion.
    grid, classes
        Of the case.
    source
        The image file, if it came from one: `napari_rada.io.save_mask` gives the mask that file's geometry.
    provenance
        Where the mask comes from: run folder, iteration, method.
    """

    name: str
    mask: NDArray[np.unsignedinteger]
    probability: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None
    grid: Grid
    classes: ClassTable
    source: Path | None = None
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def foreground(self) -> NDArray[np.float32]:
        """(z, y, x) probability of not being background."""
        return np.asarray(1.0 - self.probability[0], dtype=np.float32)

    @property
    def doubt(self) -> NDArray[np.float32]:
        """(z, y, x) probability that the likeliest class is the wrong one; a sum that exceeds 1 by rounding gives 0."""
        doubt = np.asarray(1.0 - self.probability.max(axis=0), dtype=np.float32)
        return np.maximum(doubt, 0.0, out=doubt)

    def volumes_ml(self) -> dict[str, float]:
        """Volume of every foreground class in millilitres."""
        per_voxel = self.grid.voxel_volume_ml
        return {c.name: float((self.mask == c.value).sum()) * per_voxel for c in self.classes.classes[1:]}

    def sizes(self, most: int | None = None) -> str:
        """Say how large every foreground class is, or the first `most`: `organ 1,940 ml, tumour 2.3 ml and 7 more`."""
        told = [f"{name} {millilitres(volume)} ml" for name, volume in self.volumes_ml().items()]
        left = len(told) - (len(told) if most is None else most)
        return ", ".join(told) if left <= 0 else f"{', '.join(told[:most])} and {left} more"


def millilitres(volume: float) -> str:
    """Write a volume in millilitres with three digits, or more if it is large."""
    return f"{volume:,.0f}" if volume >= 100 else f"{volume:.3g}"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the networks look for one class.

    Parameters
    ----------
    name, grid, source
        Of the case.
    class_name
        The class.
    heat
        (z, y, x) float32 in 0..1: Grad-CAM, the mean of the networks'.
    provenance
        Run folder, iteration, guidance (which says so if its weights were random).
    """

    name: str
    class_name: str
    heat: NDArray[np.float32]
    grid: Grid
    source: Path | None = None
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)


def disagreement(opinions_NCZYX: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Jensen-Shannon divergence of several opinions, (Z, Y, X), in 0..1 of its maximum ln min(N, C).

    None for a single opinion.
    """
    if len(opinions_NCZYX) == 1:
        return None
    mean = opinions_NCZYX.mean(axis=0)
    own = np.mean([_entropy(opinion_CZYX) for opinion_CZYX in opinions_NCZYX], axis=0)
    scale = math.log(min(opinions_NCZYX.shape[:2]))
    return np.asarray(np.clip((_entropy(mean) - own) / scale, 0.0, 1.0), dtype=np.float32)


def _entropy(probability_CZYX: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(-(probability_CZYX * np.log(np.maximum(probability_CZYX, 1e-6))).sum(axis=0), dtype=np.float32)
