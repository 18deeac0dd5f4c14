"""What a bug report needs."""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl

QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
OPTIONAL = (
    "antspyx",
    "zarr",
    "dask",
    "distributed",
    "open_clip_torch",
    "scikit-image",
    "h5py",
    "pynrrd",
    "itk-morphologicalcontourinterpolation",
)


def info(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Print versions, devices, threads and folders."""
    found = collect()
    lines = []
    for title, entries in found.items():
        lines += [
            title,
            *(f"  {name}: {'not installed' if value is None else value}" for name, value in entries.items()),
        ]
    console.result(found, "\n".join(lines))
    return True


def collect() -> dict[str, dict[str, Any]]:
    """Gather the facts, by topic."""
    import torch

    from napari_rada.guidance.store import WeightStore
    from napari_rada.training.run_folder import environment

    return {
        "environment": environment() | {name: _version(name) for name in OPTIONAL},
        "window": {"Qt binding": _qt_binding()},
        "devices": devices(),
        "computing": {"CPU threads": torch.get_num_threads(), "CUDA of PyTorch": torch.version.cuda or "none"},
        "folders": {
            "settings": "each run keeps its own in its folder",
            "napari settings": os.environ.get("NAPARI_CONFIG", "napari's own folder, which `napari --info` shows"),
            "weights of guidance": str(WeightStore().folder),
            "PyTorch cache": torch.hub.get_dir(),
            "temporary files": tempfile.gettempdir(),
        },
    }


def devices() -> dict[str, str]:
    """Every kind of device, and whether it can be used or why not."""
    import torch

    from napari_rada.models.device import why_unusable

    names = ["cpu", *(f"cuda:{n}" for n in range(max(1, torch.cuda.device_count()))), "mps"]
    found = {}
    for name in names:
        device = torch.device(name)
        reason = why_unusable(device)
        model = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" and reason is None else ""
        found[name] = f"usable{model}" if reason is None else f"not usable: {reason}"
    return found


def _qt_binding() -> str:
    found = [f"{name} {number}" for name in QT_BINDINGS if (number := _version(name))]
    return ", ".join(found) or "none; install one with: pip install 'napari[all]'"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
