"""How long one iteration takes, beside a loop as the method's lineage published it, and what equal iterations give.

``python -m napari_rada.evaluation.step_benchmark DATA_DIR [--iterations N] [--device D] [--set KEY=VALUE] …``

The same networks, from the same weights, are trained on the same scan with both loops, and predict it. The lineage's
loop (SGTC; DeSCO with two networks) draws a batch of its own for each of the three networks. For each student the
other two run as teachers: once clean on its unlabelled patches, and for the uncertainty T/2 times on these patches
twice over, with noise. Ours draws one batch, runs every network once on it, and uses each output as that of a student
and as that of a teacher. The lineage's loop runs twice: in PyTorch's usual memory format and settings, as it was
published, in single precision, and in ours with all else as ours, so that only the passes differ. On a graphics card
that includes mixed precision; on a processor the lineage's loop stays in single precision, and ours computes in
bfloat16 if ``training.bfloat16`` asks for it. Only ours can be compiled (``training.compile``) or recorded on a card
(``training.cuda_graph``, which is on).
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_rada.config import RunConfig, parse_settings
from napari_rada.control import RunControl
from napari_rada.data.case import check_trainable
from napari_rada.data.classes import UNKNOWN
from napari_rada.errors import RadaError
from napari_rada.evaluation.ending import status_of
from napari_rada.evaluation.scans import find_scans, load_scan, scores
from napari_rada.events import StepLogged, ignore
from napari_rada.inference.ensemble import Part, assemble, averaged
from napari_rada.inference.sliding import VolumeInput, predicted_softmax
from napari_rada.models.device import autocast, computing, resolve_device
from napari_rada.models.triple_view import NUM_VIEWS
from napari_rada.preparation import Work, propagated, working_grids
from napari_rada.temporary import temporary_folder
from napari_rada.training.economy import split
from napari_rada.training.losses import cross_loss, entropy, supervised_loss
from napari_rada.training.objective import Knobs, NetworkLoss, supervision
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.trainer import Trainer, network_input
from napari_rada.training.volumes import cues_without, make_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.data.case import Case
    from napari_rada.data.working import WorkingCase
    from napari_rada.models.networks import NetworkInput
    from napari_rada.propagation.base import PseudoLabels
    from napari_rada.training.patches import Batch
    from napari_rada.training.share import Share

LINEAGE_PASSES = 8
"""T of the lineage."""

NETWORKS: dict[str, Any] = {
    "data.max_voxels": 300_000,
    "model.architecture": "vnet",
    "training.patch": [32, 48, 48],
    "training.patch_voxels": None,
    "training.learning_rate": 3e-3,
    "training.labelled_patches": 1,
    "training.unlabelled_patches": 1,
    "training.cross.on_labelled": False,
    "training.pseudo_weight": 1.0,
    "training.centred": 0.7,
    "training.bfloat16": False,
}
"""What is trained unless other settings are given, beside those of the quick preset: small V-Nets on patches, taught by
each other on unlabelled ones, as both loops can do it."""


class LineageTrainer(Trainer):
    """The lineage's loop: three batches, and every student's teachers run anew. A baseline, not a way to train."""

    usual_format = True

    def __init__(self, *args: Any, **further: Any) -> None:
        super().__init__(*args, **further)
        if self.usual_format:
            self.model.to(memory_format=torch.contiguous_format)

    @property
    def share(self) -> Share:
        """Three batches in one."""
        own = super().share
        return replace(own, labelled=NUM_VIEWS * own.labelled, unlabelled=NUM_VIEWS * own.unlabelled)

    def losses(self, batch: Batch, knobs: Knobs) -> list[NetworkLoss]:
        """Return the losses of three students on a third of the batch each."""
        batches = split(batch, self.share.labelled, NUM_VIEWS)
        return [self._student_loss(student, own, knobs) for student, own in enumerate(batches)]

    def precision(self) -> AbstractContextManager[object]:
        """Single precision."""
        return nullcontext()

    def _logits(self, network: int, inputs: NetworkInput) -> Tensor:
        with self.precision():
            logits_BCDHW: Tensor = self.model.networks[network](inputs)
        return logits_BCDHW.float()

    def _student_loss(self, student: int, batch: Batch, knobs: Knobs) -> NetworkLoss:
        labelled = self.settings.labelled_patches
        logits_BCDHW = self._logits(student, network_input(batch))
        target, weight = supervision(batch, labelled, student, self.settings.view_pairs[student], knobs)
        supervised = supervised_loss(logits_BCDHW[:labelled], target, weight)
        unknown_UDHW = batch.truth_BDHW[labelled:] == UNKNOWN
        cross = []
        for teacher in range(NUM_VIEWS):
            if teacher != student:
                taught_UCDHW, uncertainty_UDHW = self._ask_teacher(teacher, batch)
                counted = unknown_UDHW & (uncertainty_UDHW < knobs.threshold)
                cross.append(cross_loss(logits_BCDHW[labelled:], taught_UCDHW, counted))
        return NetworkLoss(supervised, tuple(cross))

    @torch.no_grad()
    def _ask_teacher(self, teacher: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (U, C, D, H, W) of a teacher, and its entropy (U, D, H, W) over `LINEAGE_PASSES` noisy passes."""
        inputs = network_input(batch, first=self.settings.labelled_patches)
        logits_UCDHW = self._logits(teacher, inputs)
        twice = type(inputs)(*(torch.cat([value, value]) for value in inputs))
        mean_UCDHW = torch.zeros_like(logits_UCDHW)
        for _ in range(LINEAGE_PASSES // 2):
            noise = torch.clamp(0.1 * torch.randn_like(twice.image_BDHW), -0.2, 0.2)
            noisy = torch.softmax(self._logits(teacher, twice._replace(image_BDHW=twice.image_BDHW + noise)), dim=1)
            mean_UCDHW += sum(noisy.chunk(2)) / LINEAGE_PASSES
        return logits_UCDHW, entropy(mean_UCDHW)


class LineageInOurFormat(LineageTrainer):
    """The lineage's loop on networks in our memory format, on a graphics card in mixed precision."""

    usual_format = False

    def precision(self) -> AbstractContextManager[object]:
        """Mixed precision where it pays."""
        return autocast(self.device)


class Loop(NamedTuple):
    """A loop, and whether it runs as our product does: denormals flushed, freed memory kept."""

    trainer: type[Trainer]
    as_ours: bool


LOOPS = {
    "lineage": Loop(LineageTrainer, as_ours=False),
    "lineage, our format": Loop(LineageInOurFormat, as_ours=True),
    "ours": Loop(Trainer, as_ours=True),
}


@dataclass(frozen=True)
class Timing:
    """One loop on one scan: median seconds per iteration, and Dice of the networks after the last."""

    loop: str
    iterations: int
    seconds: float
    dice: float


def compare(case: Case, dense: NDArray[np.uint16], config: RunConfig) -> list[Timing]:
    """Train the same networks with every loop for as many iterations, and predict the scan with each.

    Raises
    ------
    ConfigError
        If the device of the configuration cannot be used.
    """
    working, pseudo = _prepared(case, config)
    found = []
    for name, loop in LOOPS.items():
        with temporary_folder() as folder:
            found.append(_measure(name, loop, case, dense, working, pseudo, config, folder / "run"))
    return found


def _prepared(case: Case, config: RunConfig) -> tuple[WorkingCase, PseudoLabels]:
    work = Work(case, check_trainable([case]), config, RunControl(), ignore)
    ((pseudo, working),) = propagated(work, working_grids(work)[:1], held_out=True)
    return working, pseudo


def _measure(
    name: str,
    loop: Loop,
    case: Case,
    dense: NDArray[np.uint16],
    working: WorkingCase,
    pseudo: PseudoLabels,
    config: RunConfig,
    folder: Path,
) -> Timing:
    classes = check_trainable([case])
    volume = make_volume(working, pseudo, config.training.view_pairs, model=config.model)
    elapsed: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, StepLogged):
            elapsed.append(event.elapsed_s)

    device = resolve_device(config.device)
    run = RunFolder.create(folder, config)
    settings = config if loop.trainer is Trainer else config.with_settings({"training.cuda_graph": False})
    trainer = loop.trainer([volume], len(classes), settings, run, device, RunControl(), listen)
    with computing(config.threads) if loop.as_ours else nullcontext():
        trainer.run()
    inputs = VolumeInput(
        working.image, pseudo.probability, cues_without(working, pseudo, None, config.model.architecture)
    )
    softmax_NCZYX = predicted_softmax(trainer.model, inputs, config.training.patch, config.inference, RunControl())
    found = averaged([Part(working, softmax_NCZYX.mean(axis=0))])
    mask = assemble(case, classes, found, keep_annotated=True, provenance={}).mask
    seconds = float(np.median(np.diff([0.0, *elapsed])))
    return Timing(name, len(elapsed), seconds, scores(mask, dense, case.grid.spacing, classes)[0])


