"""Memory: how much is free, and how a shortage is recognised, whoever reports it. Imports nothing heavy."""

from __future__ import annotations

import errno
import gc
import re
import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import psutil

from napari_rada.errors import NotEnoughMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

P = ParamSpec("P")
R = TypeVar("R")

GIB = 2**30
CARD_MARGIN = 0.03
"""Share of a card's memory that is left for its driver and the screen on Windows."""
CONTROL_GROUPS = Path("/proc/self/cgroup")
CONTROL_GROUP_FILES = Path("/sys/fs/cgroup")
_SHORTAGE = re.compile(
    "out of memory|not enough memory|can't allocate memory|cannot allocate memory|bad_alloc|STATUS_ALLOC_FAILED|"
    "failed to map segment|"  # of a library that is loaded
    "can't start new thread|"  # for whose stack there is no room
    r"could not (create|execute) a primitive\s*$|could not create a memory object|"  # oneDNN on a processor
    "unable to find an engine to execute|unable to find a valid cuDNN algorithm|"  # cuDNN, which keeps why to itself
    "invalid buffer size",  # Apple's GPUs
    re.IGNORECASE,
)


def free_memory() -> int:
    """Bytes of main memory that a process can still take without the system swapping, or a limit stopping it."""
    free = int(psutil.virtual_memory().available)
    return min([free, _addresses_left(), *(_left(group) for group in _control_groups())])


if sys.platform == "win32":

    def _addresses_left() -> int:
        return sys.maxsize

else:
    import resource

    def _addresses_left() -> int:
        """Bytes that this process may still reserve (``ulimit -v``); more than any machine has if nobody limits it."""
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return sys.maxsize
        return max(0, limit - int(psutil.Process().memory_info().vms))


class _Group(NamedTuple):
    """The files of a control group that say what it may use, what it uses, and what of that the kernel can reclaim."""

    limit: Path
    usage: Path
    cache: str


def _control_groups() -> list[_Group]:
    """Find the control groups of this process, those above them included, of both versions; none elsewhere.

    Containers and cluster schedulers limit memory by them, which no figure of the whole machine tells. Inside a
    container the path of a group may not exist where the container mounts its own.
    """
    try:
        lines = CONTROL_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if kinds and "memory" not in kinds.split(","):
            continue
        root = CONTROL_GROUP_FILES / "memory" if kinds else CONTROL_GROUP_FILES
        below = root / path.strip("/")
        folders = [folder for folder in (below, *below.parents) if folder.is_relative_to(root)]
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        cache = "total_inactive_file" if kinds else "inactive_file"
        found += [_Group(folder / names[0], folder / names[1], cache) for folder in folders]
    return found


def _left(group: _Group) -> int:
    """Bytes that a control group may still take; more than any machine has where it sets no limit."""
    try:
        limit, used = (int(path.read_text(encoding="ascii")) for path in (group.limit, group.usage))
        counts = (group.usage.with_name("memory.stat").read_text(encoding="ascii")).split()
        cache = int(dict(zip(counts[::2], counts[1::2], strict=False)).get(group.cache, 0))
    except (OSError, ValueError):  # no such group here, or the limit is the word "max"
        return sys.maxsize
    return max(0, limit - used + cache)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out: Python's, numpy's, the system's, or PyTorch's on any device."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | ImportError) and bool(_SHORTAGE.search(str(error)))


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


def keep_within_card(device: torch.device) -> None:
    """Let memory run out where a card is full, on Windows too.

    The driver there goes on in main memory, many times slower and without a word (pytorch#108858). So this process may
    take what is free on the card now, beside what it holds already.
    """
    if sys.platform != "win32" or device.type != "cuda":
        return
    cuda = sys.modules["torch"].cuda
    index = cuda.current_device() if device.index is None else device.index
    free, total = cuda.mem_get_info(index)
    most = (free + cuda.memory_reserved(index)) / total - CARD_MARGIN
    cuda.set_per_process_memory_fraction(min(1.0, max(CARD_MARGIN, most)), index)


def explaining_shortage(remedy: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function raise `NotEnoughMemoryError`, one sentence with a remedy, where memory runs out."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def explaining(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except (MemoryError, RuntimeError, OSError, ImportError) as error:
                if not is_out_of_memory(error):
                    raise
            free = in_words(free_memory())
            raise NotEnoughMemoryError(f"Memory ran out ({free} of main memory are free now); {remedy}.")

        return explaining

    return decorate


def shortage_explained(function: Callable[P, R]) -> Callable[P, R]:
    """Explain a shortage, as `explaining_shortage`, where a scan is in memory as a whole."""
    return explaining_shortage("close other programs, crop the scan, or lower data.max_voxels")(function)


def in_words(size: float) -> str:
    """Write a number of bytes as people do: ``3.2 GiB``."""
    unit, name = next(((u, n) for u, n in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if size >= u), (1, "bytes"))
    return f"{size / unit:.1f} {name}" if unit > 1 else f"{size:.0f} bytes"
