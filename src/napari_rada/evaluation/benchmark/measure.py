"""Time and memory of a piece of work in this process, and the computing time of processes that it ran to their end."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 2**30
_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass
class Usage:
    """What a block of code took; filled in when the block has ended.

    `cpu_s` holds that of other processes that were started and have ended within the block, except on Windows.
    `peak_gib` is the largest resident memory of the whole process, interpreter and libraries included. On Linux it is
    that of the block alone, on macOS that of the process so far, and on Windows it is not known (None).
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_gib: float | None = None


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the block; nested use would count the peak of the inner block alone."""
    usage = Usage()
    reset_peak()
    wall, cpu = time.perf_counter(), _cpu_s()
    yield usage
    usage.seconds, usage.cpu_s = time.perf_counter() - wall, _cpu_s() - cpu
    usage.peak_gib = peak_gib()


def _cpu_s() -> float:
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def reset_peak() -> None:
    """Let the peak of this process's resident memory begin anew, where the system can."""
    try:
        _RESET.write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then that of the process so far
        return


def peak_gib() -> float | None:
    """Largest resident memory of this process since `reset_peak`, in GiB; see `Usage`."""
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / GIB
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
