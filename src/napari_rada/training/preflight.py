"""What can be told before a run starts: whether it can learn, how much memory and how long it will take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from napari_rada.data.case import check_trainable
from napari_rada.data.orientation import turn_of
from napari_rada.models.device import autocast, autocasts, computing, learns_in_bfloat16, resolve_device
from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.estimate import MemoryEstimate, estimate_memory
from napari_rada.training.plan import left_out, plan, teaching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.config import RunConfig
    from napari_rada.data.case import Case

SMALL = 16
"""Least side of the patch that is timed."""


@dataclass(frozen=True)
class Preflight:
    """The outcome of a check.

    Parameters
    ----------
    memory
        What the run needs and what is free.
    seconds
        Rough training time; that of the budget if there is one.
    hints
        What would make the run better, one sentence each; nothing that keeps it from starting.
    """

    memory: MemoryEstimate
    seconds: float
    hints: tuple[str, ...]


def preflight(cases: Sequence[Case], config: RunConfig) -> Preflight:
    """Check cases and settings without training; takes about as long as half an iteration.

    Raises
    ------
    InputError
        If the cases cannot teach anything.
    ConfigError
        If the device cannot be used here.
    """
    classes = check_trainable(cases)
    config = plan(cases, config)
    grids = [turn_of(case, config.data.orientation).grid(case.grid) for case in teaching(cases, config)]
    memory = estimate_memory([grid.shape for grid in grids], len(classes), config, [grid.spacing for grid in grids])
    budget = config.training.minutes
    seconds = 60.0 * budget if budget else config.training.iterations * seconds_per_iteration(len(classes), config)
    told = left_out(cases, config)
    return Preflight(memory, seconds, (*_hints(cases), *([told] if told else [])))


def seconds_per_iteration(num_classes: int, config: RunConfig) -> float:
    """Time a step on a smaller patch and scale it by the number of voxels; validation and saving are not in it.

    Parameters
    ----------
    num_classes
        Background included.
    """
    training, device = config.training, resolve_device(config.device)
    side = [max(SMALL, size // 2) for size in training.patch]
    model = TripleViewModel(num_classes, config.model, config.seed).place_on(device)
    with torch.random.fork_rng(devices=[]):
        image = torch.rand((1, *side))
    prior = torch.full((1, num_classes, *side), 1.0 / num_classes)
    cues = torch.zeros((1, count_cues(config.model.architecture, num_classes), *side))
    inputs = NetworkInput(*(part.to(device) for part in (image, prior, cues)))
    mixed = autocasts(device, cpu=training.bfloat16 and learns_in_bfloat16(device, training.patch[0], model.stride))
    forward = backward = 0.0
    with computing(config.threads):
        for _ in range(2):  # the first is a warm-up
            started = _now(device)
            with autocast(device, always=mixed):
                logits = model(inputs)
            between = _now(device)
            torch.autograd.backward(logits.float().square().mean())
            forward, backward = between - started, _now(device) - between
    share = prod(training.patch) / prod(side)
    batch = training.labelled_patches + training.unlabelled_patches
    noisy = training.cross.noisy_passes * (batch if training.cross.on_labelled else training.unlabelled_patches)
    return share * (batch * (forward + backward) + noisy * forward)


def _hints(cases: Sequence[Case]) -> list[str]:
    hints = []
    for case in cases:
        axes = {plane.axis for plane in case.annotated}
        if case.is_labelled and len(axes) < 3:
            missing = [case.grid.plane_name(axis) for axis in range(3) if axis not in axes]
            hints.append(
                f"{case.name} has no annotated {' and no '.join(missing)} slice; one in every direction is best."
            )
        if case.labels is not None and not all(case.labels[plane.selector()].any() for plane in case.annotated):
            empty = sum(not case.labels[plane.selector()].any() for plane in case.annotated)
            hints.append(f"{case.name} has {empty} empty annotated slice{'s' if empty > 1 else ''}: nothing is there.")
    return hints


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
