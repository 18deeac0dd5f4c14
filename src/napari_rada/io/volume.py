"""A volume as it was read from a file, and how the axes of a file become array axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_rada.io.files import Format, format_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.grid import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """The content of one image or label file.

    Parameters
    ----------
    array
        (z, y, x), the file's own dtype in native byte order; floating point if the header scales the values.
    grid
        Shape and affine, in millimetres whatever the unit of the file.
    path
        Where it was read from.
    calibrated
        False if the file does not say how large its voxels are, and 1 mm was taken.
    notes
        What had to be assumed, one sentence each.
    labels
        True if the file says that its values are labels.
    """

    array: NDArray[Any]
    grid: Grid
    path: Path
    calibrated: bool = True
    notes: tuple[str, ...] = ()
    labels: bool = False

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """Voxels along the file's own axes."""
        shape = self.grid.shape
        return shape if format_of(self.path) is Format.TIFF else (shape[2], shape[1], shape[0])


def file_axis(path: Path | None, axis: int) -> int:
    """Turn an array axis (0 z, 1 y, 2 x) into the file's own axis; the same turns it back.

    Parameters
    ----------
    path
        NIfTI files count their axes the other way round (i = 0 is x); TIFF files and None count as arrays do.
    axis
        0, 1 or 2.
    """
    return 2 - axis if path is not None and format_of(path) is Format.NIFTI else axis
