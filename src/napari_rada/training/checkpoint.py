"""Checkpoints: everything that training needs to go on bit for bit, in a file that runs no code when it is read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from napari_rada.durable import RESUME, check_sums, sink, written_whole
from napari_rada.errors import RunFolderError
from napari_rada.memory import is_out_of_memory
from napari_rada.training.optimiser import restore_optimiser

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from napari_rada.models.triple_view import TripleViewModel

FORMAT = 1
LEARN_SLOWER = (
    "continue the run in a new folder, or start a new one if it has no checkpoint yet, with a lower "
    "training.learning_rate"
)
"""What to do about values that are not finite: resuming keeps all settings and comes to the same."""


@dataclass(frozen=True)
class TrainState:
    """The scalars of a run in progress.

    Parameters
    ----------
    iteration
        Finished iterations.
    total_iterations
        Planned iterations; a time budget is turned into this number early in the run.
    elapsed_s
        Training time so far, pauses not counted.
    dice, propagation_dice
        Latest figures on held-out annotated voxels; None if nothing can be held out.
    best_dice
        Highest `dice` so far.
    first, first_elapsed_s
        Iterations and training time of the run that this one continues; the schedules begin anew after them.
    rung
        Steps taken to save memory (see `training.economy`).
    planned
        Whether a time budget was turned into `total_iterations`; None where nobody noted it.
    validated
        Iteration after which the networks were validated last; where a stop cut a validation off, resuming makes up
        for it.
    taught_by_itself
        Whether the networks have begun anew, on scans that earlier ones labelled (`training.self_training`).
    """

    iteration: int
    total_iterations: int
    elapsed_s: float = 0.0
    dice: float | None = None
    propagation_dice: float | None = None
    best_dice: float | None = None
    first: int = 0
    first_elapsed_s: float = 0.0
    rung: int = 0
    planned: bool | None = None
    validated: int = 0
    taught_by_itself: bool = False

    def continued(self, iterations: int) -> TrainState:
        """Return the state from which training goes on for `iterations` more, on another annotation."""
        return TrainState(
            self.iteration,
            self.iteration + iterations,
            self.elapsed_s,
            first=self.iteration,
            first_elapsed_s=self.elapsed_s,
            validated=self.iteration,
        )

    def begun_anew(self, iterations: int) -> TrainState:
        """Return the state from which new networks learn for `iterations`, from what these label (`self_training`)."""
        figures = {name: getattr(self, name) for name in ("dice", "propagation_dice", "best_dice")}
        return replace(self.continued(iterations), taught_by_itself=True, **figures)


def save_checkpoint(
    path: Path,
    state: TrainState,
    model: TripleViewModel,
    optimiser: torch.optim.Optimizer | None = None,
    sampler_state: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint, which replaces the one before when it is complete on the disk.

    Raises
    ------
    RunFolderError
        If it cannot be written, or the weights are not finite; the checkpoint before is kept then.
    """
    training: dict[str, Any] = {}
    device = next(model.parameters()).device
    if optimiser is not None and sampler_state is not None:
        training = {
            "optimiser": optimiser.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "device_rng": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
            "sampler_rng": json.dumps(sampler_state),
        }
    save_weights(path, state, model.state_dict(), training)


def save_weights(
    path: Path, state: TrainState, weights: dict[str, torch.Tensor], training: dict[str, Any] | None = None
) -> None:
    """Write a checkpoint from the networks' weights; `training` is what resuming bit for bit needs."""
    _write(path, {"format": FORMAT, "state": asdict(state), "model": weights, **(training or {})})


def _write(path: Path, content: dict[str, Any]) -> None:
    """Put a checkpoint under its name when it is complete on the disk; refuse weights that are not finite."""
    if not all(bool(torch.isfinite(values).all()) for values in content["model"].values()):
        raise RunFolderError(
            f"The weights after iteration {content['state']['iteration']} are not finite and were not saved; "
            f"{LEARN_SLOWER}."
        )
    with written_whole(path, RunFolderError, RESUME) as temporary, sink(temporary) as file:
        torch.save(content, file)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint as read from disk; `training` is None in one that is for prediction only."""

    state: TrainState
    model: dict[str, torch.Tensor]
    training: dict[str, Any] | None

    def fill(self, model: TripleViewModel) -> None:
        """Give a model the saved weights.

        Raises
        ------
        RunFolderError
            If they are those of networks that are built differently.
        """
        try:
            model.load(self.model)
        except (RuntimeError, TypeError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            raise RunFolderError(
                "The checkpoint does not fit the settings in config.yaml; one of the two files was changed."
            ) from None

    def restore(self, optimiser: torch.optim.Optimizer, rng: np.random.Generator, device: torch.device) -> None:
        """Put the optimiser and every random generator back to where they were, that of the device included.

        Raises
        ------
        RunFolderError
            If what was saved of them is not whole.
        """
        assert self.training is not None
        try:
            restore_optimiser(optimiser, self.training["optimiser"])
            torch.set_rng_state(self.training["torch_rng"])
            if device.type == "cuda" and self.training["device_rng"]:
                torch.cuda.set_rng_state(self.training["device_rng"][0], device)
            rng.bit_generator.state = json.loads(self.training["sampler_rng"])
        except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            raise RunFolderError(
                "The state of the optimiser in the checkpoint is not that of this run; start a new one."
            ) from None


def load_checkpoint(path: Path, otherwise: str = "") -> Checkpoint:
    """Read a checkpoint to the CPU; only tensors and plain values are accepted, never code.

    Parameters
    ----------
    otherwise
        What else can be done if it is damaged, after a comma.

    Raises
    ------
    RunFolderError
        If the file is missing, damaged, of another version, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise RunFolderError(f"There is no checkpoint {path}; train first, or choose another run folder.")
    try:
        check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise RunFolderError(  # torch raises many kinds for a damaged file
            f"The checkpoint {path} is damaged or not ours ({type(error).__name__}); restore it from a copy{otherwise}."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise RunFolderError(f"The checkpoint {path} has format {found}; this version reads format {FORMAT}.")
    try:
        state, model = TrainState(**content["state"]), content["model"]
        counts = (state.iteration, state.total_iterations, state.first, state.rung)
        if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(model, dict):
            raise TypeError
    except (KeyError, TypeError):
        raise RunFolderError(f"The checkpoint {path} is incomplete.") from None
    return Checkpoint(state, model, content if "optimiser" in content else None)
