"""ITK's morphological contour interpolation, in a process of its own.

ITK and ANTs, which brings a copy of ITK, crash when they meet in one process. This module must stay free of both until
its functions run in the other process.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.errors import InputError, MissingDependencyError, RadaError
from napari_rada.evaluation.benchmark.methods import Conditions, Segmentation
from napari_rada.events import Listener, ignore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case


class ContourInterpolation:
    """Interpolation between parallel annotated slices; needs two or more of them along an axis.

    The memory of the other process is not measured.
    """

    name = "contour-interpolation"
    seeded = False

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def describe(self) -> dict[str, Any]:
        """Return the settings: there are none."""
        return {"method": self.name}

    def check(self) -> None:
        """Start the other process and import ITK there, which takes seconds."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        if not self._pool.submit(has_filter).result():
            raise MissingDependencyError(
                f"The method {self.name} needs itk-morphologicalcontourinterpolation; install it with: "
                "pip install itk-morphologicalcontourinterpolation"
            )

    def segment(
        self, case: Case, conditions: Conditions, *, control: RunControl, listener: Listener = ignore
    ) -> Segmentation:
        """Interpolate along every axis that has slices; it cannot be stopped half-way."""
        control.check()
        if case.labels is None:
            raise InputError(f"{case.name}: there are no annotated slices to interpolate between.")
        assert self._pool is not None, "check() comes first"
        try:
            return Segmentation(self._pool.submit(interpolate, case.labels.astype(np.uint8)).result())
        except BrokenProcessPool:
            self._pool = None
            raise RadaError(f"{case.name}: ITK's contour interpolation ended without a result.") from None


def has_filter() -> bool:
    """Tell whether ITK and its filter are installed."""
    try:
        import itk
    except ImportError:
        return False
    return hasattr(itk, "MorphologicalContourInterpolator")


def interpolate(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Complete the slices of a volume (z, y, x) that are not empty."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(labels))
    found: NDArray[np.uint8] = itk.array_from_image(itk.morphological_contour_interpolator(image))
    return found
