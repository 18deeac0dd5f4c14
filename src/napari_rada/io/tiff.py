"""TIFF stacks through tifffile, with the voxel size of ImageJ, OME and plain resolution tags."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import tifffile

from napari_rada.data.grid import Grid
from napari_rada.errors import InputError
from napari_rada.io.files import log_caught
from napari_rada.io.limits import DEFLATE_RATIO, check_announced, check_pages
from napari_rada.io.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Resolution: TypeAlias = float | tuple[int, int]

MM_PER_UNIT = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1000.0),
    **dict.fromkeys(("inch", "in", "inches"), 25.4),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 0.001),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
    **dict.fromkeys(("å", "angstrom", "ångström"), 1e-7),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-9),
}
DEFLATED = (1, 8, 32773, 32946)
"""TIFF codes of no compression, zlib (two codes) and PackBits."""
RESOLUTION_UNITS = {2: "inch", 3: "cm"}
KEPT_METADATA = ("unit", "yunit", "zunit", "spacing", "xorigin", "yorigin", "zorigin")
IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
IMAGEJ_LIMIT = 2**32 - 2**20
"""ImageJ's own TIFF cannot be larger, in bytes; a plain TIFF can."""

_EXTRA_AXES = {"C": "channels", "S": "colours (RGB)", "T": "time points"}


@dataclass(frozen=True)
class Calibration:
    """How a TIFF file tells its voxel size.

    Parameters
    ----------
    flavour
        ``imagej``, ``ome`` or ``plain``.
    spacing
        mm along (z, y, x).
    resolution, resolution_unit
        The tags as they are: pixels per unit along x and y; 1 no unit, 2 inch, 3 cm.
    metadata
        The part of ImageJ's or OME's metadata that is geometry.
    known
        False if there is no unit and 1 mm was taken for it.
    notes
        What had to be assumed.
    """

    flavour: str
    spacing: tuple[float, float, float]
    resolution: tuple[Resolution, Resolution]
    resolution_unit: int
    metadata: dict[str, Any] = field(default_factory=dict)
    known: bool = True
    notes: tuple[str, ...] = ()


def read_tiff(path: Path) -> Volume:
    """Read a TIFF stack (depth, height, width).

    The voxel size comes from OME metadata, from ImageJ's ``spacing`` and ``unit``, or from the resolution tags. Without
    a unit it is 1 mm; without a distance between slices that distance is taken to be the pixel size.

    Raises
    ------
    InputError
        If the file is damaged, is not a single stack, or holds colours, channels or time points.
    """
    with _opened(path) as (tif, messages):
        series = tif.series
        _check_whole(messages)
        _check_inside(tif)
        _check_series(series, path)
        _check_size(series[0], path)
        calibration = _calibration(tif, path)
        array = np.asarray(series[0].asarray())
    grid = Grid.from_spacing((array.shape[0], array.shape[1], array.shape[2]), calibration.spacing)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Volume(native, grid, path, calibration.known, calibration.notes)


