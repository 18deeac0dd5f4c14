"""A run that is opened to be used: its settings, classes and networks, and the case that it is used on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from napari_rada.data.classes import listed
from napari_rada.errors import InputError, check_choice
from napari_rada.models.device import resolve_device
from napari_rada.models.triple_view import TripleViewModel, guide_in
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.guiding import describe_guidance
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import annotation_hash, find_case, load_classes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_rada.config import RunConfig
    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.training.checkpoint import Checkpoint

Weights: TypeAlias = Literal["best", "last", "teacher"]


def check_known(name: str, values: Iterable[int], classes: ClassTable, remedy: str) -> None:
    """Raise `InputError`, with a remedy, if labels of a case hold values that are none of a run's classes."""
    unknown = sorted(set(values) - set(classes.values))
    if unknown:
        raise InputError(
            f"{name}: the label values {listed(unknown)} are new, the run knows {listed(classes.values)}; {remedy}."
        )


def latest_trained(folder: RunFolder) -> Checkpoint:
    """Read the last checkpoint; where its networks began anew and are not done, that of those which taught them.

    Raises
    ------
    RunFolderError
        If there is none, or it is damaged.
    """
    last, teacher = load_checkpoint(folder.last_checkpoint), folder.teacher_checkpoint
    begun = last.state.taught_by_itself and last.state.iteration < last.state.total_iterations
    if not (begun and teacher.exists()):
        return last
    return load_checkpoint(teacher, f", or delete it: {folder.last_checkpoint.name} is used then")


@dataclass(frozen=True, eq=False)
class TrainedNetworks:
    """What a run folder holds of its networks. Make it with `read`."""

    folder: RunFolder
    config: RunConfig
    classes: ClassTable
    checkpoint: Checkpoint

    @classmethod
    def read(cls, run_dir: Path | str, weights: Weights = "best") -> TrainedNetworks:
        """Read a run folder.

        Parameters
        ----------
        weights
            `best`: those with the highest held-out Dice, or of the end of self-training if they are hardly behind; if
            that is not known, those of `latest_trained`; `last`: those of the latest checkpoint; `teacher`: those
            that labelled the scans without annotation.

        Raises
        ------
        InputError
            If there are no such weights.
        RunFolderError
            If `run_dir` is no run folder or has no checkpoint.
        """
        check_choice("weights", weights, get_args(Weights))
        folder = RunFolder.open(Path(run_dir))
        best, last = folder.best_checkpoint, folder.last_checkpoint
        if weights == "teacher":
            if not folder.teacher_checkpoint.exists():
                raise InputError(f"{run_dir}: no networks of this run labelled scans; ask for its best or last ones.")
            checkpoint = load_checkpoint(folder.teacher_checkpoint)
        elif weights == "last":
            checkpoint = load_checkpoint(last)
        elif best.exists():
            checkpoint = load_checkpoint(best, f", or delete it: {last.name} is used then" if last.exists() else "")
        else:
            checkpoint = latest_trained(folder)
        return TrainedNetworks(folder, folder.config(), load_classes(folder), checkpoint)

    @property
    def completes_only(self) -> bool:
        """True if the networks can only complete annotated slices."""
        return self.config.model.completes_only

    def check_unannotated(self, name: str) -> None:
        """Raise `InputError` if the networks can only complete annotated slices, and the scan `name` has none."""
        if self.completes_only:
            raise InputError(
                f"{name}: this run completes annotated slices and was given none of this scan; give its labels, "
                "annotate three slices in it, or train on several cases to predict scans that nobody annotated."
            )

    def model(self, device: str) -> TripleViewModel:
        """Return the networks on a device."""
        guide = guide_in(self.checkpoint.model, self.config.guidance)
        model = TripleViewModel(len(self.classes), self.config.model, self.config.seed, guide)
        self.checkpoint.fill(model)
        return model.place_on(resolve_device(device))

    def provenance(self, method: str = "three networks") -> dict[str, str | int | float]:
        """Say which networks made something."""
        found: dict[str, str | int | float] = {
            "run": str(self.folder.path),
            "iteration": self.checkpoint.state.iteration,
            "method": method,
        }
        guidance = describe_guidance(self.folder)
        return found | ({"guidance": guidance} if guidance else {})


@dataclass(frozen=True, eq=False)
class TrainedRun(TrainedNetworks):
    """The networks of a run and a case to use them on. Make it with `open`.

    Parameters
    ----------
    case
        The scan; one of the run's own that came without annotation has that of the run.
    """

    case: Case

    @classmethod
    def open(cls, run_dir: Path | str, case: Case, weights: Weights = "best") -> TrainedRun:
        """Read a run folder; parameters and errors are those of `read`, and `check_known` for the case's labels."""
        found = TrainedNetworks.read(run_dir, weights)
        if not case.is_labelled:
            case = find_case(found.folder, case, found.config) or case
        if case.labels is not None:
            values = np.unique(case.labels).tolist()
            check_known(case.name, values, found.classes, "give them the run's values, or leave the labels out")
        return cls(found.folder, found.config, found.classes, found.checkpoint, case)

    def check_completable(self) -> None:
        """Raise `InputError` if the networks can only complete annotated slices and the case has none."""
        if not self.case.is_labelled:
            self.check_unannotated(self.case.name)

    def provenance(self, method: str = "three networks") -> dict[str, str | int | float]:
        """Say which networks made something, and from which annotation."""
        found = super().provenance(method)
        return found | ({"annotation": annotation_hash(self.case)} if self.case.is_labelled else {})
