"""What training does when memory runs out: one step down a short ladder, and on from the last checkpoint.

In this order, each beside those before: iterations that are not recorded, since nothing else can use the memory of a
recording; mixed precision where the device has it and it is not on anyway; the batch in
parts whose gradients are added up; patches of half the side, twice; activations computed again instead of kept; the
processor instead of the graphics card. The step that was reached is kept in the checkpoint, so that a resumed run does
not fall down the same stairs again. The ladder has an end, and so have the attempts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint as recomputing

from napari_rada.errors import NotEnoughMemoryError, RunFolderError
from napari_rada.events import FinishReason, Listener, Notice
from napari_rada.memory import is_out_of_memory, release
from napari_rada.models.device import autocasts, has_bfloat16
from napari_rada.training.checkpoint import Checkpoint, load_checkpoint
from napari_rada.training.objective import NetworkLoss
from napari_rada.training.patches import Batch
from napari_rada.training.recording import recordable
from napari_rada.training.team import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_rada.config import RunConfig
    from napari_rada.models.networks import NetworkInput
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.team import Team
    from napari_rada.training.trainer import Trainer

SMALLEST_SIDE = 16
"""Patches are not halved below this many voxels."""


@dataclass(frozen=True)
class Economy:
    """How an iteration is made to need less memory; by default not at all.

    Parameters
    ----------
    rung
        Steps taken down the ladder.
    autocast
        Mixed precision (bfloat16), whatever the settings say.
    parts
        The batch is computed in this many parts, one after the other.
    recompute
        Activations are computed again in the backward pass instead of being kept.
    unrecorded
        Iterations are not recorded, whatever the settings say.
    """

    rung: int = 0
    autocast: bool = False
    parts: int = 1
    recompute: bool = False
    unrecorded: bool = False

    @property
    def records(self) -> bool:
        """True if iterations can be recorded on a card."""
        return not (self.unrecorded or self.recompute or self.parts > 1)


AS_CONFIGURED = Economy()


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: what was changed last, in words, and everything as it is on this step."""

    change: str
    config: RunConfig
    device: torch.device
    economy: Economy = AS_CONFIGURED

    def saves_like(self, other: Rung) -> bool:
        """Tell whether both steps need as much memory."""
        return (self.config, self.device, replace(self.economy, rung=other.economy.rung)) == (
            other.config,
            other.device,
            other.economy,
        )


