"""One pre-training, from nothing or from where it was stopped, to a file of weights."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.metadata import version
from math import inf
from typing import TYPE_CHECKING, Any

import torch

from napari_rada.durable import check_sums, sink, written_whole
from napari_rada.errors import ConfigError, InputError
from napari_rada.events import Stage, StageProgress, ignore
from napari_rada.io.files import check_folder
from napari_rada.lock import kept_to_one
from napari_rada.memory import explaining_shortage, is_out_of_memory
from napari_rada.models.completer import pack_completer
from napari_rada.models.device import computing
from napari_rada.pretraining.trainer import PretrainConfig, Pretrainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_rada.control import RunControl
    from napari_rada.events import Event, Listener
    from napari_rada.pretraining.trainer import Progress

SAVE_S = 60.0
"""Time between two saved states, beside those after each check: so much is lost at most when the process is killed."""
STATE_SUFFIX, LOCK_SUFFIX = ".state", ".lock"
KEPT = "the state before is kept, if there was one: see that its folder is there and has space, then resume"


@explaining_shortage("close other programs, then go on with --resume, if a state was saved")
def pretrain(
    out: Path,
    config: PretrainConfig,
    *,
    hours: float | None = None,
    resume: bool = False,
    control: RunControl,
    on_progress: Callable[[Progress], None],
    listener: Listener = ignore,
) -> bool:
    """Train a completer on synthetic scans and write its weights; the state lies beside them, in ``OUT.state``.

    Parameters
    ----------
    out
        The weights to write (safetensors), after the last step.
    config
        Settings; not used when resuming, where those of the state count.
    hours
        Train for about this long instead of `config.steps`; None when resuming: as at the start.
    on_progress, listener
        Told of every check, and of steps and of what is drawn between them.

    Returns
    -------
    bool
        False if it was stopped before its end; then only the state is written.

    Raises
    ------
    ConfigError
        If `hours` is no time.
    InputError
        If `out` names no file, it or its state exists and `resume` was not asked for, the state to resume from cannot
        be used, another process trains to the same name, or their folder is missing or cannot be written.
    NotEnoughMemoryError
        If memory runs out.
    """
    if hours is not None and not 0.0 < hours < inf:
        raise ConfigError(f"Training cannot last {hours:g} hours; give a number above 0.")
    if not out.name:
        raise InputError(f"'{out}' names no file; name the weights to write.")
    check_folder(out.parent)
    state = out.with_name(out.name + STATE_SUFFIX)
    if not resume and (out.exists() or state.exists()):
        raise InputError(f"{out if out.exists() else state} exists; choose another name, or resume.")
    if resume and not state.is_file():
        raise InputError(f"There is no {state} to resume from; start without resuming.")
    with kept_to_one(out.with_name(out.name + LOCK_SUFFIX), str(out), "another name", InputError):
        trainer = _resumed(state) if resume else Pretrainer(config)

        saved_at = time.monotonic()

        def save() -> None:
            nonlocal saved_at
            _save_state(state, trainer)
            saved_at = time.monotonic()

        def checked(progress: Progress) -> None:
            save()
            on_progress(progress)

        def told(event: Event) -> None:
            is_between_steps = isinstance(event, StageProgress) and event.stage is Stage.TRAIN
            if is_between_steps and time.monotonic() - saved_at >= SAVE_S:
                save()
            listener(event)

        with computing(threads=None):
            finished = trainer.run(control, checked, hours, told)
        _save_state(state, trainer)
        if finished:
            with written_whole(out) as temporary:
                temporary.write_bytes(pack_completer(trainer.average, provenance(trainer)))
    return finished


def provenance(trainer: Pretrainer) -> dict[str, Any]:
    """Return what the weights were made by."""
    return {
        "data": "synthetic scans only, drawn by napari_rada.pretraining",
        "config": asdict(trainer.config),
        "steps": trainer.step,
        "planned_steps": trainer.steps,
        "hours": round(trainer.elapsed_s / 3600.0, 3),
        "history": [progress._asdict() for progress in trainer.history],
        "torch": torch.__version__,
        "napari-rada": version("napari-rada"),
        "licence": "BSD-3-Clause",
    }


def _save_state(path: Path, trainer: Pretrainer) -> None:
    with written_whole(path, remedy=KEPT) as temporary, sink(temporary) as file:
        torch.save(trainer.state_dict(), file)


def _resumed(path: Path) -> Pretrainer:
    try:
        check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        config = PretrainConfig(**{**state["config"], "widths": tuple(state["config"]["widths"])})
        return Pretrainer(config, state)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # torch raises many kinds for a damaged file
        raise InputError(f"{path} is damaged or not ours ({type(error).__name__}); start afresh.") from None
