"""NIfTI-1 and NIfTI-2 files through nibabel: axes (i, j, k) become (z, y, x) here and nowhere else."""

from __future__ import annotations

import gzip
import warnings
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import nibabel as nib
import numpy as np

from napari_rada.data.grid import Grid
from napari_rada.errors import InputError
from napari_rada.io.files import log_caught, suffix_of
from napari_rada.io.limits import DEFLATE_RATIO, check_announced, check_front, check_rest
from napari_rada.io.volume import Volume

if TYPE_CHECKING:
    from io import IOBase
    from pathlib import Path

    from numpy.typing import NDArray

MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
"""Other units, and none, count as millimetres."""
NIFTI1_LONGEST = 2**15 - 1
"""Voxels along an axis that a NIfTI-1 header can tell."""

LABELS = 1002
"""NIfTI's intent code of an image whose values are labels (NIFTI_INTENT_LABEL)."""

_REVERSED = [2, 1, 0, 3]

# It is read as it is long, and the header tells where the voxels begin. Once for all threads, which share the filters.
warnings.filterwarnings("ignore", "Extension size is not a multiple of 16", UserWarning, r"nibabel\.nifti1")


def read_nifti(path: Path) -> Volume:
    """Read a 3D NIfTI file; further axes of length 1 are dropped.

    Raises
    ------
    InputError
        If the file is damaged, is not 3D, or holds colours or complex numbers.
    """
    image = _open(path)
    _check_kind(image, path)
    with np.errstate(all="ignore"):
        grid = _grid(image, path)
        notes = _notes(image, path)
    size = prod(image.shape) * image.get_data_dtype().itemsize
    try:
        check_announced(path, size, DEFLATE_RATIO if is_compressed(path) else 1)
        with log_caught("nibabel.global"), np.errstate(all="ignore"):
            array = _voxels(image, path).reshape(image.shape[:3])
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - nibabel raises many kinds for a damaged file
        raise _unreadable(path, error) from None
    native = array.T.astype(array.dtype.newbyteorder("="), copy=False)
    labels = int(image.header["intent_code"]) == LABELS
    return Volume(native, grid, path, _tells_sizes(image, path), notes, labels)


