"""Files that are complete or not there: the one place where something is put under its final name.

A new file is written under a temporary name beside the final one, flushed to the disk, renamed, and the rename is
flushed too, where the disk can. Whatever happens in between, a killed process or a power cut included, the final name
holds the old file or the new one. Temporary files that a killed process left are removed by the next write of the same
file: at once where it ran on this machine, after a day where it ran on another one that shares the disk.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import socket
import threading
import time
import zipfile
import zlib
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from napari_rada.errors import InputError, RadaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PREFIX = ".part"
FORGOTTEN_S = 24 * 3600.0
"""After this time a temporary file of another machine is taken for left: nobody can ask there for the process."""
REMEDY = "choose another place, or free some space"
RESUME = "what the run saved is kept: free some space or restore the folder, then resume"
"""The remedy where a run in progress cannot write to its folder."""
ODD_NAMES = "backslashreplace"
"""How a file name that is not UTF-8 is written down: in JSON it is read back as it was."""
PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6) if os.name == "nt" else ()
"""How long is waited, again and again, for whoever holds a file on Windows: scanners, indexers, readers, OneDrive."""
LONGEST = 259 if os.name == "nt" else None
"""Characters of a path that Windows takes unless it was told to take more; what it says of longer ones is no help."""
CUT_OFF = re.compile(r"\d+ requested and \d+ written")
"""What numpy says where a disk took less than was to be written; it lost the reason."""
NOT_FLUSHED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES}
"""What network and container disks answer that cannot flush a folder; the file in it is on the disk already."""


def _machine() -> str:
    """Return eight digits that stand for where a number is that of one process: a machine, of containers each."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:  # there is such a thing on Linux alone
        numbers = ""
    return f"{zlib.crc32(f'{socket.gethostname()} {numbers}'.encode()):08x}"


MACHINE = _machine()


@contextmanager
def written_whole(path: Path, error: type[RadaError] = InputError, remedy: str = REMEDY) -> Iterator[Path]:
    """Give a temporary name beside `path`, and put the file under `path` when the block ends without an error.

    Parameters
    ----------
    path
        The final name. The temporary one ends alike, so that writers which look at the suffix see the same.
    error, remedy
        What is raised, and the advice at its end, where the operating system refuses.

    Raises
    ------
    RadaError
        Of the type `error`; what lay under `path` before is untouched then.
    """
    temporary = path.with_name(f"{PREFIX}-{MACHINE}-{os.getpid()}-{threading.get_native_id()}-{path.name}")
    try:
        _remove_leftovers(path.parent, path.name)
        yield temporary
        put_in_place(temporary, path)
    except OSError as problem:
        reason = reason_of(problem)
        excess = 0 if LONGEST is None else len(os.path.abspath(temporary)) - LONGEST
        if excess > 0 and isinstance(problem, FileNotFoundError):
            reason = f"its path is too long by {excess} characters for Windows"
        raise error(f"{path} cannot be written ({reason}); {remedy}.") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def sink(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for torch, which of a full disk only tells that its archive came out wrong.

    Raises
    ------
    OSError
        What the operating system said.
    """
    with path.open("wb") as file:
        remembering = _Sink(file)
        try:
            yield cast("IO[bytes]", remembering)
        except RuntimeError:
            if remembering.problem is None:
                raise
            raise remembering.problem from None


class _Sink:
    """Remembers why the disk refused a write."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.problem: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as problem:
            self.problem = problem
            raise

    def flush(self) -> None:
        self._file.flush()


def write_text(path: Path, text: str, error: type[RadaError] = InputError, remedy: str = REMEDY) -> None:
    """Write a whole text file in UTF-8; parameters and errors are those of `written_whole`."""
    with written_whole(path, error, remedy) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ODD_NAMES, newline="")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder and those below it."""
    for parent in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _remove_leftovers(parent, None)


def reason_of(problem: OSError) -> str:
    """Say in a few words why the operating system refused."""
    if problem.errno is None and CUT_OFF.fullmatch(str(problem)):
        return "there is no room for a file of this size"
    return problem.strerror or " ".join(str(problem).split()) or type(problem).__name__


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a file that is written its final name, and bring both to the disk.

    Raises
    ------
    OSError
        If the operating system refuses; on Windows, where others hold files for a moment, if it still does later.
    """
    _patiently(lambda: flush_file(temporary))
    _patiently(lambda: temporary.replace(path))
    flush_folder(path.parent)


def _patiently(action: Callable[[], object]) -> None:
    for pause_s in PAUSES_S:
        try:
            action()
        except PermissionError:
            time.sleep(pause_s)
        else:
            return
    action()


def flush_file(path: Path) -> None:
    """Bring the content of a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Bring names that were made in a folder to the disk; Windows and some disks do so by themselves if at all."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as problem:
        if problem.errno not in NOT_FLUSHED:
            raise


def _remove_leftovers(folder: Path, name: str | None) -> None:
    """Remove temporary files of processes that are gone, of one final name or of all."""
    pattern = f"{PREFIX}-*-{'*' if name is None else glob.escape(name)}"
    for path in folder.glob(pattern):
        found = re.match(rf"{re.escape(PREFIX)}-([0-9a-f]{{8}})-(\d+)-", path.name)
        # On Windows a file that somebody still writes cannot be removed, and need not be.
        with suppress(OSError):
            if found and _is_left(path, found[1], int(found[2])):
                path.unlink()


def _is_left(path: Path, machine: str, process: int) -> bool:
    if machine != MACHINE:
        return time.time() - path.stat().st_mtime > FORGOTTEN_S
    return not _is_running(process)


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def check_sums(path: Path) -> None:
    """Compare every part of what torch saved with its checksum: torch writes them and does not look at them again.

    Raises
    ------
    zipfile.BadZipFile
        If one differs, or the file is none of torch's.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")
