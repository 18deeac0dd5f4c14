"""The methods of this package: propagation alone, and training at each preset and stage."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_rada import pipeline
from napari_rada.config import RunConfig
from napari_rada.data.case import Case, check_trainable
from napari_rada.errors import InputError, Stopped
from napari_rada.evaluation.benchmark.methods import Conditions, Segmentation
from napari_rada.events import FinishReason, Listener, ignore
from napari_rada.guidance.files import find_files
from napari_rada.inference.ensemble import Inside, assemble
from napari_rada.models.device import resolve_device
from napari_rada.preparation import Work, image_in_box, propagated, working_grids
from napari_rada.presets import PRESETS
from napari_rada.propagation import make_propagator
from napari_rada.propagation.regridding import in_box
from napari_rada.settings import PropagationConfig
from napari_rada.temporary import temporary_folder
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import PseudoLabels
    from napari_rada.settings import GuidanceConfig

PROPAGATIONS = tuple(member.model_fields["method"].default for member in get_args(get_args(PropagationConfig)[0]))
"""The ways to propagate, by the names that the settings know."""

STAGES: dict[str, dict[str, Any]] = {
    "no-cross": {"training.cross.beta_max": 0.0},
    "slices-only": {"training.pseudo_weight": 0.0},
    "networks-only": {"inference.blend": 1.0, "inference.corrections": False},
    "unlabelled": {"training.unlabelled_patches": 1},
}
"""Parts of training that can be switched, as the settings that do it: no cross supervision; no pseudo-labels; nothing
of the propagation mixed into the result; a patch of a scan without labels in every step."""

VIEWS, HELD_OUT = "views", "held-out"
"""Of a propagation: also measure the mask made from each slice alone; also make the folds that training needs."""

HALFWAY = "before scans without labels taught"
"""What the networks of the first half of self-training make of a scan."""

LABELLED_ONLY = "labelled-only"
"""Of training on a cohort: leave the scans without labels out."""


@dataclass(frozen=True)
class OwnPropagation:
    """Propagation without training.

    Parameters
    ----------
    name
        As it was asked for.
    config
        Its settings.
    views
        Measure the labelling of each view alone as well; on the first position of the grid only.
    held_out
        Make the folds without one view each, too, on the first position only: what training has to wait for.
    """

    name: str
    config: RunConfig
    views: bool = False
    held_out: bool = False
    seeded: bool = False

    def describe(self) -> dict[str, Any]:
        """Return the settings that matter."""
        settings = self.config.model_dump(mode="json", include={"data", "propagation", "inference", "threads"})
        return {"method": self.name, "settings": settings, "held_out": self.held_out}

    def check(self) -> None:
        """Raise if the way needs a package that is not installed."""
        make_propagator(self.config.propagation)

    def segment(
        self, case: Case, conditions: Conditions, *, control: RunControl, listener: Listener = ignore
    ) -> Segmentation:
        """Propagate."""
        config = under(self.config, conditions)
        if not (self.views or self.held_out):
            return Segmentation(pipeline.propagate(case, config, control=control, listener=listener).mask)
        classes = check_trainable([case])
        work = Work(case, classes, config, control, listener)
        made = propagated(work, working_grids(work)[:1], held_out=self.held_out)
        ((pseudo, working),) = made
        image = image_in_box(work, working.box) if config.inference.edge_aware else None
        whole = assemble(
            case,
            classes,
            Inside(working, in_box(made, control)),
            keep_annotated=True,
            provenance={},
            image_zyx=image,
            control=control,
        )
        return Segmentation(whole.mask, _views(case, working, pseudo) if self.views else {})


@dataclass(frozen=True)
class OwnTraining:
    """The three networks, trained on one scan or on a cohort.

    Parameters
    ----------
    name
        As it was asked for.
    config
        Its settings.
    labelled_only
        Leave the scans of a cohort that have no labels out.
    """

    name: str
    config: RunConfig
    labelled_only: bool = False
    seeded: bool = True

    def describe(self) -> dict[str, Any]:
        """Return all settings but the seed and the device, and which weights are here to guide by."""
        settings = self.config.model_dump(mode="json", exclude={"seed", "device"})
        found = {"method": self.name, "settings": settings, "labelled_only": self.labelled_only}
        return {**found, "guidance": _weights(self.config.guidance)}

    def check(self) -> None:
        """Raise if a device, a package of the propagation, or weights of the guidance are needed that are not here."""
        resolve_device(self.config.device)
        make_propagator(self.config.propagation)
        find_files(self.config.guidance)

    def segment(
        self, case: Case, conditions: Conditions, *, control: RunControl, listener: Listener = ignore
    ) -> Segmentation:
        """Train on this scan alone, then complete it."""
        with _run_folder(conditions.folder) as run_dir:
            self.train([case], run_dir, conditions, control=control, listener=listener)
            return self.predict(case, run_dir, control=control, listener=listener)

    def train(
        self,
        cases: Sequence[Case],
        run_dir: Path,
        conditions: Conditions,
        *,
        control: RunControl,
        listener: Listener = ignore,
    ) -> None:
        """Train into a run folder, or go on with what an interrupted training left there.

        Raises
        ------
        Stopped
            If a stop was requested; called again it goes on with what the run folder holds.
        """
        if RunFolder(run_dir).is_run:
            result = pipeline.resume(run_dir, control=control, listener=listener)
        else:
            kept = [case for case in cases if case.is_labelled] if self.labelled_only else cases
            config = under(self.config, conditions)
            result = pipeline.train(kept, run_dir, config, control=control, listener=listener)
        if result.reason is FinishReason.STOPPED:
            raise Stopped

    def predict(self, case: Case, run_dir: Path, *, control: RunControl, listener: Listener = ignore) -> Segmentation:
        """Predict a scan with a trained run."""
        device = self.config.device
        found = pipeline.predict(run_dir, case, device=device, control=control, listener=listener)
        return Segmentation(found.mask, note=str(found.provenance.get("guidance", "")))

    def halfway(self, case: Case, run_dir: Path, *, control: RunControl) -> dict[str, NDArray[np.integer]]:
        """Predict a scan with the networks that labelled those without labels, if the run taught itself."""
        if not RunFolder(run_dir).teacher_checkpoint.exists():
            return {}
        found = pipeline.predict(run_dir, case, device=self.config.device, weights="teacher", control=control)
        return {HALFWAY: found.mask}


def make_own(
    name: str, settings: Mapping[str, Any], device: str = "auto", *, cohort: bool = False
) -> OwnPropagation | OwnTraining | None:
    """Make a method of ours from its name: ``BASE`` or ``BASE/STAGE/…``; None if the base is not ours.

    Parameters
    ----------
    name
        The base is ``auto`` or another way to propagate, or a preset to train with.
    settings
        Changed in the preset (``quick`` for a propagation).
    cohort
        Begin with the settings that a preset has for several cases.

    Raises
    ------
    InputError
        If the base has no such stage.
    ConfigError
        If a setting is wrong.
    """
    base, *stages = name.split("/")
    if base in PRESETS:
        unknown = set(stages) - {*STAGES, LABELLED_ONLY}
        changes = {key: value for stage in stages for key, value in STAGES.get(stage, {}).items()}
        preset = RunConfig.from_preset(base).base(cohort=cohort)
        config = preset.with_settings({"device": device, **changes, **settings})
        method: OwnPropagation | OwnTraining = OwnTraining(name, config, LABELLED_ONLY in stages)
    elif base in ("auto", *PROPAGATIONS):
        unknown = set(stages) - {VIEWS, HELD_OUT}
        way = {} if base == "auto" else {"propagation.method": base}
        config = RunConfig.from_preset("quick", device=device).with_settings({**way, **settings})
        method = OwnPropagation(name, config, VIEWS in stages, HELD_OUT in stages)
    else:
        return None
    if unknown:
        known = (*STAGES, LABELLED_ONLY) if base in PRESETS else (VIEWS, HELD_OUT)
        raise InputError(f"{base} has no stage {', '.join(sorted(unknown))}; choose among {', '.join(known)}.")
    return method


def under(config: RunConfig, conditions: Conditions) -> RunConfig:
    """Return the settings for a scan: with the seed, and with the window of its data set if none was set."""
    changes: dict[str, Any] = {"seed": conditions.seed}
    if conditions.window is not None and config.data.window is None:
        changes["data.window"] = list(conditions.window)
    return config.with_settings(changes)


def training_seconds(run_dir: Path) -> float:
    """Return how long the iterations of a run took, all its parts together if it was interrupted."""
    with RunFolder.open(run_dir).losses_file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return float(rows[-1]["elapsed_s"]) if rows else 0.0


def _weights(config: GuidanceConfig) -> list[tuple[str, int]] | None:
    """Return names and sizes of the weight files that guide; None if nothing does."""
    files = find_files(config)
    return None if files is None else [(path.name, path.stat().st_size) for path in files if path is not None]


def _views(case: Case, working: WorkingCase, pseudo: PseudoLabels) -> dict[str, np.ndarray[Any, Any]]:
    """Return each view's own mask, without the slices of the others; none if views are not told apart."""
    if len(pseudo.labels) == 1:
        return {}
    classes, found = check_trainable([case]), {}
    for axis, labels in enumerate(pseudo.labels):
        one_hot = np.stack([labels == index for index in range(len(classes))]).astype(np.float32)
        found[f"axis {axis} alone"] = classes.decode(working.to_full(one_hot).argmax(axis=0))
    return found


@contextmanager
def _run_folder(kept: Path | None) -> Iterator[Path]:
    """Give a folder for a run: the one to keep, or a temporary one."""
    if kept is not None:
        yield kept
        return
    with temporary_folder() as temporary:
        yield temporary / "run"
