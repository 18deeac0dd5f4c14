"""Schedules: pure functions from the iteration to a value. Iterations count from 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_rada.settings import CosineDecay, CrossConfig, StepDecay


def rampup(iteration: int, total: int) -> float:
    """Return exp(-5 (1 - t)²) with t the finished share of the run: the lineage's sigmoid ramp from 0.007 to 1."""
    rest = 1.0 - min(iteration, total) / total
    return math.exp(-5.0 * rest * rest)


def cross_weight(iteration: int, total: int, cross: CrossConfig) -> float:
    """β: weight of one teacher (METHOD section 3; lineage: 0.1 times the ramp)."""
    if cross.schedule == "constant":
        return cross.beta_max
    growth = rampup(iteration, total) if cross.schedule == "rampup" else min(iteration, total) / total
    return cross.beta_max * growth


def trust(iteration: int, total: int, alpha: float, every: int) -> float:
    """α: trust in a pseudo-label one slice away, lowered every `every` iterations along a cosine from `alpha` to 0."""
    done = ((iteration - 1) // every) * every
    return alpha * 0.5 * (1.0 + math.cos(math.pi * min(done, total) / total))


def entropy_threshold(iteration: int, total: int, num_classes: int) -> float:
    """Largest teacher entropy (nat) that still teaches: (0.75 + 0.25 ramp) ln C."""
    return (0.75 + 0.25 * rampup(iteration, total)) * math.log(num_classes)


def learning_rate(iteration: int, total: int, base: float, decay: StepDecay | CosineDecay) -> float:
    """Learning rate of an iteration."""
    if decay.kind == "step":
        return float(max(base / decay.factor ** ((iteration - 1) // decay.every), min(decay.minimum, base)))
    warmup = max(1, round(decay.warmup * total))
    if iteration <= warmup:
        return base * iteration / warmup
    progress = (iteration - warmup) / max(1, total - warmup)
    return base * (decay.final + (1.0 - decay.final) * 0.5 * (1.0 + math.cos(math.pi * progress)))