def table(timings: Sequence[Timing]) -> str:
    """Write a Markdown table."""
    lines = ["| loop | iterations | s per iteration | Dice |", "|---|---|---|---|"]
    for timing in timings:
        lines.append(f"| {timing.loop} | {timing.iterations} | {timing.seconds:.2f} | {timing.dice:.4f} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.step_benchmark",
        description="Time one iteration of ours and of the lineage's loop on the first scan of a folder.",
    )
    parser.add_argument("data", metavar="DATA_DIR", type=Path, help="folder with NAME_label.* beside each image NAME_*")
    parser.add_argument("--iterations", metavar="N", type=int, default=10)
    parser.add_argument("--device", metavar="D", default="cpu", help="auto, cpu, cuda, cuda:N or mps (cpu)")
    parser.add_argument("--set", metavar="KEY=VALUE", dest="settings", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        settings = {
            "device": args.device,
            "training.iterations": args.iterations,
            "training.validate_every": 10**6,
            **NETWORKS,
            **parse_settings(args.settings),
        }
        config = RunConfig.from_preset("quick").with_settings(settings)
        case, dense = load_scan(find_scans(args.data)[0])
        timings = compare(case, dense, config)
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps([asdict(timing) for timing in timings]) + "\n" if args.json else table(timings))
    return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
