"""The folder in which weight files are kept, and the checksums by which they are known again.

A checksum that the publisher does not state is recorded when the file is first used, and compared from then on. A file
whose size and time of change are those of its record is not read again, unless it is verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zipfile
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.control import RunControl
from napari_rada.durable import put_in_place, write_text, written_whole
from napari_rada.errors import WeightsError
from napari_rada.events import Listener, Notice, ignore
from napari_rada.memory import is_out_of_memory

if TYPE_CHECKING:
    from napari_rada.guidance.registry import WeightEntry

CACHE_VARIABLE = "NAPARI_RADA_CACHE"
RECORD_FILE = "checksums.json"
PARTIAL_SUFFIX = ".part"
CHUNK = 1 << 20
ALPHA_KEY = "conv1_alpha.weight"
"""The weight that makes a CLIP vision encoder an Alpha-CLIP one."""


def cache_folder(setting: Path | str | None = None) -> Path:
    """Return the cache folder: the setting, else the variable NAPARI_RADA_CACHE, else that of the platform."""
    chosen = setting or os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("napari-rada", appauthor=False)


@dataclass(frozen=True)
class Verification:
    """What is known of a file: its checksum, and whether it is the one that is expected.

    Parameters
    ----------
    path
        The file.
    sha256
        Its checksum in hexadecimal digits.
    expected
        The published or recorded checksum.
    source
        ``published``; ``recorded``: seen here before; ``new``: not known anywhere, recorded now.
    """

    path: Path
    sha256: str
    expected: str
    source: str

    @property
    def ok(self) -> bool:
        """True if the file is the expected one."""
        return self.sha256 == self.expected

    def __str__(self) -> str:
        if not self.ok:
            return f"{self.path}: sha256 {self.sha256} differs from the {self.source} {self.expected}"
        if self.source == "new":
            return f"{self.path}: no published checksum, sha256 {self.sha256} recorded and compared from now on"
        return f"{self.path}: sha256 {self.sha256}, as {self.source}"


@dataclass(frozen=True)
class _Record:
    sha256: str
    size: int
    mtime_ns: int
    recorded: str


class WeightStore:
    """The weight files of one cache folder.

    Parameters
    ----------
    cache
        The cache folder; see `cache_folder` for the default.
    """

    def __init__(self, cache: Path | str | None = None) -> None:
        self.folder = cache_folder(cache) / "weights"

    def path(self, entry: WeightEntry) -> Path:
        """Return where the file lies, or would lie."""
        return self.folder / entry.name

    def partial(self, entry: WeightEntry) -> Path:
        """Return where what has come of a download is kept."""
        return self.folder / (entry.name + PARTIAL_SUFFIX)

    def make_folder(self) -> None:
        """Make the folder.

        Raises
        ------
        WeightsError
            If it cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WeightsError(
                f"The weights folder {self.folder} cannot be made ({error.strerror}); set {CACHE_VARIABLE} to another."
            ) from None
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise WeightsError(f"The weights folder {self.folder} is not writable; set {CACHE_VARIABLE} to another.")

    def known_checksum(self, entry: WeightEntry) -> str | None:
        """Return the published checksum, or else the recorded one."""
        record = self._records().get(entry.name)
        return entry.sha256 or (record.sha256 if record else None)

    def verify(
        self, entry: WeightEntry, path: Path | None = None, *, control: RunControl | None = None
    ) -> Verification:
        """Read a file from end to end and compare its checksum; one that is known nowhere is recorded.

        Parameters
        ----------
        path
            A file elsewhere, for example in a cache of open_clip's; the store's own by default.

        Raises
        ------
        WeightsError
            If there is no such file, or a checksum that is known nowhere cannot be recorded.
        Stopped
            If a stop was requested.
        """
        path = path or self.path(entry)
        if not path.is_file():
            raise WeightsError(f"{path} does not exist; get it with: napari-rada weights download {entry.name}")
        sha256 = file_sha256(path, control or RunControl())
        record = self._records().get(self._key(path))
        published = entry.sha256 if path.name == entry.name else None
        expected, source = sha256, "new"
        if published:
            expected, source = published, "published"
        elif record:
            expected, source = record.sha256, "recorded"
        found = Verification(path, sha256, expected, source)
        if found.ok:
            # A checksum that was known before may stay unrecorded: caches that people share are often read-only.
            with nullcontext() if source == "new" else suppress(WeightsError):
                self._record(path, sha256)
        return found

    def trust(self, entry: WeightEntry, path: Path | None = None, *, listener: Listener = ignore) -> Path:
        """Return a file that is about to be used, after it was compared if it may have changed.

        Raises
        ------
        WeightsError
            If it is not the expected file.
        """
        path = path or self.path(entry)
        record = self._records().get(self._key(path))
        if record is not None and (record.size, record.mtime_ns) == _fingerprint(path):
            return path
        found = self.verify(entry, path)
        if not found.ok:
            raise WeightsError(f"{found}; delete the file and get it again.")
        if found.source == "new":
            listener(Notice(str(found)))
        return path

    def accept(self, entry: WeightEntry, part: Path, *, control: RunControl | None = None) -> Verification:
        """Check a complete download that lies in this folder and give it its name.

        Raises
        ------
        WeightsError
            If size, checksum or content is not that of the entry; the file is deleted then.
        Stopped
            If a stop was requested.
        """
        try:
            found = self._check(entry, part, control or RunControl())
        except WeightsError:
            part.unlink()
            raise
        put_in_place(part, found.path)
        self._record(found.path, found.sha256)
        return found

    def import_file(self, entry: WeightEntry, source: Path | str, *, control: RunControl | None = None) -> Verification:
        """Copy a file that the user brought into the store, after it was checked.

        Raises
        ------
        WeightsError
            If there is no such file, it is not that of the entry, or it cannot be copied.
        Stopped
            If a stop was requested.
        """
        source, control = Path(source), control or RunControl()
        if not source.is_file():
            raise WeightsError(f"{source} is not a file; name the weights file that you brought.")
        self._check_size(entry, source)
        self.make_folder()
        self.check_space(source.stat().st_size)
        with written_whole(self.path(entry), WeightsError) as copy:
            _copy(source, copy, control)
            found = self._check(entry, copy, control)
        self._record(found.path, found.sha256)
        return found

    def check_space(self, needed: int) -> None:
        """Check that `needed` bytes fit.

        Raises
        ------
        WeightsError
            If they do not.
        """
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise WeightsError(
                f"The disk is full: {needed / 1e6:,.0f} MB are needed in {self.folder} and {free / 1e6:,.0f} MB are "
                f"free; free some space, or set {CACHE_VARIABLE} to a folder on another disk."
            )

    def _check(self, entry: WeightEntry, file: Path, control: RunControl) -> Verification:
        """Compare a file that is to become that of the entry; raises `WeightsError` if it is another."""
        self._check_size(entry, file)
        sha256, expected = file_sha256(file, control), self.known_checksum(entry)
        if expected is not None and sha256 != expected:
            raise WeightsError(
                f"{entry.name}: the sha256 is {sha256} and not {expected}; the file was damaged on its way or "
                "changed by its publisher, so it was not kept."
            )
        check_content(entry, file)
        source = "published" if entry.sha256 else "recorded" if expected else "new"
        return Verification(self.path(entry), sha256, expected or sha256, source)

    def _check_size(self, entry: WeightEntry, file: Path) -> None:
        size = file.stat().st_size
        if entry.size_bytes is not None and size != entry.size_bytes:
            raise WeightsError(f"{entry.name} must have {entry.size_bytes:,} bytes, but {file.name} has {size:,}.")

    def _key(self, path: Path) -> str:
        """Name of a file in the record; those of the folder keep it when the folder is moved."""
        return path.name if path.parent == self.folder else str(path)

    def _records(self) -> dict[str, _Record]:
        path = self.folder / RECORD_FILE
        if not path.exists():
            return {}
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            return {name: _Record(**record) for name, record in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            raise WeightsError(f"{path} is damaged; delete it, and the checksums are recorded again.") from None

    def _record(self, path: Path, sha256: str) -> None:
        self.make_folder()
        records = self._records()
        size, mtime_ns = _fingerprint(path)
        records[self._key(path)] = _Record(sha256, size, mtime_ns, time.strftime("%Y-%m-%d"))
        plain = {name: asdict(record) for name, record in sorted(records.items())}
        write_text(self.folder / RECORD_FILE, json.dumps(plain, indent=2), WeightsError)


def file_sha256(path: Path, control: RunControl) -> str:
    """Return the checksum of a file; `Stopped` is raised if a stop was requested."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            control.check()
            digest.update(chunk)
    return digest.hexdigest()


def check_content(entry: WeightEntry, path: Path) -> None:
    """Check that a file without a published checksum holds what it should and no code.

    Raises
    ------
    WeightsError
        If it is not a plain dictionary of tensors with an alpha channel, for example a web page.
    """
    if entry.kind == "clip":  # its checksum is published
        return
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{entry.name}: this is no file of plain PyTorch weights ({reason}).") from None
    if not (isinstance(state, dict) and ALPHA_KEY in state):
        raise WeightsError(f"{entry.name}: these weights have no {ALPHA_KEY}, so they are not those of Alpha-CLIP.")


def _fingerprint(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _copy(source: Path, target: Path, control: RunControl) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            control.check()
            writer.write(chunk)
