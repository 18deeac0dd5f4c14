"""Choosing the device, and what each kind of device wants."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from napari_rada.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a usable device.

    Raises
    ------
    ConfigError
        If the device does not exist here; the message says why.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"Device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps.") from None
    reason = why_unusable(device)
    if reason:
        raise ConfigError(f"Device {name!r} cannot be used: {reason}. Use auto or cpu.")
    return device


def why_unusable(device: torch.device) -> str | None:
    """Say why a device cannot be used here, or None if it can."""
    if device.type == "cuda":
        if torch.version.cuda is None and torch.version.hip is None:
            return "this PyTorch was built without CUDA"
        if not torch.cuda.is_available():
            return "no NVIDIA GPU or driver was found"
        if (device.index or 0) >= torch.cuda.device_count():
            return f"there are only {torch.cuda.device_count()} GPUs"
        return None
    if device.type == "mps":
        return None if torch.backends.mps.is_available() else "no Apple GPU was found"
    return None if device.type == "cpu" else "it is not one of cpu, cuda, mps"


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision where it pays: bfloat16 on GPUs that have it; float32 elsewhere (bfloat16 is slow on CPUs)."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
