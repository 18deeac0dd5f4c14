"""What comes out: the mask and how sure it is, on the case's own grid."""

from __future__ import annotations

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
        (z, y, x) float32 in 0..1: how much the three networks contradict each other (Jensen-Shannon divergence in
        units of its maximum); None where there was only one opinion.
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

    def volumes_ml(self) -> dict[str, float]:
        """Volume of every foreground class in millilitres."""
        per_voxel = self.grid.voxel_volume_ml
        return {c.name: float((self.mask == c.value).sum()) * per_voxel for c in self.classes.classes[1:]}


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
