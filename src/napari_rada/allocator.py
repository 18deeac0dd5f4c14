"""Keeping the memory that one array leaves behind for the next (glibc, that is Linux; elsewhere nothing happens).

glibc hands arrays of 32 MiB and more back to the system as soon as they are freed, and the system clears every page of
the next one. Training frees and asks for such arrays many times a second, which docs/speed.md puts figures on.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Parameters of `mallopt`, as malloc.h numbers them."""
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}
"""What glibc comes to by itself once an array of 32 MiB was freed."""

_depth = 0
"""How many computations that keep memory are within one another."""


@cache
def _glibc() -> ctypes.CDLL | None:
    """Return the allocator, where it is glibc's and nobody has set it otherwise in the environment."""
    tuned = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or tuned:
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _set(glibc: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        glibc.mallopt(parameter, value)


def give_back() -> None:
    """Return freed memory to the system now, between two stages of a computation that need different arrays."""
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for the next array and give it back in the end; in the main thread, and may be nested.

    In other threads nothing happens: glibc takes their large arrays from elsewhere, where this gains nothing.
    """
    global _depth
    glibc = _glibc()
    if glibc is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _depth:
        _set(glibc, _KEEPING)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _set(glibc, _USUAL)
            give_back()
