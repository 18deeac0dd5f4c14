"""Finding and reading the scans of a published data set, in the layouts in which people have it.

- ``la2018``: the challenge's archive, ``NAME/lgemri.nrrd`` beside ``NAME/laendo.nrrd``;
- ``kits19``: the challenge's repository, ``case_00000/imaging.nii.gz`` beside ``segmentation.nii.gz``;
- ``lits``: the challenge's archives, ``volume-0.nii`` and ``segmentation-0.nii``, together or in two folders;
- any: the widely used preprocessed form, one HDF5 file per scan with ``image`` and ``label``, axes (x, y, z);
- any: ``NAME_image.nii.gz`` beside ``NAME_label.nii.gz``.

In the last two a scan without labels is an unlabelled one.

All are looked for in every folder below the one that is named.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_rada.data.grid import Grid
from napari_rada.errors import InputError, MissingDependencyError
from napari_rada.io import check_same_grid
from napari_rada.io.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.grid import Spacing
    from napari_rada.evaluation.protocols.definitions import ProtocolDefinition

FOLDER_ROLES = {
    "labeled": "labelled",
    "unlabeled": "unlabelled",
    "train": "train",
    "validation": "test",
    "test": "test",
}
"""What the name of a scan's folder says about its use, if nothing else does."""


@dataclass(frozen=True)
class Source:
    """Where one scan lies.

    Parameters
    ----------
    name
        Unique in the data set.
    image, labels
        Files; the same one for HDF5. `labels` is None for a scan without.
    role
        ``labelled``, ``unlabelled``, ``train`` or ``test`` if its folder says so, else empty.
    """

    name: str
    image: Path
    labels: Path | None
    role: str = ""


class RawScan(NamedTuple):
    """A scan as published: image and, if it has them, label values (z, y, x); mm along (z, y, x) if the file tells."""

    image: NDArray[Any]
    labels: NDArray[Any] | None
    spacing: Spacing | None


def find_sources(folder: Path, definition: ProtocolDefinition) -> list[Source]:
    """Return the scans of a data set, sorted by name.

    Raises
    ------
    InputError
        If the folder holds none in a known layout, or two of the same name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the one that the data set was unpacked into.")
    official = {"la2018": _nrrd, "kits19": _kits, "lits": _lits}[definition.name]
    found = official(folder) or _h5(folder) or _pairs(folder)
    if not found:
        raise InputError(
            f"{folder} holds no scans of {definition.title} in a known layout; see docs/protocols.md for the layouts."
        )
    counts = Counter(source.name for source in found)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"{folder} holds more than one scan called {twice[0]}; name a folder that holds each once.")
    return sorted(found, key=lambda source: source.name)


def read_source(source: Source) -> RawScan:
    """Read a scan; NIfTI files are turned to the axes that are closest to x, y, z.

    Raises
    ------
    InputError
        If a file is damaged, or image and labels do not fit.
    MissingDependencyError
        If its format needs a package that is not installed.
    """
    suffix = source.image.suffix.lower()
    read = {".nrrd": _read_nrrd, ".h5": _read_h5}.get(suffix, _read_nifti)
    try:
        scan = read(source)
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:  # noqa: BLE001 - nibabel and pynrrd raise many kinds for a damaged file
        raise InputError(f"{source.image} cannot be read ({' '.join(str(error).split())}); unpack it again.") from None
    if scan.image.ndim != 3 or (scan.labels is not None and scan.labels.shape != scan.image.shape):
        shapes = scan.image.shape, None if scan.labels is None else scan.labels.shape
        raise InputError(f"{source.image}: image and labels have the shapes {shapes}; two equal 3D volumes are needed.")
    return scan


def _nrrd(folder: Path) -> list[Source]:
    return [
        Source(image.parent.name, image, image.with_name("laendo.nrrd"))
        for image in folder.rglob("lgemri.nrrd")
        if image.with_name("laendo.nrrd").exists()
    ]


def _kits(folder: Path) -> list[Source]:
    return [
        Source(image.parent.name, image, image.with_name("segmentation.nii.gz"))
        for image in folder.rglob("imaging.nii.gz")
        if image.with_name("segmentation.nii.gz").exists()  # the challenge's own test scans have none
    ]


def _lits(folder: Path) -> list[Source]:
    files: dict[tuple[str, int], Path] = {}
    for path in folder.rglob("*.nii*"):
        if found := re.fullmatch(r"(volume|segmentation)-(\d+)\.nii(\.gz)?", path.name):
            key = (found[1], int(found[2]))
            if key in files:
                raise InputError(f"{path} and {files[key]} are the same scan; name a folder that holds each once.")
            files[key] = path
    numbers = [number for kind, number in files if kind == "volume" and ("segmentation", number) in files]
    return [Source(f"{n:03d}", files["volume", n], files["segmentation", n]) for n in numbers]


def _h5(folder: Path) -> list[Source]:
    paths = list(folder.rglob("*.h5"))
    stems = Counter(path.stem for path in paths)
    names = [path.stem if stems[path.stem] == 1 else path.parent.name for path in paths]
    return [Source(name, path, path if _has_label(path) else None) for name, path in zip(names, paths, strict=True)]


def _has_label(path: Path) -> bool:
    """Tell whether an HDF5 file holds labels; of a damaged one that is told when it is read."""
    h5py: Any = _package("h5py", "h5py", "HDF5 files")
    try:
        with h5py.File(path, "r") as file:
            return "label" in file
    except OSError:
        return True


def _pairs(folder: Path) -> list[Source]:
    found = []
    for image in folder.rglob("*_image.nii*"):
        name, _, suffix = image.name.rpartition("_image")
        labels = image.with_name(f"{name}_label{suffix}")
        role = FOLDER_ROLES.get(image.parent.name.lower(), "")
        found.append(Source(name, image, labels if labels.exists() else None, role))
    return found


def _read_nifti(source: Source) -> RawScan:
    image = _turned(source.image)
    if source.labels is None:
        return RawScan(image.array, None, image.grid.spacing)
    labels = _turned(source.labels)
    if labels.array.shape == image.array.shape:
        check_same_grid(labels, image)
    return RawScan(image.array, labels.array, image.grid.spacing)


def _turned(path: Path) -> Volume:
    """Read a file and turn its axes to those that are closest to x, y, z."""
    import nibabel as nib

    image = nib.as_closest_canonical(nib.load(path, mmap=False))
    array = np.asanyarray(image.dataobj)
    array = (array.reshape(array.shape[:3]) if array.ndim == 4 and array.shape[3] == 1 else array).T
    return Volume(array, Grid(array.shape, image.affine[:, [2, 1, 0, 3]]), path)


def _read_nrrd(source: Source) -> RawScan:
    nrrd: Any = _package("nrrd", "pynrrd", "NRRD files")
    image, labels = (nrrd.read(str(path))[0] for path in (source.image, source.labels))
    return RawScan(image.T, labels.T, None)  # the headers of the challenge's files do not state the spacing reliably


def _read_h5(source: Source) -> RawScan:
    h5py: Any = _package("h5py", "h5py", "HDF5 files")
    with h5py.File(source.image, "r") as file:
        image = file["image"][:].T
        labels = file["label"][:].T if "label" in file else None
    return RawScan(image, labels, None)


def _package(module: str, package: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingDependencyError(f"{what} need {package}; install it with: pip install {package}") from None
