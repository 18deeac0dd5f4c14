"""The annotation snapshot of a run folder: which cases it was trained on, and what was painted in them then."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada import io
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.durable import write_text
from napari_rada.errors import RunFolderError
from napari_rada.events import Listener, ignore
from napari_rada.progress import told
from napari_rada.text import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.training.run_folder import RunFolder


def content_hash(case: Case) -> str:
    """SHA-256 of the image's shape and values: recognises a scan under any name, in any file."""
    digest = hashlib.sha256(str(case.image.shape).encode())
    digest.update(case.image.tobytes())
    return digest.hexdigest()


def annotation_hash(case: Case) -> str:
    """First 16 digits of the SHA-256 of a case's annotated slices: tells which annotation a mask comes from."""
    assert case.labels is not None
    digest = hashlib.sha256(str([(plane.axis, plane.index) for plane in case.annotated]).encode())
    for plane in case.annotated:
        digest.update(np.ascontiguousarray(case.labels[plane.selector()]).tobytes())
    return digest.hexdigest()[:16]


def save_snapshot(
    folder: RunFolder,
    cases: Sequence[Case],
    classes: ClassTable,
    control: RunControl | None = None,
    listener: Listener = ignore,
) -> None:
    """Write every case's annotation, and the image too where it came from no file.

    Raises
    ------
    Stopped
        If a stop was requested; the folder holds no run then.
    """
    entries = []
    for position, case in told(cases, [case.name for case in cases], control, listener):
        stem = f"{position:03d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', case.name)[:60]}"
        image = case.source
        if image is None:
            image = folder.annotations / f"{stem}_image.nii"
            io.write_volume(image, case.image, case.grid)
        labels = None
        if case.is_labelled:
            labels = folder.annotations / f"{stem}_labels.nii.gz"
            io.save_labels(case, labels)
        entries.append(
            {
                "name": case.name,
                "image": _stored(folder, image),
                "image_from_here": _from_here(folder, image),
                "image_sha256": content_hash(case),
                "affine": case.grid.affine.tolist(),
                "oriented": case.grid.oriented,
                "labels": None if labels is None else _stored(folder, labels),
                "labels_name": case.labels_name,
                "slices": [[plane.axis, plane.index] for plane in case.annotated],
            }
        )
    table = [{"value": c.value, "name": c.name, "prompt": c.prompt} for c in classes.classes]
    content = json.dumps({"classes": table, "cases": entries}, indent=2, ensure_ascii=False)
    write_text(folder.cases_file, content, RunFolderError)


def load_classes(folder: RunFolder) -> ClassTable:
    """Read the class table of a run."""
    try:
        infos = tuple(ClassInfo(**entry) for entry in _content(folder)["classes"])
        if not all(type(c.value) is int and isinstance(c.name, str) and isinstance(c.prompt, str) for c in infos):
            raise TypeError
        return ClassTable(infos)
    except (KeyError, TypeError, AttributeError):
        raise RunFolderError(f"{folder.cases_file} is damaged: its class table cannot be read.") from None


def load_labels_names(folder: RunFolder) -> dict[str, str]:
    """Read what the Labels layers of a run were called, by the names of their images; labels of files have no name."""
    return {entry["name"]: entry["labels_name"] for entry in _entries(folder) if entry.get("labels_name")}


def load_cases(
    folder: RunFolder, config: RunConfig, control: RunControl | None = None, listener: Listener = ignore
) -> list[Case]:
    """Read all cases of a run again.

    Raises
    ------
    Stopped
        If a stop was requested.
    RunFolderError
        If an image has changed since the run was started.
    InputError
        If an image or a snapshot cannot be read.
    """
    classes, entries = load_classes(folder), _entries(folder)
    names = [entry["name"] for entry in entries]
    return [_load(folder, entry, classes, config) for _, entry in told(entries, names, control, listener)]


def find_case(folder: RunFolder, case: Case, config: RunConfig) -> Case | None:
    """Return the run's own annotated version of `case`, recognised by its image, or None."""
    sought = content_hash(case)
    for entry in _entries(folder):
        if entry["image_sha256"] == sought and entry["labels"]:
            return _annotated(folder, entry, case, load_classes(folder), config)
    return None