class TiffVoxels:
    """The pixels of a stack, (z, y, x), read when they are asked for: page by page where they are packed.

    `in_pages` is False where they are packed in another way, and cannot be read so.
    """

    def __init__(self, path: Path, series: tifffile.TiffPageSeries) -> None:
        self._path = path
        self.shape = (int(series.shape[0]), int(series.shape[1]), int(series.shape[2]))
        self.dtype = np.dtype(series.dtype)
        self.chunks = (1, *self.shape[1:])
        self._plain = series.dataoffset is not None and series.keyframe.is_memmappable
        self.in_pages = self._plain or len(series.pages) == self.shape[0]

    def __getitem__(self, box: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part."""
        with log_caught("tifffile"):
            if self._plain:
                return np.array(tifffile.memmap(self._path, mode="r")[box])
            with tifffile.TiffFile(self._path) as tif:
                pages = tif.series[0].pages
                numbers = range(*box[0].indices(len(pages)))
                # copies, since a view would keep its whole page
                planes = [cast("tifffile.TiffPage", pages[z]).asarray()[box[1:]].copy() for z in numbers]
        return np.stack(planes)


def open_tiff(path: Path) -> tuple[TiffVoxels, Grid, tuple[str, ...]]:
    """Open a TIFF stack to be read in parts; returns pixels, grid, and what had to be assumed.

    Raises
    ------
    InputError
        As `read_tiff`.
    """
    with _opened(path) as (tif, messages):
        series = tif.series
        _check_whole(messages)
        _check_inside(tif)
        _check_series(series, path)
        calibration = _calibration(tif, path)
        voxels = TiffVoxels(path, series[0])
        if not voxels.in_pages:
            raise InputError(
                f"{path} keeps several slices in one page (volumetric TIFF), which cannot be read in parts; save it as "
                "a plain stack, or predict it in memory."
            )
    return voxels, Grid.from_spacing(voxels.shape, calibration.spacing), calibration.notes


def write_tiff(path: Path, array: NDArray[Any], grid: Grid, like: Path | None) -> None:
    """Write an array (z, y, x), or (C, z, y, x), as a TIFF stack.

    Parameters
    ----------
    path
        Written directly: use it inside `written_whole`.
    grid
        Its spacing is written if there is no `like`; a TIFF knows no orientation.
    like
        A TIFF file whose flavour, resolution tags and metadata the new file gets.
    """
    how = _default_calibration(grid) if like is None else _read_calibration(like)
    data = np.ascontiguousarray(_storable(array))
    imagej = how.flavour == "imagej" and data.dtype.name in IMAGEJ_DTYPES and data.nbytes < IMAGEJ_LIMIT
    if how.flavour == "imagej" and how.known and not imagej and data.dtype.itemsize <= 4:  # OME knows no larger ones
        how = _as_ome(how)
    axes = "ZYX" if array.ndim == 3 else "CZYX"
    if imagej and array.ndim == 4:
        axes, data = "ZCYX", np.ascontiguousarray(data.swapaxes(0, 1))  # the order that ImageJ asks for
    tifffile.imwrite(
        path,
        data,
        imagej=imagej,
        ome=how.flavour == "ome",
        photometric="minisblack",
        resolution=how.resolution,
        resolutionunit=how.resolution_unit,
        metadata={"axes": axes, **(how.metadata if imagej or how.flavour == "ome" else {})},
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tifffile.TiffFile, list[str]]]:
    """Open a file for reading; whatever is wrong with it becomes one `InputError`. Also gives what tifffile logs."""
    try:
        with path.open("rb") as file:
            check_pages(file, path.stat().st_size)
        with log_caught("tifffile") as messages, np.errstate(all="ignore"), tifffile.TiffFile(path) as tif:
            yield tif, messages
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - tifffile raises many kinds for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        if "imagecodecs" in reason:  # tifffile asks for it
            raise InputError(
                f"{path} is packed in a way that needs another package; install it with: pip install imagecodecs, or "
                "save the stack unpacked."
            ) from None
        raise InputError(
            f"{path} cannot be read as TIFF, it is damaged or of a rare kind ({reason}); "
            "export it again as a plain stack."
        ) from None


def _check_whole(messages: list[str]) -> None:
    """Refuse a file whose page list is cut off: tifffile only logs that, and would return the pages that are left."""
    damage = [message for message in messages if "invalid page offset" in message or "corrupted" in message]
    if damage:
        raise tifffile.TiffFileError(damage[0])


def _check_inside(tif: tifffile.TiffFile) -> None:
    """Refuse a file whose pixels lie beyond its end: old versions of tifffile make up what is missing."""
    ends = [
        offset + size
        for page in tif.pages
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=False)
        if size
    ]
    ends += [part.dataoffset + part.nbytes for part in tif.series if part.dataoffset is not None]
    if max(ends, default=0) > tif.filehandle.size:
        raise tifffile.TiffFileError("its pixels lie beyond its end")


def _check_size(series: tifffile.TiffPageSeries, path: Path) -> None:
    known = series.keyframe.compression in DEFLATED
    check_announced(path, prod(series.shape) * np.dtype(series.dtype).itemsize, DEFLATE_RATIO if known else None)


def _check_series(series: Sequence[tifffile.TiffPageSeries], path: Path) -> None:
    if len(series) != 1:
        raise InputError(f"{path} holds {len(series)} images of different kinds; save one stack as its own file.")
    axes, shape = series[0].axes, series[0].shape
    extra = [name for letter, name in _EXTRA_AXES.items() if letter in axes]
    if extra:
        raise InputError(
            f"{path} holds {' and '.join(extra)} (axes {axes}, {shape}); a single 3D stack of grey values is needed: "
            "save one channel and time point as its own file, or, if these are slices, name the axis Z "
            "(ImageJ: Image > Properties)."
        )
    if len(axes) != 3 or not axes.endswith("YX"):
        raise InputError(
            f"{path} has {len(axes)} dimensions {shape} (axes {axes}); a single 3D stack (depth, height, width) is "
            "needed: save it as one."
        )


def _read_calibration(path: Path) -> Calibration:
    with log_caught("tifffile"), tifffile.TiffFile(path) as tif:
        return _calibration(tif, path)


def _calibration(tif: tifffile.TiffFile, path: Path) -> Calibration:
    tags = tif.series[0].keyframe.tags
    resolution = (_resolution(tags, "XResolution"), _resolution(tags, "YResolution"))
    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    if "XResolution" not in tags:
        unit = 1
    if tif.is_ome:
        return _ome(tif, path, resolution, unit)
    if tif.is_imagej:
        return _imagej(tif, path, resolution, unit)
    return _plain(path, resolution, unit)


def _imagej(tif: tifffile.TiffFile, path: Path, resolution: tuple[Resolution, Resolution], unit: int) -> Calibration:
    found = tif.imagej_metadata or {}
    metadata = {key: _escaped(found[key]) for key in KEPT_METADATA if key in found}
    units = [str(metadata.get(key) or metadata.get("unit", "")) for key in ("zunit", "yunit", "unit")]
    factors = [mm for mm in map(_millimetres, units) if mm is not None]
    known = len(factors) == len(units)
    mm_z, mm_y, mm_x = factors if known else (1.0, 1.0, 1.0)
    x, y = _pixel_size(resolution[0]) * mm_x, _pixel_size(resolution[1]) * mm_y
    z = abs(float(metadata.get("spacing") or 0.0)) * mm_z
    notes = []
    if not known:
        notes.append(f"{path.name} {_no_length('no unit of length', units)}; one of its units was taken as 1 mm.")
    elif not z:
        notes.append(_isotropic_note(path, y))
    return Calibration("imagej", (z or y, y, x), resolution, unit, metadata, known, tuple(notes))


def _no_length(what: str, units: Sequence[str]) -> str:
    """Say that a file does not give `what`, or gives it in a unit that is none."""
    found = next((unit for unit in units if unit and _millimetres(unit) is None), None)
    return f"gives {what}" if found is None else f"gives its sizes in {found!r}, which is no known unit of length"


def _escaped(value: Any) -> Any:
    """Return a text in ASCII, all that ImageJ's TIFF holds, with other characters written as ImageJ writes them."""
    if not isinstance(value, str):
        return value
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in value)


