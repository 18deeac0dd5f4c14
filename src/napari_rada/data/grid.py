"""Where voxels lie in the world: shape, spacing, orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_rada.errors import InputError

Shape: TypeAlias = tuple[int, int, int]
Spacing: TypeAlias = tuple[float, float, float]
Affine: TypeAlias = NDArray[np.float64]

PLANE_NAMES = ("sagittal", "coronal", "axial")
"""Name of the plane perpendicular to world axis 0 (left-right), 1 (back-front), 2 (foot-head)."""

ENDS = ("LR", "PA", "IS")
"""The ends of the same directions, the one where it leads last."""
TOLERANCE = 0.02
"""Grids whose voxels lie no farther apart than this share of the finest spacing are one grid."""


def told_out_of_scale(name: str, found: Spacing, learned: Spacing | None) -> str | None:
    """Say that the working voxels of a scan are not of the size that networks learned on; None if they are about it.

    Parameters
    ----------
    name
        The scan's name.
    found, learned
        mm along (z, y, x) on the scan's working grid, and on that of the run, if it has one spacing for all.
    """
    if learned is None or np.abs(np.log2(np.divide(found, learned))).max() <= 1.0:
        return None
    own, known = (" x ".join(f"{mm:.3g}" for mm in spacing) for spacing in (found, learned))
    return (
        f"{name} has working voxels of {own} mm along (z, y, x) and the networks learned on {known} mm; check the "
        "voxel size that the file gives, since structures look to them as if they had another size."
    )


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel grid of one volume.

    Parameters
    ----------
    shape
        Voxels along (z, y, x).
    affine
        (4, 4); takes a voxel index (z, y, x, 1) to world millimetres (x, y, z, 1), x to the right, y to the front,
        z to the head (RAS, as NIfTI has it).
    oriented
        False if nobody knows how the volume lies in the patient, as with a TIFF stack or a plain array.

    Raises
    ------
    InputError
        If the affine is not finite or squashes the volume flat.
    """

    shape: Shape
    affine: Affine
    oriented: bool = True

    def __post_init__(self) -> None:
        matrix = self.affine[:3, :3]
        # Compared with the product of the voxel sizes, since those of a microscope are tiny in millimetres.
        if not np.isfinite(self.affine).all() or abs(np.linalg.det(matrix)) <= 1e-6 * np.prod(self.spacing):
            raise InputError(
                f"The image's affine {np.round(matrix, 4).tolist()} is singular or not finite; "
                "voxel sizes must be positive numbers. Correct the file's header."
            )

    @classmethod
    def from_spacing(cls, shape: Shape, spacing: Spacing = (1.0, 1.0, 1.0)) -> Grid:
        """Make an axis-aligned grid at the origin, of unknown orientation; `spacing` in mm along (z, y, x).

        Raises
        ------
        InputError
            If the spacing is not three positive numbers.
        """
        sizes = np.asarray(spacing) if np.shape(spacing) == (3,) else np.zeros(3)
        if sizes.dtype.kind not in "iuf" or not ((sizes > 0) & np.isfinite(sizes)).all():
            raise InputError(f"The spacing {spacing!r} is not three positive numbers; write mm along (z, y, x).")
        affine = np.zeros((4, 4))
        for axis in range(3):
            affine[2 - axis, axis] = spacing[axis]
        affine[3, 3] = 1.0
        return cls(shape, affine, oriented=False)

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm along (z, y, x)."""
        norms = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(norms[0]), float(norms[1]), float(norms[2]))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def plane_name(self, axis: int) -> str:
        """Anatomical name of a slice perpendicular to array `axis`: the nearest of axial, coronal, sagittal."""
        return self._plane_names[axis]

    def axis_of_plane(self, name: str) -> int:
        """Array axis perpendicular to the plane called `name`."""
        return self._plane_names.index(name)

    @property
    def orientation(self) -> str | None:
        """Where the axes x, y, z lead, to the nearest direction, such as RAS or LPS; None if that is not known."""
        if not self.oriented:
            return None
        worlds = self._worlds
        return "".join(ENDS[worlds[axis]][int(self.affine[worlds[axis], axis] > 0)] for axis in (2, 1, 0))

    @property
    def _plane_names(self) -> list[str]:
        return [PLANE_NAMES[world] for world in self._worlds]

    @property
    def _worlds(self) -> list[int]:
        """The direction of the world nearest to each array axis, none twice, also for oblique grids."""
        cosines = np.abs(self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0))
        found = [0] * 3
        for _ in range(3):
            world, axis = np.unravel_index(int(np.argmax(cosines)), (3, 3))
            found[int(axis)] = int(world)
            cosines[world, :] = -1.0
            cosines[:, axis] = -1.0
        return found

    def matches(self, other: Grid, tolerance: float = TOLERANCE) -> bool:
        """Tell whether both grids put every voxel at the same place, to `tolerance` of the finest spacing."""
        if self.shape != other.shape:
            return False
        corners = np.array(
            [(z, y, x, 1) for z in (0, self.shape[0]) for y in (0, self.shape[1]) for x in (0, self.shape[2])]
        ).T
        return bool(np.abs((self.affine - other.affine) @ corners).max() <= tolerance * min(self.spacing))
