"""What runs in the process of Biomedisa.

``python -m napari_rada.evaluation.benchmark.biomedisa_worker FOLDER PARENT``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from napari_rada.evaluation.family import end_with

IMAGE, LABELS, MASK = "image.npy", "labels.npy", "mask.npy"
SETTINGS: dict[str, Any] = {"allaxis": True}


def cpu_platform() -> str:
    """Name the first OpenCL platform with a CPU, in Biomedisa's way, which finds few of them by itself."""
    import pyopencl as cl

    try:
        platforms = cl.get_platforms()
    except cl.LogicError:  # none at all
        platforms = []
    for platform in platforms:
        if platform.get_devices(device_type=cl.device_type.CPU):
            return f"opencl_{platform.name}_CPU"
    raise SystemExit("there is no OpenCL for the CPU; install pocl or the OpenCL runtime of the processor's maker.")


def main(folder: Path) -> None:
    """Interpolate what lies in a folder."""
    from biomedisa.interpolation import smart_interpolation

    image, labels = (np.load(folder / name, allow_pickle=False) for name in (IMAGE, LABELS))
    found = smart_interpolation(image, labels, platform=cpu_platform(), **SETTINGS)
    if not found:  # the reason was printed
        raise SystemExit(1)
    np.save(folder / MASK, found["regular"])


if __name__ == "__main__":
    end_with(int(sys.argv[2]))
    main(Path(sys.argv[1]))
