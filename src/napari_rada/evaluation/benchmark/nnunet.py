"""nnU-Net v2, trained on the one scan with its ignore label wherever nobody annotated."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_rada.data.case import Case, check_trainable
from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark import nnunet_worker as worker
from napari_rada.evaluation.benchmark.methods import Conditions, Segmentation
from napari_rada.evaluation.benchmark.outside import check_installed, keep_annotated, run_worker
from napari_rada.events import Listener, Notice, ignore
from napari_rada.io import read_volume
from napari_rada.io.export import export_nnunet
from napari_rada.temporary import temporary_folder

if TYPE_CHECKING:
    from napari_rada.control import RunControl

MINUTES = 5.0
_STAGE = re.compile(r"(\d+(?:\.\d+)?)min")


@dataclass(frozen=True)
class NnUNet:
    """nnU-Net v2 on the CPU, in a process of its own, for some minutes.

    Planned, preprocessed, trained (``3d_fullres``, fold "all") and predicted as nnU-Net does it, with its default
    planner, network, batches, augmentation, loss, optimizer and mirroring. Not default are:

    - training lasts minutes instead of 1000 epochs of 250 iterations, and the learning rate falls by nnU-Net's
      polynomial over these minutes; only training counts, planning and prediction come on top;
    - no epochs of validation, which would be on the annotated slices of the same scan;
    - patches are augmented in the process that trains, so that the seed decides about them.

    Memory of the other process is not measured.

    Parameters
    ----------
    minutes
        Of training. The result depends on the machine.
    name
        As it was asked for.
    """

    minutes: float = MINUTES
    name: str = "nnunet"
    seeded: bool = True

    def describe(self) -> dict[str, Any]:
        """Return the settings."""
        return {"method": "nnunet", "minutes": self.minutes, "configuration": worker.CONFIGURATION}

    def check(self) -> None:
        """Look for nnU-Net."""
        check_installed(self.name, {"nnunetv2": "nnunetv2"})

    def segment(
        self, case: Case, conditions: Conditions, *, control: RunControl, listener: Listener = ignore
    ) -> Segmentation:
        """Train on this scan alone, then predict it."""
        control.check()
        classes = check_trainable([case])
        with temporary_folder() as folder:
            export_nnunet([case], classes, folder / worker.RAW / worker.DATASET)
            job = {"seconds": 60 * self.minutes, "seed": conditions.seed}
            (folder / worker.JOB).write_text(json.dumps(job), encoding="utf-8")
            run_worker(
                worker.__name__, folder, f"{case.name}: nnU-Net", control=control, environment=worker.variables(folder)
            )
            listener(Notice((folder / worker.SUMMARY).read_text(encoding="utf-8")))
            mask = classes.decode(read_volume(folder / worker.MASK).array)
        return Segmentation(keep_annotated(case, mask))


def make_nnunet(name: str) -> NnUNet:
    """Make the method from its name: ``nnunet`` or ``nnunet/Nmin``.

    Raises
    ------
    InputError
        If what follows the name is no number of minutes.
    """
    _, *stages = name.split("/")
    found = [_STAGE.fullmatch(stage) for stage in stages]
    if not found:
        return NnUNet(name=name)
    if len(found) > 1 or found[0] is None or not float(found[0][1]):
        raise InputError(f"{name}: nnunet takes minutes of training and nothing else, for example nnunet/10min.")
    return NnUNet(float(found[0][1]), name)
