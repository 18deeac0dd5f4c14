"""Processes that belong together: whichever way one ends, nothing that it started goes on computing unseen."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOK_S = 0.5
"""Between two looks at whether the process that started this one is there."""


def end_with(parent: int) -> None:
    """End this process, and those that it started, once the one that started it is gone, also if that was killed."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def started_by(process: int) -> list[psutil.Process]:
    """Return the processes that one has started, and those that these have started."""
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill those of some processes that are still there."""
    for one in processes:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


def _watch(parent: int) -> None:
    while _is_there(parent):
        time.sleep(LOOK_S)
    kill(started_by(os.getpid()))
    os._exit(1)


def _is_there(parent: int) -> bool:
    """Tell whether the process that started this one is there; where that is gone, POSIX gives it another parent."""
    return psutil.pid_exists(parent) if os.name == "nt" else os.getppid() == parent
