"""Reading and writing a volume in whatever format its name promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_rada.data.grid import Grid
from napari_rada.durable import REMEDY, written_whole
from napari_rada.errors import InputError, RadaError
from napari_rada.io.files import Format, check_output, check_readable, format_of
from napari_rada.io.nifti import read_nifti, write_nifti
from napari_rada.io.tiff import read_tiff, write_tiff
from napari_rada.memory import shortage_explained

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_rada.io.volume import Volume


@shortage_explained
def read_volume(path: Path | str) -> Volume:
    """Read a 3D image or label file: NIfTI (.nii, .nii.gz) or a TIFF stack (.tif, .tiff).

    Returns
    -------
    Volume
        The array (z, y, x) and its grid in millimetres.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another format, not 3D, or in colour.
    NotEnoughMemoryError
        If there is no room for it.
    """
    path = Path(path)
    check_readable(path)
    return read_nifti(path) if format_of(path) is Format.NIFTI else read_tiff(path)


def lost_in(path: Path | str, grid: Grid) -> str:
    """Say what a file of this name cannot tell of a grid; empty if nothing."""
    path = Path(path)
    if format_of(path) is Format.NIFTI or grid.matches(Grid.from_spacing(grid.shape, grid.spacing)):
        return ""
    return f"{path.name} keeps the size of the voxels but, as TIFF, not where and how they lie."


def write_volume(
    path: Path | str,
    array: NDArray[Any],
    grid: Grid,
    like: Path | None = None,
    *,
    labels: bool = False,
    remedy: str = REMEDY,
    before: Callable[[Path], None] | None = None,
) -> None:
    """Write a volume, replacing a file of that name only when the new one is complete.

    Parameters
    ----------
    path
        The suffix decides the format.
    array
        (z, y, x), or (C, z, y, x) for several maps in one file.
    grid
        Where the voxels lie.
    like
        A file on the same grid. If it has the same format, the new file gets its header geometry exactly (NIfTI:
        shape, affine, qform, sform, codes, units; TIFF: resolution tags, ImageJ or OME calibration).
    labels
        Let a NIfTI header say that the values are labels, whatever the file's name.
    remedy
        The advice where the operating system refuses.
    before
        Called when the new file is complete, with its temporary name, before it replaces the old one.

    Raises
    ------
    InputError
        If the file cannot be written, or the array does not fit the grid.
    """
    path = check_output(path)
    if array.shape[-3:] != grid.shape:
        raise InputError(f"{path}: the array has shape {array.shape} but its geometry is for {grid.shape}.")
    if like is not None and format_of(like) is not format_of(path):
        like = None
    try:
        with written_whole(path, remedy=remedy) as temporary:
            if format_of(path) is Format.NIFTI:
                write_nifti(temporary, array, grid, like, labels=labels)
            else:
                write_tiff(temporary, array, grid, like)
            if before is not None:
                before(temporary)
    except RadaError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be written ({reason}); choose another format for it.") from None
