"""Volumes that are read in parts: zarr, OME-Zarr, TIFF, uncompressed NIfTI, and arrays of dask or zarr."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np

from napari_rada.data.grid import Grid, Shape, Spacing
from napari_rada.errors import InputError, MissingDependencyError, RadaError
from napari_rada.io.files import Format, check_readable, format_of, stem_of
from napari_rada.io.formats import read_volume
from napari_rada.io.ngff import MARKERS, Placement, check_array, is_array, is_zarr, read_multiscale
from napari_rada.io.nifti import is_compressed, open_nifti
from napari_rada.io.tiff import open_tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.data.box import Box

SCALE_EXTRA = "install it with: pip install zarr dask distributed"


class Readable(Protocol):
    """What dask, zarr, h5py and numpy arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        ...

    def __getitem__(self, index: Any) -> Any:
        """Read a part."""
        ...


@dataclass(frozen=True, eq=False)
class LazyVolume:
    """A volume that is read in parts; make it with `open_lazy` or `from_array`.

    It can be sent to another process, which opens the file again when it first reads from it.

    Parameters
    ----------
    name
        How messages call it.
    array
        (…, z, y, x); axes before the last three have length 1.
    grid
        Shape and affine in millimetres.
    placement
        The same in the unit of the file, without orientation, which OME-Zarr does not know.
    path
        Where it was opened; None for an array of this process.
    notes
        What had to be assumed, one sentence each.
    token
        Tells this opening of the file from others.
    """

    name: str
    array: Readable
    grid: Grid
    placement: Placement
    path: Path | None = None
    notes: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        shape = tuple(self.array.shape)
        if len(shape) < 3 or any(size != 1 for size in shape[:-3]):
            raise InputError(
                f"{self.name} has {len(shape)} axes {shape}; a single 3D volume is needed: save one channel and time "
                "point as an array of its own."
            )
        if np.dtype(self.array.dtype).kind not in "buif":
            raise InputError(f"{self.name} holds values of type {self.array.dtype}; real numbers are needed.")
        if min(shape[-3:]) < 2:
            raise InputError(f"{self.name} has shape {shape[-3:]}; at least 2 voxels along every axis are needed.")

    def __reduce__(self) -> tuple[Any, ...]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.path is not None:
            values["array"] = SentVoxels(self.path, self.token, tuple(self.array.shape), self.dtype, self.chunks)
        return LazyVolume, tuple(values.values())

    @property
    def shape(self) -> Shape:
        """Voxels along (z, y, x)."""
        return self.grid.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in native byte order."""
        found: np.dtype[Any] = np.dtype(self.array.dtype)
        return found.newbyteorder("=")

    @property
    def chunks(self) -> Shape:
        """Size of the parts in which it is stored, where that is known; else single voxels."""
        found = getattr(self.array, "chunksize", None) or getattr(self.array, "chunks", None) or (1, 1, 1)
        return (int(found[-3]), int(found[-2]), int(found[-1]))

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box, (z, y, x).

        Raises
        ------
        InputError
            If it cannot be read.
        """
        lead = (0,) * (len(self.array.shape) - 3)
        where = tuple(slice(a, b) for a, b in zip(*box, strict=True))
        try:
            part = self.array[(*lead, *where)]
            values = np.asarray(part.compute(scheduler="synchronous") if hasattr(part, "compute") else part)
        except (MemoryError, RadaError):
            raise
        except Exception as error:  # noqa: BLE001 - each library has its own errors for damaged chunks
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self.name}: the voxels from {box[0]} to {box[1]} cannot be read ({reason}); copy or write it again."
            ) from None
        return values.astype(self.dtype, copy=False)


