"""The weight files of guidance as the window handles them: what is here, and pieces of work for a `Job`. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_rada.events import Notice, Stage, StageProgress
from napari_rada.guidance.registry import entries_of
from napari_rada.guidance.weights import find_clip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_rada._napari.job import Work
    from napari_rada.control import RunControl
    from napari_rada.events import Listener
    from napari_rada.guidance.registry import WeightEntry
    from napari_rada.guidance.store import WeightStore

MB = 10**6


@dataclass(frozen=True)
class FileState:
    """One file of the registry, and where it lies; None if it is not on this machine."""

    entry: WeightEntry
    path: Path | None

    def __str__(self) -> str:
        return f"{self.entry.name}: {'here' if self.path else f'not here, {self.entry.size_text}'}"


def states_of(model: str, store: WeightStore) -> tuple[FileState, ...]:
    """Return the CLIP base of a model, then its Alpha-CLIP files, the preferred one first."""
    (clip,) = entries_of(model, "clip")
    alpha = [FileState(entry, _if_file(store.path(entry))) for entry in entries_of(model, "alpha")]
    return (FileState(clip, find_clip(clip, store)), *alpha)


def consent_question(entries: Sequence[WeightEntry]) -> str:
    """Ask whether files may be downloaded: sizes, hosts, licences, one file per paragraph."""
    files = [
        f"{entry.name}: {entry.size_text} from {entry.host}\nLicence: {entry.licence}\nUsed for: {entry.used_for}"
        for entry in entries
    ]
    return "\n\n".join(["Download these files?", *files])


def fetching(entries: Sequence[WeightEntry], store: WeightStore) -> Work:
    """Download files; the user has agreed to each of them."""

    def work(control: RunControl, listener: Listener) -> str:
        from napari_rada.guidance.download import download

        for entry in entries:
            found = download(entry, store, consent=lambda _: True, on_bytes=_Bytes(entry, listener), control=control)
            if found.source == "new":
                listener(Notice(str(found)))
        return f"Downloaded {', '.join(entry.name for entry in entries)}."

    return work


def importing(entry: WeightEntry, file: Path, store: WeightStore) -> Work:
    """Take a file that the user brought."""

    def work(control: RunControl, listener: Listener) -> str:
        listener(StageProgress(Stage.VERIFY, 0, 1, entry.name))
        found = store.import_file(entry, file, control=control)
        if found.source == "new":
            listener(Notice(str(found)))
        return f"Took {file} as {entry.name}."

    return work


def verifying(states: Sequence[FileState], store: WeightStore) -> Work:
    """Read the files that are here and compare their checksums."""

    def work(control: RunControl, listener: Listener) -> str:
        here = [state for state in states if state.path is not None]
        told = []
        for number, state in enumerate(here):
            listener(StageProgress(Stage.VERIFY, number, len(here), state.entry.name))
            told.append(str(store.verify(state.entry, state.path, control=control)))
        return "\n".join(told) or "There is no file to verify."

    return work


class _Bytes:
    """Tells the progress of a download once for every megabyte."""

    def __init__(self, entry: WeightEntry, listener: Listener) -> None:
        self._entry, self._listener, self._told = entry, listener, -1

    def __call__(self, done: int, total: int) -> None:
        if done // MB != self._told:
            self._told = done // MB
            whole = (total or self._entry.about_bytes) // MB
            self._listener(StageProgress(Stage.DOWNLOAD, self._told, whole, f"{self._entry.name}, MB"))


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None