def _millimetres(unit: str) -> float | None:
    """Millimetres per unit; None if it is no unit of length."""
    name = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), unit)
    return MM_PER_UNIT.get(name.strip().lower())


def _ome(tif: tifffile.TiffFile, path: Path, resolution: tuple[Resolution, Resolution], unit: int) -> Calibration:
    pixels = _ome_pixels(tif)
    metadata = {key: value for key, value in pixels.items() if key.startswith("PhysicalSize")}
    units = {axis: str(metadata.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"}
    sizes: dict[str, float] = {}
    for axis, name in units.items():
        size = float(metadata.get(f"PhysicalSize{axis}") or 0.0)
        factor = _millimetres(name)
        if size > 0 and factor is not None:
            sizes[axis] = size * factor
    if "Y" not in sizes or "X" not in sizes:
        told = _no_length("no voxel size in its OME metadata", list(units.values()))
        note = f"{path.name} {told}; 1 mm was taken."
        return Calibration("ome", (1.0, 1.0, 1.0), resolution, unit, metadata, False, (note,))
    notes = () if "Z" in sizes else (_isotropic_note(path, sizes["Y"]),)
    spacing = (sizes.get("Z", sizes["Y"]), sizes["Y"], sizes["X"])
    return Calibration("ome", spacing, resolution, unit, metadata, True, notes)


def _ome_pixels(tif: tifffile.TiffFile) -> dict[str, Any]:
    image = tifffile.xml2dict(tif.ome_metadata or "").get("OME", {}).get("Image", {})
    first = image[0] if isinstance(image, list) else image
    return dict(first.get("Pixels", {}))


def _plain(path: Path, resolution: tuple[Resolution, Resolution], unit: int) -> Calibration:
    if unit not in RESOLUTION_UNITS:
        note = f"{path.name} gives no voxel size; 1 mm was taken."
        return Calibration("plain", (1.0, 1.0, 1.0), resolution, 1, known=False, notes=(note,))
    factor = MM_PER_UNIT[RESOLUTION_UNITS[unit]]
    x, y = (_pixel_size(r) * factor for r in resolution)
    return Calibration("plain", (y, y, x), resolution, unit, notes=(_isotropic_note(path, y),))


def _default_calibration(grid: Grid) -> Calibration:
    z, y, x = grid.spacing
    return Calibration("imagej", grid.spacing, (1.0 / x, 1.0 / y), 1, {"unit": "mm", "spacing": z})


def _as_ome(how: Calibration) -> Calibration:
    """Return the same voxel size as OME tells it, for what ImageJ's own TIFF cannot hold."""
    sizes = zip("ZYX", how.spacing, strict=True)
    metadata = {key: value for axis, mm in sizes for key, value in _physical_size(axis, mm)}
    return replace(how, flavour="ome", metadata=metadata)


def _physical_size(axis: str, mm: float) -> Iterator[tuple[str, Any]]:
    yield f"PhysicalSize{axis}", mm
    yield f"PhysicalSize{axis}Unit", "mm"


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """Return the same values in a type that TIFF readers know: ImageJ's, else the smallest whole one or float32."""
    if array.dtype.name in IMAGEJ_DTYPES:
        return array
    if array.dtype.kind not in "biu" or not array.size:
        return array.astype(np.float32)
    low, high = int(array.min()), int(array.max())
    types = (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32)
    fitting = (kind for kind in types if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return array.astype(next(fitting, array.dtype), copy=False)


def _resolution(tags: tifffile.TiffTags, name: str) -> Resolution:
    """Pixels per unit as the file has them, a fraction; 1 where they are missing or zero, as some programs leave it."""
    pixels, units = tags[name].value if name in tags else (1, 1)
    return (int(pixels), int(units)) if pixels > 0 and units > 0 else (1, 1)


def _pixel_size(resolution: Resolution) -> float:
    """Units per pixel."""
    return resolution[1] / resolution[0] if isinstance(resolution, tuple) else 1.0 / resolution


def _isotropic_note(path: Path, size: float) -> str:
    return f"{path.name} gives no distance between its slices; {size:g} mm was taken, its pixel size."