class ZarrVoxels:
    """The voxels of a zarr array, whose folder has to stay: zarr takes a part without a file for an empty one."""

    def __init__(self, array: Any, folder: Path) -> None:
        self._array, self._folder = array, folder
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype: np.dtype[Any] = array.dtype
        self.chunks: tuple[int, ...] = tuple(array.chunks)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part."""
        part: NDArray[Any] = self._array[index]
        if not self._folder.is_dir():
            raise InputError(f"{self._folder} is not there any more; put it back, then do the same again.")
        return part


@dataclass(frozen=True)
class SentVoxels:
    """The voxels of a volume that another process opened; here its file is opened when they are first read, and once.

    Parameters
    ----------
    path, token
        Of the volume.
    shape, dtype, chunks
        As the other process found them.
    """

    path: Path
    token: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: Shape

    def __getitem__(self, index: Any) -> Any:
        """Read a part."""
        if self.token not in _sent:
            _sent.clear()
            _sent[self.token] = open_lazy(self.path)
        return _sent[self.token].array[index]


_sent: dict[str, LazyVolume] = {}
"""The volume of another process that was opened last."""


def open_lazy(path: Path | str) -> LazyVolume:
    """Open a volume to be read in parts.

    Parameters
    ----------
    path
        Folder of an OME-Zarr image (0.4, 0.5; its finest level) or of a zarr array; TIFF; NIfTI. A compressed NIfTI
        file (.nii.gz) cannot be read in parts and is read whole.

    Raises
    ------
    InputError
        If it is none of these, is damaged, or is not a single 3D volume.
    MissingDependencyError
        If the package zarr is needed and not installed.
    """
    path = Path(path)
    if is_zarr(path):
        return _open_zarr(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder but no zarr; name an OME-Zarr (.zarr), a TIFF or a NIfTI file.")
    check_readable(path)
    kind = format_of(path)
    if kind is Format.NIFTI and is_compressed(path):
        volume = read_volume(path)
        note = f"{path.name} is packed as a whole and was read whole; unpack it (gunzip) to read it in parts."
        return LazyVolume(
            stem_of(path), volume.array, volume.grid, placement_of(volume.grid), path, (*volume.notes, note)
        )
    array, grid, notes = open_nifti(path) if kind is Format.NIFTI else open_tiff(path)
    return LazyVolume(stem_of(path), array, grid, placement_of(grid), path, notes)


def from_array(
    array: Readable, *, spacing: Spacing = (1.0, 1.0, 1.0), grid: Grid | None = None, name: str = "volume"
) -> LazyVolume:
    """Take an array (z, y, x) of dask, zarr, or anything that is read by slicing.

    Parameters
    ----------
    spacing
        mm along (z, y, x); ignored if `grid` is given.

    Raises
    ------
    InputError
        If it is not a single 3D volume of real numbers.
    """
    if grid is None:
        shape = tuple(array.shape)
        if len(shape) < 3:
            raise InputError(f"{name} has {len(shape)} axes {shape}; a single 3D volume is needed.")
        grid = Grid.from_spacing((int(shape[-3]), int(shape[-2]), int(shape[-1])), spacing)
    return LazyVolume(name, array, grid, placement_of(grid))


def files_of(path: Path) -> list[Path]:
    """Return the files that hold the voxels of a volume, sorted: the file itself, or those of the zarr array."""
    if path.is_file():
        return [path]
    folder = path if is_array(path) else read_multiscale(path).array
    return sorted(file for file in folder.rglob("*") if file.is_file())


def placement_of(grid: Grid) -> Placement:
    """Return what OME-Zarr can tell of a grid: voxel size and, if it is not turned or mirrored, the place."""
    upright = Grid.from_spacing(grid.shape, grid.spacing).affine
    straight = np.allclose(grid.affine[:3, :3], upright[:3, :3], atol=1e-6 * min(grid.spacing))
    x, y, z = (float(value) for value in grid.affine[:3, 3]) if straight else (0.0, 0.0, 0.0)
    return Placement(grid.spacing, (z, y, x), "millimeter")


def _open_zarr(path: Path) -> LazyVolume:
    if not path.is_dir():
        what = "is no folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; name the folder of an OME-Zarr image.")
    if not any((path / marker).is_file() for marker in MARKERS):
        raise InputError(f"{path} holds no zarr (neither .zgroup nor .zarray nor zarr.json); copy the whole folder.")
    axes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if is_array(path):
        folder, placement = path, Placement((1.0, 1.0, 1.0))
        notes = (f"{path.name} is a zarr array without voxel size; 1 mm was taken.",)
    else:
        image = read_multiscale(path)
        folder, placement, axes = image.array, image.placement, image.axes
        if placement.unit is None:
            notes = (f"{path.name} gives no unit of length; one of its units was taken as 1 mm.",)
    check_array(folder)
    array = _zarr_array(folder)
    shape = tuple(array.shape)
    if len(shape) < 3 or len(axes) not in (0, len(shape)):
        named = f", named {' '.join(axes)}" if axes else ""
        raise InputError(f"{path} has {len(shape)} axes {shape}{named}; a single 3D volume is needed.")
    grid = _grid((int(shape[-3]), int(shape[-2]), int(shape[-1])), placement)
    return LazyVolume(path.name.removesuffix(".zarr").removesuffix(".ome"), array, grid, placement, path, notes)


def _zarr_array(folder: Path) -> ZarrVoxels:
    try:
        import zarr
    except ImportError:
        raise MissingDependencyError(f"Reading {folder} needs the package zarr; {SCALE_EXTRA}.") from None
    try:
        return ZarrVoxels(zarr.open_array(str(folder), mode="r"), folder)
    except Exception as error:  # noqa: BLE001 - zarr raises many kinds for damaged metadata
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{folder} cannot be read as zarr ({reason}); write the array again.") from None


def _grid(shape: Shape, placement: Placement) -> Grid:
    z, y, x = (size * placement.millimetres for size in placement.scale)
    grid = Grid.from_spacing(shape, (z, y, x))
    grid.affine[:3, 3] = [value * placement.millimetres for value in reversed(placement.translation)]
    return grid
