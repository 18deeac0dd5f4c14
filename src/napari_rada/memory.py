"""Memory: how much is free, and how a shortage is recognised, whoever reports it. Imports nothing heavy."""

from __future__ import annotations

import gc
import re
import sys
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import psutil

from napari_rada.errors import NotEnoughMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

GIB = 2**30
_SHORTAGE = re.compile(
    "out of memory|not enough memory|can't allocate memory|cannot allocate memory|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


def free_memory() -> int:
    """Bytes of main memory that a process can still take without the system swapping."""
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out: Python's, numpy's, or PyTorch's on any device."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_SHORTAGE.search(str(error)))


def release() -> None:
    """Give back what is no longer used: Python's cycles, and what PyTorch keeps in store on a GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def shortage_explained(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function raise `NotEnoughMemoryError`, one sentence, where memory runs out and nothing else helps."""

    @wraps(function)
    def explaining(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        raise NotEnoughMemoryError(
            f"Memory ran out ({in_words(free_memory())} of main memory are free now); close other programs, crop the "
            "scan, or lower data.max_voxels."
        )

    return explaining


def in_words(size: float) -> str:
    """Write a number of bytes as people do: ``3.2 GiB``."""
    unit, name = next(((u, n) for u, n in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if size >= u), (1, "bytes"))
    return f"{size / unit:.1f} {name}" if unit > 1 else f"{size:.0f} bytes"
