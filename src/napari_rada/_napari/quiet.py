"""Keeping Python's full garbage collections out of a running computation.

A full collection looks at every object of napari, Qt and torch and holds all threads for half a second; importing
torch's and MONAI's modules in a worker sets several off. The frequent collections of young objects go on.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER = 2**31 - 1
_lock = threading.Lock()
_users = 0
_threshold = gc.get_threshold()


@contextmanager
def no_full_collections() -> Iterator[None]:
    """Put off full collections until the block ends; blocks may overlap, in any thread."""
    global _users, _threshold
    with _lock:
        if _users == 0:
            _threshold = gc.get_threshold()
            gc.set_threshold(*_threshold[:2], NEVER)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                gc.set_threshold(*_threshold)
