"""Label three slices, get the volume.

The names below are loaded when they are first used: importing the package costs nothing and loads neither torch nor
Qt nor napari.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_rada.config import RunConfig, load_config
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassInfo, ClassTable
    from napari_rada.data.sample import Sample, make_sample
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.errors import (
        ConfigError,
        InputError,
        MissingDependencyError,
        NotEnoughMemoryError,
        RadaError,
        RunFolderError,
        Stopped,
        WeightsError,
    )
    from napari_rada.events import FinishReason
    from napari_rada.inference.cleanup import CleanUp
    from napari_rada.inference.suggest import Suggestion
    from napari_rada.io import load_case, load_cases, save_mask
    from napari_rada.io.lazy import LazyVolume, from_array, open_lazy
    from napari_rada.outofcore import VolumeResult, predict_volume
    from napari_rada.pipeline import (
        TrainingResult,
        continue_training,
        explain,
        predict,
        preview,
        propagate,
        resume,
        suggest,
        train,
    )
    from napari_rada.prediction import Explanation, Prediction
    from napari_rada.training.estimate import MemoryEstimate, estimate_memory

    __version__: str

__all__ = [
    "AnnotatedSlice",
    "Case",
    "ClassInfo",
    "ClassTable",
    "CleanUp",
    "ConfigError",
    "Explanation",
    "FinishReason",
    "InputError",
    "LazyVolume",
    "MemoryEstimate",
    "MissingDependencyError",
    "NotEnoughMemoryError",
    "Prediction",
    "RadaError",
    "RunConfig",
    "RunControl",
    "RunFolderError",
    "Sample",
    "Stopped",
    "Suggestion",
    "TrainingResult",
    "VolumeResult",
    "WeightsError",
    "__version__",
    "continue_training",
    "estimate_memory",
    "explain",
    "from_array",
    "load_case",
    "load_cases",
    "load_config",
    "make_sample",
    "open_lazy",
    "predict",
    "predict_volume",
    "preview",
    "propagate",
    "resume",
    "save_mask",
    "suggest",
    "train",
]

_HOME = {
    "AnnotatedSlice": "data.slices",
    "Case": "data.case",
    "ClassInfo": "data.classes",
    "ClassTable": "data.classes",
    "CleanUp": "inference.cleanup",
    "ConfigError": "errors",
    "Explanation": "prediction",
    "FinishReason": "events",
    "InputError": "errors",
    "LazyVolume": "io.lazy",
    "MemoryEstimate": "training.estimate",
    "MissingDependencyError": "errors",
    "NotEnoughMemoryError": "errors",
    "Prediction": "prediction",
    "RadaError": "errors",
    "RunConfig": "config",
    "RunControl": "control",
    "RunFolderError": "errors",
    "Sample": "data.sample",
    "Stopped": "errors",
    "Suggestion": "inference.suggest",
    "TrainingResult": "pipeline",
    "VolumeResult": "outofcore",
    "WeightsError": "errors",
    "continue_training": "pipeline",
    "estimate_memory": "training.estimate",
    "explain": "pipeline",
    "from_array": "io.lazy",
    "load_case": "io",
    "load_cases": "io",
    "load_config": "config",
    "make_sample": "data.sample",
    "open_lazy": "io.lazy",
    "predict": "pipeline",
    "predict_volume": "outofcore",
    "preview": "pipeline",
    "propagate": "pipeline",
    "resume": "pipeline",
    "save_mask": "io",
    "suggest": "pipeline",
    "train": "pipeline",
}
"""The module, inside this package, that each public name comes from."""


if "OMP_WAIT_POLICY" not in os.environ:
    # GNU's OpenMP, which torch has on Linux, reads this when torch is loaded. Threads that wait for each other turn in
    # circles 300,000 times before they sleep, which made two of them slower than one on a busy machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    value: object
    if name == "__version__":
        value = import_module("importlib.metadata").version("napari-rada")
    elif name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
