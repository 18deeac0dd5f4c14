"""One process at a time where several would spoil each other's work, as in a run folder.

The operating system's own lock on a file, which ends with the process, however that ends: a killed process leaves no
stale lock. On shared disks it holds between machines as far as the file system supports locks (NFS since version 4, or
with a lock daemon); where it does not, nothing is locked.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from napari_rada.durable import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_rada.errors import RadaError

HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""On Linux two of them are the same; macOS answers ENOTSUP on shared disks."""
PLACE = 1 << 30
"""The byte that is locked on Windows, beyond the text, which stays readable."""


@contextmanager
def kept_to_one(file: Path, what: str, another: str, error: type[RadaError]) -> Iterator[None]:
    """Keep to one process what `file` stands for, which is made if it is not there.

    Parameters
    ----------
    what, another
        What is kept, and what else to choose, for what is told.
    error
        What is raised if another process has it, on this machine or another, or if it cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as problem:
        raise error(f"{what} cannot be written ({reason_of(problem)}); choose one that can.") from None
    try:
        _lock(descriptor, file, what, another, error)
        owner = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with suppress(OSError):  # a full disk, which is told by whoever has more to write
            os.ftruncate(descriptor, 0)
            os.write(descriptor, owner.encode())
        yield
    finally:
        os.close(descriptor)  # which unlocks


def _lock(descriptor: int, file: Path, what: str, another: str, error: type[RadaError]) -> None:
    try:
        _lock_file(descriptor)
    except OSError as problem:
        if problem.errno in UNSUPPORTED:
            return
        if problem.errno not in HELD:
            raise error(f"{what} cannot be locked ({reason_of(problem)}); choose one on another disk.") from None
        owner = file.read_text(encoding="utf-8", errors="replace") or "another process"
        raise error(f"{what} is in use by {owner}; stop that one or let it end, or choose {another}.") from None


if sys.platform == "win32":
    import msvcrt

    def _lock_file(descriptor: int) -> None:
        os.lseek(descriptor, PLACE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock_file(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
