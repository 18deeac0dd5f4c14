"""Biomedisa's smart interpolation: random walks from the annotated slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.data.case import Case, check_trainable
from napari_rada.evaluation.benchmark import biomedisa_worker as worker
from napari_rada.evaluation.benchmark.methods import Conditions, Segmentation
from napari_rada.evaluation.benchmark.outside import check_installed, keep_annotated, run_worker
from napari_rada.events import Listener, ignore
from napari_rada.temporary import temporary_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.control import RunControl


class Biomedisa:
    """Smart interpolation along all axes, on an OpenCL device that is a CPU, in a process of its own.

    Everything is left at Biomedisa's defaults (10 walks of 4000 steps from every annotated voxel) but ``allaxis``, for
    slices of three directions. The image is given as it was read, clipped to the window of the data set if it has one;
    Biomedisa brings it to 0..255 itself. Memory of the other process is not measured.
    """

    name = "biomedisa"
    seeded = False

    def describe(self) -> dict[str, Any]:
        """Return the settings."""
        return {"method": self.name, **worker.SETTINGS}

    def check(self) -> None:
        """Look for Biomedisa and for what it imports without asking for it."""
        check_installed(
            self.name, {"biomedisa": "biomedisa", "pyopencl": "pyopencl", "mpi4py": "mpi4py", "medpy": "medpy"}
        )

    def segment(
        self, case: Case, conditions: Conditions, *, control: RunControl, listener: Listener = ignore
    ) -> Segmentation:
        """Walk from the annotated slices."""
        control.check()
        classes = check_trainable([case])
        with temporary_folder() as folder:
            image = case.image if conditions.window is None else np.clip(case.image, *conditions.window)
            np.save(folder / worker.IMAGE, image)
            np.save(folder / worker.LABELS, sparse_labels(case))
            run_worker(worker.__name__, folder, f"{case.name}: Biomedisa", control=control)
            mask = classes.decode(np.load(folder / worker.MASK, allow_pickle=False))
        return Segmentation(keep_annotated(case, mask))


def sparse_labels(case: Case) -> NDArray[np.uint8]:
    """Return class indices (z, y, x) in the annotated slices and 0, which is the background too, elsewhere.

    Biomedisa takes a slice for annotated if anything but thin lines, which are slices of the other directions, is
    labelled in it: slices that were annotated as empty are lost on it.
    """
    assert case.labels is not None
    labels = np.zeros(case.labels.shape, dtype=np.uint8)
    labels[case.known] = check_trainable([case]).encode(case.labels[case.known])
    return labels
