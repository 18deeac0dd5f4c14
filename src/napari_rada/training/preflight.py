"""What can be told before a run starts: whether it can learn, how much memory and how long it will take."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_rada.data.box import told_cut_short
from napari_rada.data.case import check_trainable
from napari_rada.data.slips import told_many, told_slips
from napari_rada.models.device import autocast, autocasts, computing, learns_in_bfloat16, resolve_device
from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.estimate import MemoryEstimate, planned_memory
from napari_rada.training.plan import left_out, plan, teaching_scans
from napari_rada.training.recording import CudaGraphs, recordable
from napari_rada.training.self_training import halves, teaches_itself

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

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
    memory = planned_memory(teaching_scans(cases, config), len(classes), config)
    parts = halves(config) if teaches_itself(config, cases) else (config,)
    budget = config.training.minutes
    seconds = 60.0 * budget if budget else sum(_seconds(len(classes), part) for part in parts)
    cut_short = (told_cut_short(case, config.data.crop_margin) for case in cases)
    told = [left_out(cases, config), *map(told_many, cases), *cut_short]
    slips = [slip for case in cases for slip in told_slips(case)]
    return Preflight(memory, seconds, (*_hints(cases), *(hint for hint in told if hint), *slips))


def _seconds(num_classes: int, config: RunConfig) -> float:
    return config.training.iterations * seconds_per_iteration(num_classes, config)


def seconds_per_iteration(num_classes: int, config: RunConfig) -> float:
    """Time a step, on a processor that of one smaller patch; validation and saving are not in it.

    Parameters
    ----------
    num_classes
        Background included.
    """
    training, device = config.training, resolve_device(config.device)
    model = TripleViewModel(num_classes, config.model, config.seed).place_on(device)
    mixed = autocasts(device, cpu=training.bfloat16 and learns_in_bfloat16(device, training.patch[0], model.stride))
    batch = training.labelled_patches + training.unlabelled_patches
    noisy = training.cross.noisy_passes * (batch if training.cross.on_labelled else training.unlabelled_patches)
    if device.type == "cuda":
        with suppress(RuntimeError):  # memory may run out, as it would in the run
            passes = _Passes(_blank(model, config, batch, training.patch, device), mixed)
            return _seconds_on_card(model, passes, noisy / batch, recorded=recordable(training))
    side = [max(SMALL, size // 2) for size in training.patch]
    passes = _Passes(_blank(model, config, 1, side, device), mixed)
    with computing(config.threads):
        step = _second_time(lambda: passes.step(model), device)
        forward = _second_time(lambda: passes.forward(model), device) if noisy else 0.0
    return prod(training.patch) / prod(side) * (batch * step + noisy * forward)


class _Passes(NamedTuple):
    """What a step does with the networks, on blank patches."""

    inputs: NetworkInput
    mixed: bool

    def step(self, networks: Callable[[NetworkInput], Tensor]) -> Tensor:
        with autocast(self.inputs.image_BDHW.device, always=self.mixed):
            logits = networks(self.inputs)
        loss = logits.float().square().mean()
        torch.autograd.backward(loss)
        return loss.detach()

    @torch.no_grad()
    def forward(self, networks: Callable[[NetworkInput], Tensor]) -> Tensor:
        with autocast(self.inputs.image_BDHW.device, always=self.mixed):
            return networks(self.inputs)


def _blank(
    model: TripleViewModel, config: RunConfig, patches: int, side: Sequence[int], device: torch.device
) -> NetworkInput:
    with torch.random.fork_rng(devices=[]):
        image = torch.rand((patches, *side))
    prior = torch.full((patches, model.num_classes, *side), 1.0 / model.num_classes)
    cues = torch.zeros((patches, count_cues(config.model.architecture, model.num_classes), *side))
    return NetworkInput(*(part.to(device) for part in (image, prior, cues)))


def _seconds_on_card(model: TripleViewModel, passes: _Passes, noisy: float, *, recorded: bool) -> float:
    """Time a whole step, which takes a card a moment: on smaller patches it would be waiting for the processor.

    Parameters
    ----------
    noisy
        Noisy passes over as many patches as there are.
    recorded
        Whether iterations are recorded.
    """
    device = passes.inputs.image_BDHW.device
    step: Callable[[], object] = partial(passes.step, model)
    forward: Callable[[], object] = partial(passes.forward, model)
    if recorded:
        graphs = CudaGraphs(device, len(model.networks))
        networks = graphs.side_by_side(model)
        step(), forward()
        model.zero_grad(set_to_none=True)
        (_, step), (_, forward) = graphs(partial(passes.step, networks)), graphs(partial(passes.forward, networks))
    return _second_time(step, device) + (noisy * _second_time(forward, device) if noisy else 0.0)


def _second_time(compute: Callable[[], object], device: torch.device) -> float:
    """Seconds of a computation that was done once before."""
    compute()
    started = _now(device)
    compute()
    return _now(device) - started


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
