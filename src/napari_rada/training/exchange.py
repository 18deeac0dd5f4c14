"""Volumes that several processes prepare together: each its share, exchanged through the run folder.

Patches are drawn from the whole cohort, so every process needs all volumes, and a process alone would prepare all of
them. Here each prepares its share and writes it as plain arrays; then all map all files into memory. A machine holds
every volume once, in the system's file cache, however many processes it runs, and what no patch touches need not be
held at all.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_rada.data.slices import AnnotatedSlice
from napari_rada.durable import RESUME, reason_of
from napari_rada.errors import RunFolderError
from napari_rada.training.volumes import HeldOutView, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.team import Team

PLAIN = "plain.json"
T = TypeVar("T", Volume, HeldOutView)


@contextmanager
def prepared(
    cases: Sequence[Case], make: Callable[[Case], Volume], folder: RunFolder, team: Team
) -> Iterator[list[Volume]]:
    """Prepare all cases and give their volumes, in the same order; what was exchanged is deleted at the end.

    The processes take the cases in turns, labelled ones first because they take longest, and talk after each.

    Raises
    ------
    RunFolderError
        If a volume cannot be written to the run folder or read back.
    """
    if team.leads:
        shutil.rmtree(folder.prepared, ignore_errors=True)  # of a job that was killed
    if team.size == 1:
        yield [make(case) for case in cases]
        return
    team.any(False)
    order = sorted(range(len(cases)), key=lambda number: not cases[number].is_labelled)
    try:
        with team.together():
            for first in range(0, len(cases), team.size):
                for number in order[first:][team.rank : team.size : team.size]:
                    save_volume(folder.prepared / f"{number:05d}", make(cases[number]))
                team.any(False)
            volumes = [load_volume(folder.prepared / f"{number:05d}") for number in range(len(cases))]
        yield volumes
        team.any(False)  # nobody reads any more
    finally:
        if team.leads and not team.lost:
            shutil.rmtree(folder.prepared, ignore_errors=True)


def save_volume(path: Path, volume: Volume) -> None:
    """Write a volume to a folder of its own.

    Raises
    ------
    RunFolderError
        If it cannot be written.
    """
    try:
        _save(path, volume)
        for view, held_out in volume.held_out.items():
            _save(path / str(view), held_out)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written ({reason_of(error)}); {RESUME}.") from None


def load_volume(path: Path) -> Volume:
    """Map a volume of `save_volume` into memory, read-only.

    Raises
    ------
    RunFolderError
        If it is not whole.
    """
    try:
        views = sorted(int(folder.name) for folder in path.iterdir() if folder.is_dir())
        held_out = {}
        for view in views:
            found = _load(path / str(view))
            found["slices"] = tuple(AnnotatedSlice(*plane) for plane in found["slices"])
            held_out[view] = HeldOutView(**found)
        found = _load(path)
        return Volume(**found | {"held_out": held_out, "spacing": tuple(found["spacing"])})
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({type(error).__name__}); all machines of a job need to see the run folder."
        ) from None


def _save(path: Path, values: T) -> None:
    """Write arrays as .npy, everything else as JSON; what is None is left out."""
    path.mkdir(parents=True)
    plain: dict[str, Any] = {}
    for field in fields(values):
        value = getattr(values, field.name)
        if isinstance(value, np.ndarray):
            np.save(path / f"{field.name}.npy", value, allow_pickle=False)
        elif field.name == "slices":
            plain["slices"] = [(plane.axis, plane.index) for plane in value]
        elif field.name != "held_out":
            plain[field.name] = value
    (path / PLAIN).write_text(json.dumps(plain), encoding="utf-8")


def _load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / PLAIN).read_text(encoding="utf-8"))
    return found | {file.stem: _mapped(file) for file in path.glob("*.npy")}


def _mapped(file: Path) -> NDArray[Any]:
    """Map an array into memory; an empty one cannot be mapped."""
    found: NDArray[Any]
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError:
        found = np.load(file, allow_pickle=False)
    return found