def ladder(config: RunConfig, device: torch.device, processes: int = 1) -> tuple[Rung, ...]:
    """Return all steps for a run on a device, first the one that changes nothing.

    With several processes a batch is split into fewer parts, so that each has a patch of every part. The steps have
    the same numbers for any number of processes and on every processor; one that saves nothing is passed over.
    """
    rungs = [Rung("", config, device)]

    def down(change: str, **changes: object) -> None:
        last = rungs[-1]
        fields = {key: value for key, value in changes.items() if key in ("config", "device")}
        saved = {key: value for key, value in changes.items() if key not in fields}
        economy = replace(last.economy, rung=len(rungs), **saved)  # type: ignore[arg-type]
        rungs.append(replace(last, change=change, economy=economy, **fields))  # type: ignore[arg-type]

    if device.type == "cuda":
        down("iterations that are not recorded", unrecorded=recordable(config.training, processes))
    if device.type in ("cpu", "cuda") and not autocasts(device, cpu=config.training.bfloat16):
        down("mixed precision (bfloat16)", autocast=has_bfloat16(device))
    training = config.training
    both = training.labelled_patches + training.unlabelled_patches
    most = gcd(training.labelled_patches, training.unlabelled_patches)
    if most > 1:
        parts = next(parts for parts in range(most, 0, -1) if most % parts == 0 and both // parts >= processes)
        down(f"the batch in {parts} parts", parts=parts)
    for _ in range(2):
        patch = rungs[-1].config.training.patch
        smaller = [max(min(side, SMALLEST_SIDE), side // 2) for side in patch]
        if smaller != list(patch):
            settings = {"training.patch": smaller}
            down(f"patches of {smaller} voxels", config=rungs[-1].config.with_settings(settings))
    down("activations computed twice instead of kept", recompute=True)
    if device.type != "cpu":
        down("the processor instead of the graphics card", device=torch.device("cpu"))
    return tuple(rungs)


def run_within_memory(
    make: Callable[[Rung, Checkpoint | None], Trainer],
    rungs: Sequence[Rung],
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    listener: Listener,
    team: Team = ALONE,
) -> tuple[Trainer, FinishReason]:
    """Train, a step further down whenever memory runs out; each step is told once, as a `Notice`.

    Parameters
    ----------
    make
        Builds the trainer of a step.
    checkpoint
        Where to begin; later attempts begin with the last checkpoint in the folder.
    team
        Its processes go down together.

    Raises
    ------
    NotEnoughMemoryError
        If memory ran out on the last step too.
    """
    position = min(checkpoint.state.rung, len(rungs) - 1) if checkpoint else 0
    while True:
        try:
            with team.together():
                trainer = make(rungs[position], checkpoint)
                return trainer, trainer.run()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here are the frames of the error gone, and with them the tensors that they held.
        trainer = None  # type: ignore[assignment]
        release()
        here, position = rungs[position], position + 1
        while position < len(rungs) and rungs[position].saves_like(here):
            position += 1
        if position == len(rungs):
            kept = "; the last checkpoint is kept" if folder.last_checkpoint.exists() else ""
            raise NotEnoughMemoryError(
                "Memory ran out with every way of saving it (see docs/reliability.md); lower data.max_voxels "
                f"(or model.filters of V-Nets), or use a machine with more memory{kept}."
            )
        if folder.last_checkpoint.exists():
            checkpoint = load_checkpoint(folder.last_checkpoint)
        iteration = checkpoint.state.iteration if checkpoint else 0
        check_alike(iteration, team)
        if team.leads:
            folder.forget_after(iteration)
        listener(Notice(f"Memory ran out; training goes on from iteration {iteration} with {rungs[position].change}."))


def check_alike(iteration: int, team: Team) -> None:
    """Refuse to go on from different checkpoints, which a shared disk may show for a while.

    Raises
    ------
    RunFolderError
        If the leading process found another one.
    """
    if (theirs := int(team.leaders(iteration))) != iteration:
        raise RunFolderError(
            f"This process found the checkpoint of iteration {iteration}, the leading one that of {theirs}: the disk "
            "shows different files on different machines; wait a minute and resume."
        )


def split(batch: Batch, labelled: int, parts: int) -> list[Batch]:
    """Split a batch into equal parts; in each, as in the whole, the labelled patches come first."""
    if parts == 1:
        return [batch]
    unlabelled = len(batch.image_BDHW) - labelled
    first, second = labelled // parts, unlabelled // parts
    return [
        Batch(*(torch.cat([t[n * first :][:first], t[labelled + n * second :][:second]]) for t in batch))
        for n in range(parts)
    ]


def average(parts: Sequence[Sequence[NetworkLoss]]) -> list[NetworkLoss]:
    """Average the losses of the parts of a batch, per network, for the log."""

    def mean(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value.detach() for value in values]).mean()

    return [
        NetworkLoss(
            mean([loss.supervised for loss in losses]),
            tuple(mean(terms) for terms in zip(*(loss.cross for loss in losses), strict=True)),
        )
        for losses in zip(*parts, strict=True)
    ]


def recomputed(model: TripleViewModel, inputs: NetworkInput) -> Tensor:
    """Return what the model returns, (N, B, C, D, H, W), and keep no network's activations for the backward pass.

    Batch normalisation sees every batch twice then, which moves its running statistics a little faster.
    """
    logits = torch.stack([recomputing(network, inputs, use_reentrant=False) for network in model.networks])
    return model.corrected(logits, inputs)
