"""Choosing the device, and what each kind of device wants."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch

from napari_rada.allocator import freed_memory_kept
from napari_rada.errors import ConfigError
from napari_rada.models.trial import trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

BUILT_FOR = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)[a-z]?")
"""What PyTorch calls the graphics cards that it was built for."""

REMEDY = "pytorch.org/get-started/locally tells how to get another one"


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a usable device.

    Raises
    ------
    ConfigError
        If the device does not exist here; the message says why.
    """
    if name == "auto":
        usable = (device for device in map(torch.device, ("cuda", "mps")) if why_unusable(device) is None)
        return next(usable, torch.device("cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"Device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps.") from None
    reason = why_unusable(device)
    if reason:
        raise ConfigError(f"Device {name!r} cannot be used: {reason}. Use auto or cpu.")
    return device


def why_unusable(device: torch.device) -> str | None:
    """Say why a device cannot be used here, or None if it can; an Apple GPU is tried, which takes some seconds once."""
    if device.type == "cuda":
        if torch.version.cuda is None and torch.version.hip is None:
            return f"this PyTorch was built without CUDA; {REMEDY}"
        if not torch.cuda.is_available():
            return "no NVIDIA GPU or driver was found"
        if (device.index or 0) >= torch.cuda.device_count():
            return f"there are only {torch.cuda.device_count()} GPUs"
        return _lacks_kernels(device)
    if device.type == "mps":
        return trial(device) if torch.backends.mps.is_available() else "no Apple GPU was found"
    return None if device.type == "cpu" else "it is not one of cpu, cuda, mps"


def _lacks_kernels(device: torch.device) -> str | None:
    """Say that this PyTorch was not built for a graphics card, or return None if it was, or cannot tell.

    Compiled kernels run on their own generation from their own number on, those that are compiled on the spot on all
    later ones.
    """
    built = [BUILT_FOR.fullmatch(name) for name in torch.cuda.get_arch_list()]
    kernels = [(one["kind"], int(one["major"]), int(one["minor"])) for one in built if one]
    if torch.version.hip is not None or not kernels:
        return None
    card = torch.cuda.get_device_capability(device)
    if any((major, minor) <= card and (major == card[0] or kind == "compute") for kind, major, minor in kernels):
        return None
    *known, own = ("{}.{}".format(*number) for number in [*sorted({kernel[1:] for kernel in kernels}), card])
    return f"this PyTorch was built for GPUs of compute capability {', '.join(known)}, not {own}; {REMEDY}"


def autocasts(device: torch.device, *, cpu: bool = False) -> bool:
    """Tell whether mixed precision pays: on GPUs that have bfloat16 and, if asked for, on CPUs that have it."""
    return (device.type == "cuda" or cpu) and has_bfloat16(device)


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 itself.

    Others only imitate it. A processor is many times slower then, for nothing: its arrays take more memory, not less.
    NVIDIA's cards before Ampere hold such numbers, so that PyTorch calls them able to, but cuDNN cannot convolve them.
    """
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bfloat16()


def learns_in_bfloat16(device: torch.device, depth: int, stride: int) -> bool:
    """Tell whether gradients in bfloat16 are right for networks on patches of a depth, in voxels.

    On processors oneDNN (3.12) takes memory that nobody wrote into the gradient of a kernel of three voxels where its
    input is two voxels deep, as one level of a network is if its bottleneck, of one in `stride` voxels, has one or two.
    """
    return device.type != "cpu" or -(-depth // stride) > 2


@cache
def _cpu_has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 itself; False where this PyTorch cannot say."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def cuts_ahead(device: torch.device) -> bool:
    """Tell whether it pays to cut the next batches while the device computes: if the processor is not the device."""
    return device.type != "cpu"


def autocast(device: torch.device, *, always: bool = False) -> AbstractContextManager[object]:
    """Mixed precision (bfloat16) where it pays, or `always`, to save memory; float32 elsewhere."""
    if always or autocasts(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


class _WholeProcess(Generic[T]):
    """A choice that is the whole process's: the first to come notes it, the last to go puts it back."""

    def __init__(self, get: Callable[[], T], put: Callable[[T], None]) -> None:
        self._get, self._put = get, put
        self._lock, self._inside, self._before = Lock(), 0, get()

    @contextmanager
    def kept(self) -> Iterator[T]:
        """Keep the choice for the length of a block, which is given what it was before the first to come."""
        with self._lock:
            if self._inside == 0:
                self._before = self._get()
            self._inside += 1
            before = self._before
        try:
            yield before
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._put(self._before)


_PRECISION = _WholeProcess(torch.get_default_dtype, torch.set_default_dtype)
_THREADS = _WholeProcess(torch.get_num_threads, torch.set_num_threads)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nothing hold here that a caller chose for his own computations, then put it back.

    That is: another default precision, no gradients, errors of NumPy where numbers vanish.
    """
    with _PRECISION.kept():
        torch.set_default_dtype(torch.float32)
        with torch.inference_mode(False), torch.enable_grad(), np.errstate(all="warn", under="ignore"):
            yield


@contextmanager
def computing(threads: int | None) -> Iterator[None]:
    """Set the CPU threads for a computation, and what only speeds it up; then put everything back.

    None takes the threads of the process, also beside a computation that has a few. Denormals are flushed, and freed
    memory is kept for the next array. It is `undisturbed`.
    """
    with _THREADS.kept() as usual:
        before, flushed = torch.get_num_threads(), _denormals_are_flushed()  # this thread's own
        torch.set_flush_denormal(True)
        wanted = usual if threads is None else min(threads, os.cpu_count() or threads)  # more would wait for each other
        torch.set_num_threads(wanted)
        try:
            with freed_memory_kept(), undisturbed():
                yield
        finally:
            torch.set_num_threads(before)
            torch.set_flush_denormal(flushed)


def _denormals_are_flushed() -> bool:
    """Tell whether this thread takes denormal numbers for 0; torch can set this but not say it."""
    return not bool((torch.full((1,), torch.finfo(torch.float32).tiny) / 2).item())
