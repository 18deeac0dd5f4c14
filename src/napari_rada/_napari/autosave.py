"""Labels as they are painted, kept in files: copied from their layer, written when they changed, and found again."""

from __future__ import annotations

import hashlib
import re
import shutil
import zlib
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, count
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Labels

from napari_rada import io
from napari_rada._napari.kept_names import keep_as, kept_name, name_once
from napari_rada._napari.layers import (
    annotated_slices,
    class_infos,
    full_resolution,
    grid_of,
    image_file,
    is_lazy,
    is_output,
    labels_name_of,
    lies_on,
    suffix_beside,
)
from napari_rada.data.classes import ClassInfo, label_dtype
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.durable import reason_of, written_whole
from napari_rada.errors import InputError
from napari_rada.io.annotations import write_annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from napari.layers import Image, Layer
    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.data.grid import Grid

FOLDER = "autosave"
"""Folder, inside a run folder or among the user's data, of labels as they were last painted."""
OLD = tuple(f".{number}" for number in range(1, 10))
"""What the names of kept older files end in: the first that is free, the last where none is."""
BY_HAND = "make room or allow writing there, or save them by hand with File > Save Selected Layers"
"""The remedy where labels cannot be kept: nobody chose the place, and none can be chosen."""

Mark: TypeAlias = tuple[int, tuple[AnnotatedSlice, ...], tuple[ClassInfo, ...]]
"""Tells whether an annotation has changed: a checksum of the voxels, the annotated slices, the classes."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """What is painted in a Labels layer and said about it.

    Parameters
    ----------
    labels
        (z, y, x) label values.
    planes
        The slices marked as annotated, in array axes.
    classes
        The classes that were named.
    grid
        Where the voxels lie.
    """

    labels: NDArray[Any]
    planes: tuple[AnnotatedSlice, ...]
    classes: tuple[ClassInfo, ...]
    grid: Grid

    @classmethod
    def of(cls, layer: Labels) -> Annotation:
        """Copy what a layer holds now; raises `InputError` if it is not a single 3D volume."""
        return cls(np.array(full_resolution(layer)), annotated_slices(layer), class_infos(layer), grid_of(layer))

    @cached_property
    def mark(self) -> Mark:
        """Another one if anything changed."""
        return _mark(self.labels, self.planes, self.classes)

    def write(self, path: Path, before: Callable[[Path], None] | None = None) -> None:
        """Write labels and sidecar, each whole or not at all, into a folder that is made if it is missing.

        What is there never tells a slice as annotated that is not so in the labels, wherever this is cut off.

        Parameters
        ----------
        before
            Called when the labels are written, with their temporary name, before they replace those at `path`.

        Raises
        ------
        InputError
            If that cannot be done.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise InputError(f"{path} cannot be written ({reason_of(problem)}); {BY_HAND}.") from None
        labels = self.labels.astype(label_dtype(self.labels))
        write_annotation(
            path, labels, self.grid, slices=self.planes, classes=self.classes, remedy=BY_HAND, before=before
        )


class LabelsKeeper:
    """Keeps one Labels layer at a time in a file of its own; what was taken last is what stays.

    Kept are labels in memory that lie on their image and are no output of this plugin, once they differ from what
    they were when they were chosen first.

    Parameters
    ----------
    folder
        Tells the run folder, or the folder among the user's data, of the moment.
    layers
        Those that are open: no two of them are kept under one name.
    """

    def __init__(self, folder: Callable[[], Path], layers: Iterable[Layer] = ()) -> None:
        self._folder = folder
        self._open = layers
        self._layers: tuple[Image, Labels] | None = None
        self._marks: WeakKeyDictionary[Labels, Mark] = WeakKeyDictionary()
        self._files: WeakKeyDictionary[Labels, tuple[Path, int]] = WeakKeyDictionary()
        self._writing = Lock()
        self._taken = 0
        self._written = 0

    def set_layers(self, image: Image | None, labels: Labels | None) -> None:
        """Keep other labels from now on; `flush` those before first."""
        self._layers = None
        if image is None or labels is None or labels.ndim != 3 or is_lazy(labels) or is_output(labels):
            return
        self._layers = (image, labels)
        if labels not in self._marks:
            self._marks[labels] = _mark(full_resolution(labels), annotated_slices(labels), class_infos(labels))

    def take(self) -> Callable[[], Path | None] | None:
        """Copy the labels, in the main thread; None if they are not to be kept.

        The function that is returned may run in any thread. It writes the copy and returns the file, or None if
        nothing has changed or something newer was written meanwhile; it raises `InputError` if it cannot write.
        """
        if self._layers is None or not lies_on(*self._layers):
            return None
        image, labels = self._layers
        name_once(labels, self._open)
        path = autosave_path(self._folder(), image, labels)
        self._taken += 1
        return partial(self._write, self._taken, labels, Annotation.of(labels), path)

    def earlier(self, image: Image, further: Iterable[Path] = ()) -> Path | None:
        """Return the latest file of labels on an image that is not that of an open layer: what was painted before.

        It is looked for in the folder of the moment, and in `further` ones.
        """
        here = [layer for layer in self._open if isinstance(layer, Labels) and lies_on(image, layer)]
        found: set[Path] = set()
        for folder in (self._folder(), *further):
            try:
                files = _kept(folder, [_key(folder, image)])
            except InputError:
                return None  # nothing is kept on an image that is no volume, or has an axis that is no length
            found |= set(files) - {autosave_path(folder, image, layer) for layer in here}
        return _newest(found)

    def keep_apart(self, image: Image, labels: Labels) -> None:
        """Keep new labels under a name that no file of earlier ones has, so that none is replaced."""
        others = [other for other in self._open if isinstance(other, Labels) and other.unique_id != labels.unique_id]
        taken = {kept_name(other) for other in others}
        for name in chain([str(labels.name)], (f"{labels.name} ({number})" for number in count(2))):
            keep_as(labels, name, ())
            if name not in taken and not autosave_path(self._folder(), image, labels).exists():
                return

    def flush(self) -> Path | None:
        """Write the labels in this thread; returns and raises what the function of `take` does."""
        write = self.take()
        return None if write is None else write()

    def _write(self, number: int, layer: Labels, annotation: Annotation, path: Path) -> Path | None:
        with self._writing:
            if number < self._written or annotation.mark == self._marks[layer]:
                return None

            def replace(temporary: Path) -> None:
                last = self._files.get(layer)
                if last is None or last != _version(path) or not annotation.labels.any():
                    _keep(path)
                # The final name may be another window's file a moment later.
                self._files[layer] = (path, temporary.stat().st_mtime_ns)

            annotation.write(path, replace)
            self._marks[layer], self._written = annotation.mark, number
        return path