class NiftiVoxels:
    """The voxels of an uncompressed file, (z, y, x), read when they are asked for."""

    def __init__(self, image: nib.Nifti1Image) -> None:
        self._proxy = image.dataobj
        self._further = (0,) * (len(image.shape) - 3)
        self.shape = (int(image.shape[2]), int(image.shape[1]), int(image.shape[0]))
        first: NDArray[Any] = self[0:1, 0:1, 0:1]
        self.dtype = first.dtype

    def __getitem__(self, box: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part."""
        part: NDArray[Any] = np.asanyarray(self._proxy[(*reversed(box), *self._further)])
        return part.T


def open_nifti(path: Path) -> tuple[NiftiVoxels, Grid, tuple[str, ...]]:
    """Open an uncompressed 3D NIfTI file to be read in parts; returns voxels, grid, and what had to be assumed.

    Raises
    ------
    InputError
        As `read_nifti`.
    """
    image = _open(path)
    _check_kind(image, path)
    with np.errstate(all="ignore"):
        grid, notes = _grid(image, path), _notes(image, path)
    end = int(cast("Any", image.dataobj).offset) + prod(image.shape) * image.get_data_dtype().itemsize
    if end > path.stat().st_size:
        raise _unreadable(path, ValueError("it is shorter than its header announces"))
    try:
        return NiftiVoxels(image), grid, notes
    except Exception as error:  # noqa: BLE001 - nibabel raises many kinds for a damaged file
        raise _unreadable(path, error) from None


def write_nifti(path: Path, array: NDArray[Any], grid: Grid, like: Path | None, *, labels: bool = False) -> None:
    """Write an array (z, y, x), or (C, z, y, x) as a 4D file with C last.

    Parameters
    ----------
    path
        Written directly: use it inside `written_whole`.
    grid
        Geometry of the file if there is no `like`.
    like
        A NIfTI file whose version, shape, qform, sform, their codes and units the new file gets.
    labels
        Let the header say that the values are labels.
    """
    data = np.ascontiguousarray(_storable(array)).T
    if like is None:
        affine = grid.affine[:, _REVERSED]
        kind: type[nib.Nifti1Image] = nib.Nifti1Image if max(data.shape) <= NIFTI1_LONGEST else nib.Nifti2Image
        image = kind(data, affine, dtype=data.dtype)
        image.set_sform(affine, code="aligned")
        image.set_qform(affine, code="aligned")
        image.header.set_xyzt_units("mm")
    else:
        source = _open(like)
        if tuple(source.shape[:3]) != data.shape[:3]:
            raise InputError(f"{like} has shape {source.shape} and not {data.shape}; has it been changed meanwhile?")
        if data.ndim == 3:
            data = data.reshape(source.shape)
        image = type(source)(data, source.affine, _geometry_header(source, data))
    if labels:
        image.header.set_intent(LABELS)
    nib.save(image, path)


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """Return the values in a type that every NIfTI reader knows: of 64-bit integers the smallest that holds them."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return array.astype(np.result_type(*(np.min_scalar_type(int(end)) for end in (array.min(), array.max()))))
    return array


def _open(path: Path) -> nib.Nifti1Image:
    try:
        with log_caught("nibabel.global"):
            with _unpacked(path) as file:
                check_front(file)
            image = nib.load(path, mmap=False)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - nibabel raises many kinds for a damaged file
        raise _unreadable(path, error) from None
    if not isinstance(image, nib.Nifti1Image):
        raise InputError(f"{path} holds a {type(image).__name__}; a NIfTI-1 or NIfTI-2 volume is needed.")
    return image


def is_compressed(path: Path) -> bool:
    """Tell whether a file is packed as a whole, so that no part of it can be read alone."""
    return suffix_of(path).lower().endswith(".gz")


def _unpacked(path: Path) -> BinaryIO:
    """Open the content of a file, unpacked."""
    return cast("BinaryIO", gzip.open(path)) if is_compressed(path) else path.open("rb")


def _voxels(image: nib.Nifti1Image, path: Path) -> NDArray[Any]:
    """Read the voxels, and what follows them in a compressed file: the checksum comes last."""
    with _unpacked(path) as file:
        holder = nib.FileHolder(fileobj=cast("IOBase", file))
        array: NDArray[Any] = np.asanyarray(type(image).from_file_map({"image": holder}).dataobj)
        if is_compressed(path):
            check_rest(path, file)
    return array


def _tells_sizes(image: nib.Nifti1Image, path: Path) -> bool:
    """Tell whether the header gives a voxel size along every axis; where it has none, nibabel takes 1."""
    if image.header["sform_code"]:
        return True
    with _unpacked(path) as file:
        raw = type(image).header_class.from_fileobj(file, check=False)
    return bool((raw["pixdim"][1:4] != 0).all())


def _notes(image: nib.Nifti1Image, path: Path) -> tuple[str, ...]:
    """Tell of a voxel size that is missing, and of two geometries in one header that contradict each other."""
    if not _tells_sizes(image, path):
        return (f"{path.name} gives no voxel size; 1 mm was taken.",)
    try:
        qform, sform = image.header.get_qform(coded=True)[0], image.header.get_sform(coded=True)[0]
    except ValueError:  # a qform that is none, beside a sform that is taken anyway
        return ()
    if qform is None or sform is None:
        return ()
    corner = np.array([*image.shape[:3], 1.0])
    apart = float(np.abs((qform - sform) @ corner).max())
    if apart <= 0.5 * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
        return ()
    return (f"{path.name} holds two geometries (qform and sform) that differ; the sform was taken.",)


def _check_kind(image: nib.Nifti1Image, path: Path) -> None:
    shape, dtype = image.shape, image.get_data_dtype()
    if dtype.fields is not None:
        raise InputError(f"{path} is a colour (RGB) image; convert it to grey values, one number per voxel, first.")
    if dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers; save the magnitude as its own file first.")
    if min(shape, default=0) < 1:
        raise InputError(f"{path} has the dimensions {tuple(shape)} and so no voxels; export it again.")
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        remedy = (
            "stack the slices into a volume" if len(shape) < 3 else "save one time point or channel as its own file"
        )
        raise InputError(
            f"{path} has {len(shape)} dimensions {tuple(shape)}; a single 3D volume is needed: {remedy} first."
        )


def _grid(image: nib.Nifti1Image, path: Path) -> Grid:
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:
        unit = "unknown"
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= MM_PER_UNIT.get(unit, 1.0)
    shape = image.shape
    try:
        told = bool(image.header["sform_code"] or image.header["qform_code"])
        return Grid((shape[2], shape[1], shape[0]), affine[:, _REVERSED], oriented=told)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _geometry_header(source: nib.Nifti1Image, data: NDArray[Any]) -> nib.Nifti1Header:
    """Header with the source's geometry, without what describes the source's intensities or its patient."""
    header: nib.Nifti1Header = source.header.copy()
    header.extensions.clear()
    header.set_data_dtype(data.dtype)
    if data.shape != source.shape:
        header.set_data_shape(data.shape)
    header.set_slope_inter(None, None)
    header.set_intent("none")
    for field in ("cal_min", "cal_max"):
        header[field] = 0
    for field in ("descrip", "aux_file"):
        header[field] = b""
    return header


def _unreadable(path: Path, error: BaseException) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"{path} cannot be read as NIfTI, it is damaged or truncated ({reason}); export or copy it again."
    )