def _load(folder: RunFolder, entry: dict[str, Any], classes: ClassTable, config: RunConfig) -> Case:
    path = _image_of(folder, entry)
    case = io.load_case(path, name=entry["name"], non_finite=config.data.non_finite)
    if content_hash(case) != entry["image_sha256"]:
        raise RunFolderError(f"The image {path} has changed since the run was started; restore it, or start a new run.")
    if "affine" in entry:  # of the case as it was: a file holds less digits, a layer can have been moved
        case = replace(case, grid=Grid(case.grid.shape, np.array(entry["affine"]), entry["oriented"]))
    return _annotated(folder, entry, case, classes, config) if entry["labels"] else case


def _image_of(folder: RunFolder, entry: dict[str, Any]) -> Path:
    """Return where the image of a case is: where it was, or, of a project that was moved as a whole, as far from here.

    Raises
    ------
    RunFolderError
        If it is at neither place.
    """
    path = Path(entry["image"])
    if not path.is_absolute():
        return _inside(folder, entry["image"])
    from_here = entry.get("image_from_here")
    moved = path if from_here is None else Path(os.path.normpath(folder.path.resolve() / from_here))
    found = next((place for place in (path, moved) if place.is_file()), None)
    if found is None:
        raise RunFolderError(
            f"The scan of {entry['name']} was at {path} when the run began and is not there; put it back, or write its "
            f"place into {folder.cases_file}."
        )
    return found


def _annotated(folder: RunFolder, entry: dict[str, Any], case: Case, classes: ClassTable, config: RunConfig) -> Case:
    return Case.create(
        case.image,
        io.read_volume(_inside(folder, entry["labels"])).array,
        slices=[AnnotatedSlice(*plane) for plane in entry["slices"]],
        grid=case.grid,
        classes=classes,
        name=case.name,
        non_finite=config.data.non_finite,
        source=case.source,
        labels_name=entry.get("labels_name"),
    )


def _content(folder: RunFolder) -> dict[str, Any]:
    if not (folder.cases_file.exists() or folder.last_checkpoint.exists()):
        raise RunFolderError(
            f"{folder.path} holds no run yet: it was cut off before its cases were written; start it again, in the same"
            " folder and without resuming."
        )
    try:
        content = read_json(folder.cases_file)
    except (OSError, ValueError):
        raise RunFolderError(f"{folder.cases_file} is missing or damaged; the run cannot be used.") from None
    if not isinstance(content, dict):
        raise RunFolderError(f"{folder.cases_file} is damaged; the run cannot be used.")
    return content


def _entries(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the cases; each has the keys and types that `save_snapshot` writes."""
    entries = _content(folder).get("cases")
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise RunFolderError(f"{folder.cases_file} is damaged: its cases cannot be read.")
    return entries


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    texts = all(isinstance(entry.get(key), str) for key in ("name", "image", "image_sha256"))
    planes = entry.get("slices")
    pairs = isinstance(planes, list) and all(
        isinstance(plane, list) and [type(number) for number in plane] == [int, int] for plane in planes
    )
    return (
        texts
        and pairs
        and _is_placed(entry)
        and all(isinstance(entry.get(key), str | None) for key in ("labels", "labels_name", "image_from_here"))
    )


def _is_placed(entry: dict[str, Any]) -> bool:
    """Tell whether an affine is one; runs of earlier versions have none."""
    if "affine" not in entry:
        return True
    try:
        affine = np.array(entry["affine"], dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return affine.shape == (4, 4) and bool(np.isfinite(affine).all()) and type(entry.get("oriented")) is bool


def _inside(folder: RunFolder, name: str) -> Path:
    """Return a path that a run folder names, which must not lead out of it: run folders come from strangers too."""
    path = folder.path / name
    if not path.resolve().is_relative_to(folder.path.resolve()):
        raise RunFolderError(
            f"{folder.cases_file} names the file {name}, which lies outside the run folder; the folder was moved in "
            "parts or made to harm, start a new run."
        )
    return path


def _from_here(folder: RunFolder, path: Path) -> str | None:
    """Path relative to the run folder, also for files outside it; None on another drive of Windows."""
    try:
        return os.path.relpath(path.resolve(), folder.path.resolve())
    except ValueError:
        return None


def _stored(folder: RunFolder, path: Path) -> str:
    """Path relative to the run folder for files inside it, absolute for others."""
    resolved = path.resolve()
    inside = folder.path.resolve()
    return str(resolved.relative_to(inside)) if resolved.is_relative_to(inside) else str(resolved)
