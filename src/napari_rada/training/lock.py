"""One job at a time in a run folder."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from napari_rada.durable import reason_of
from napari_rada.errors import RunFolderError
from napari_rada.lock import kept_to_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_rada.training.team import Team

FILE = "run.lock"


@contextmanager
def locked(path: Path, team: Team) -> Iterator[None]:
    """Keep a run folder to one job, made if it is not there; the leading process locks it for all of its team.

    A folder that was made and in which the block left nothing is removed when that fails.

    Raises
    ------
    RunFolderError
        If another process trains in it, on this machine or another, or if it cannot be written.
    """
    if not team.leads:
        yield
        return
    what, there = f"The run folder {path}", path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{what} cannot be written ({reason_of(error)}); choose one that can.") from None
    with kept_to_one(path / FILE, what, "another folder", RunFolderError):
        try:
            yield
        except BaseException:
            if not there:
                _take_back(path)
            raise


def _take_back(path: Path) -> None:
    """Remove a folder that was made for nothing: it holds the lock alone."""
    with suppress(OSError):  # Windows removes no file that is open
        if [entry.name for entry in path.iterdir()] == [FILE]:
            (path / FILE).unlink()
            path.rmdir()