def autosave_path(folder: Path, image: Image, labels: Labels) -> Path:
    """Return where labels on an image are kept under a folder: each image and each Labels layer has a file of its own.

    A layer goes by the name under which it is kept, and by its present one before it has such a name.

    Raises
    ------
    InputError
        If a layer is not a single 3D volume.
    """
    name = kept_name(labels) or str(labels.name)
    stem = f"{_safe(str(image.name))}-{_safe(name)}-{_key(folder, image)}-{_digest(name)}_labels"
    return folder / FOLDER / f"{stem}{suffix_beside(image)}"


def latest_autosave(folder: Path, case: Case) -> Path | None:
    """Return the file of a case's Labels layer as it was painted last, if that was kept under this folder."""
    return _newest(_kept(folder, _case_keys(folder, case), _digest(labels_name_of(case))))


def _kept(folder: Path, keys: Iterable[str], own: str = "[0-9a-f]{8}") -> list[Path]:
    """Return the files of labels on images with one of these keys, those of one layer or of all."""
    pattern = re.compile(rf"[^-.][^-]*-[^-]*-({'|'.join(keys)})-{own}_labels\.(nii\.gz|tif)")
    return [path for path in (folder / FOLDER).glob("*_labels.*") if pattern.fullmatch(path.name)]


def _newest(files: Iterable[Path]) -> Path | None:
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=None)


def _key(folder: Path, image: Image) -> str:
    return _image_key(folder, str(image.name), grid_of(image), image_file(image))


def _case_keys(folder: Path, case: Case) -> Iterator[str]:
    yield _image_key(folder, case.name, case.grid, case.source)
    if case.source is not None:
        # Also of the run's own copy of an image that came from no file, and of a copy of a layer that did.
        yield _image_key(folder, case.name, case.grid, None)


def _image_key(folder: Path, name: str, grid: Grid, source: Path | None) -> str:
    """Eight digits that tell images apart: by file, which may move together with the folder, or by name and grid."""
    if source is None:
        affine = grid.affine.astype(np.float32) + 0.0  # as precise as NIfTI stores it, and no negative zeros
        return _digest(name, str(grid.shape), str(affine.tolist()))
    file, root = source.resolve(), folder.resolve()
    return _digest(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _safe(name: str) -> str:
    """Return the start of a name without what file systems or shells take for something else, and without hyphens."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name).lstrip(".")[:40] or "_"


def _mark(labels: NDArray[Any], planes: tuple[AnnotatedSlice, ...], classes: tuple[ClassInfo, ...]) -> Mark:
    return zlib.crc32(np.ascontiguousarray(labels).data), planes, classes


def _version(path: Path) -> tuple[Path, int] | None:
    """Return what is another one where a file was written again, as by another window; None if there is no file."""
    return (path, path.stat().st_mtime_ns) if path.exists() else None


def _keep(path: Path) -> None:
    """Copy labels, if any are painted in the file, and their sidecar to names that end in one of `OLD`, each whole."""
    if not path.exists() or not _is_painted(path):
        return
    free = next((old for old in OLD if not path.with_name(path.name + old).exists()), OLD[-1])
    for file in (path, io.sidecar_path(path)):
        if file.exists():
            with written_whole(file.with_name(file.name + free), remedy=BY_HAND) as temporary:
                shutil.copyfile(file, temporary)


def _is_painted(path: Path) -> bool:
    """Tell whether a file holds paint; of a damaged one nobody knows."""
    try:
        return bool(io.read_volume(path).array.any())
    except InputError:
        return True
