"""The devices a person can choose, those that cannot be used included, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from napari_rada._napari.engine import torch_beside_a_window
from napari_rada.errors import MissingDependencyError


@dataclass(frozen=True)
class DeviceChoice:
    """One device: `name` as the configuration spells it, `label` for people, and why it cannot be used, if so."""

    name: str
    label: str
    unusable: str | None = None


AUTOMATIC = DeviceChoice("auto", "Automatic")


def list_devices() -> tuple[DeviceChoice, ...]:
    """Look for devices. Imports torch, which takes seconds the first time: call it in a worker."""
    try:
        with torch_beside_a_window():
            import torch

            from napari_rada.models.device import resolve_device, why_unusable
    except MissingDependencyError as error:
        return (AUTOMATIC, DeviceChoice("cpu", "CPU", str(error)))
    found = [DeviceChoice("auto", f"Automatic ({_label(resolve_device('auto'))})"), DeviceChoice("cpu", "CPU")]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for name in [f"cuda:{index}" for index in range(count)] or ["cuda"]:
        device = torch.device(name)
        found.append(DeviceChoice(name, _label(device), why_unusable(device)))
    mps = torch.device("mps")
    found.append(DeviceChoice("mps", _label(mps), why_unusable(mps)))
    return tuple(found)


def _label(device: object) -> str:
    import torch

    assert isinstance(device, torch.device)
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return {"cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}[device.type]
