"""Pre-training of the completer on synthetic scans: seeded, resumable, any number of steps or hours.

Shape legend: B batch (2), K cues, D H W voxels along (z, y, x).
"""

from __future__ import annotations

import copy
import time
from collections import deque
from dataclasses import asdict, dataclass
from math import cos, pi
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from napari_rada.errors import ConfigError, RadaError, Stopped
from napari_rada.events import Stage, StageProgress, ignore
from napari_rada.models.completer import CUES, LOGIT_LIMIT, Completer
from napari_rada.pretraining.examples import Example, make_example
from napari_rada.progress import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.control import RunControl
    from napari_rada.events import Listener

PROPAGATION = CUES.index("propagation")
BLINDED = {"image": 0.5, "contrast": 0.3, "likelihood": 0.3, "smooth likelihood": 0.3}
"""Share of examples in which a cue of appearance is hidden, so that none of them is relied on alone."""
DICE_SHARE = 0.1
"""Weight of the soft Dice beside the cross entropy."""
TIMED_STEPS = 20
"""Steps that are timed to turn hours into a number of steps."""
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class PretrainConfig:
    """What determines the weights, apart from the versions of the packages.

    Parameters
    ----------
    steps
        Optimiser steps of two examples each.
    widths
        Filters per level of the U-Net.
    pool
        Latest examples kept; each step takes the newest and a random one of these.
    learning_rate, warmup, weight_decay
        AdamW: linear warm-up over `warmup` steps, then a cosine to 0.
    average
        Decay of the moving average of the weights, which is what is kept in the end.
    max_voxels, margin
        Working grid and crop, as in use.
    checks
        Synthetic scans, never trained on, by which progress is judged.
    check_every
        Steps between two such checks.

    Raises
    ------
    ConfigError
        If there is no step to do, or the seed is no number to start from.
    """

    seed: int = 0
    steps: int = 1000
    widths: tuple[int, ...] = (8, 24, 48, 64)
    pool: int = 128
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    average: float = 0.998
    max_voxels: int = 150_000
    margin: float = 0.25
    checks: int = 40
    check_every: int = 250

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"{self.steps} steps are not possible; give 1 or more.")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ConfigError(f"The seed must be a whole number from 0 to {LARGEST_SEED}; found {self.seed}.")


class Progress(NamedTuple):
    """Mean loss since the last check, and mean Dice on the synthetic checks: completed, and propagated alone."""

    step: int
    steps: int
    loss: float
    dice: float
    propagation_dice: float
    elapsed_s: float


class Pretrainer:
    """Trains one completer.

    Parameters
    ----------
    config
        Settings.
    state
        What `state_dict` returned earlier, to go on from there; None starts afresh.
    """

    def __init__(self, config: PretrainConfig, state: dict[str, Any] | None = None) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = Completer(len(CUES), config.widths).to(memory_format=torch.channels_last_3d)
        self.average = copy.deepcopy(self.model)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0
        self.steps = config.steps
        self.hours: float | None = None
        self.elapsed_s = 0.0
        self.history: list[Progress] = []
        self._losses: list[float] = []
        if state is not None:
            self._restore(state)
        self._pool: deque[Example] = deque(maxlen=config.pool)
        self._checks: list[Example] = []

    def run(
        self,
        control: RunControl,
        on_progress: Callable[[Progress], None],
        hours: float | None = None,
        listener: Listener = ignore,
    ) -> bool:
        """Train until all steps are done; False if a stop was requested before.

        Parameters
        ----------
        hours
            Replaces the number of steps by what fits, judged by the first steps; a resumed run keeps its number. None
            takes the hours with which a resumed run began, if any.
        on_progress, listener
            Told of every check, and of steps and of what is drawn between them.
        """
        self.hours = self.hours if hours is None else hours
        try:
            self._refill(control, listener)
            self._check_if_due(control, on_progress, listener)
            self._train(control, on_progress, listener)
        except Stopped:
            return False
        return True

    def _train(self, control: RunControl, on_progress: Callable[[Progress], None], listener: Listener) -> None:
        while self.step < self.steps:
            control.check()
            listener(StageProgress(Stage.TRAIN, self.step, self.steps))
            started = time.monotonic()
            self._losses.append(self.train_step())
            self.elapsed_s += time.monotonic() - started
            if self.hours is not None and self.step == TIMED_STEPS:
                self.steps = max(int(3600.0 * self.hours / (self.elapsed_s / TIMED_STEPS)), TIMED_STEPS + 1)
            self._check_if_due(control, on_progress, listener)
        listener(StageProgress(Stage.TRAIN, self.step, self.steps))

    def _check_if_due(self, control: RunControl, on_progress: Callable[[Progress], None], listener: Listener) -> None:
        """Check after every so many steps and after the last, once: also where a stop cut that off."""
        due = self.step % self.config.check_every == 0 or self.step == self.steps
        if self.step and due and not (self.history and self.history[-1].step == self.step):
            self.history.append(self._check(control, listener))
            on_progress(self.history[-1])

    def train_step(self) -> float:
        """Draw a new example, learn from it and an earlier one; returns the loss."""
        rng = np.random.default_rng([self.config.seed, 1, self.step])
        self._pool.append(self._example(self.step))
        earlier = self._pool[int(rng.integers(len(self._pool)))]
        cues_BKDHW, share_BDHW, inside_BDHW = make_pair(self._pool[-1], earlier, rng)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        logits_BDHW = self.model(cues_BKDHW) + LOGIT_LIMIT * cues_BKDHW[:, PROPAGATION]
        loss = completion_loss(logits_BDHW, share_BDHW, inside_BDHW)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise RadaError(f"The loss became {value} in step {self.step + 1}; lower the learning rate.")
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return value

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on; tensors and plain values only."""
        return {
            "config": asdict(self.config),
            "step": self.step,
            "steps": self.steps,
            "hours": self.hours,
            "elapsed_s": self.elapsed_s,
            "history": [tuple(progress) for progress in self.history],
            "losses": list(self._losses),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.steps, self.elapsed_s = state["step"], state["steps"], state["elapsed_s"]
        self.hours = state.get("hours")
        self.history = [Progress(*entry) for entry in state["history"]]
        self._losses = list(state.get("losses", []))

    def _refill(self, control: RunControl, listener: Listener) -> None:
        """Draw again the examples that the pool held when training was stopped."""
        steps = range(max(0, self.step - self.config.pool), self.step)
        if steps:
            for _, step in told(steps, ["latest examples"] * len(steps), control, listener):
                self._pool.append(self._example(step))

    def _example(self, number: int) -> Example:
        rng = np.random.default_rng([self.config.seed, 0, number])
        return make_example(rng, self.config.max_voxels, self.config.margin)

    def _learning_rate(self) -> float:
        if self.step < self.config.warmup:
            return self.config.learning_rate * (self.step + 1) / self.config.warmup
        done = (self.step - self.config.warmup) / max(self.steps - self.config.warmup, 1)
        return self.config.learning_rate * 0.5 * (1.0 + cos(pi * min(done, 1.0)))

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.config.average, (1.0 + self.step) / (10.0 + self.step))
        for mean, latest in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(latest, 1.0 - decay)

    @torch.no_grad()
    def _check(self, control: RunControl, listener: Listener) -> Progress:
        """Dice of the averaged weights, and of the propagation, on scans that are never trained on."""
        missing = range(len(self._checks), self.config.checks)
        if missing:
            for _, number in told(missing, ["scans to check on"] * len(missing), control, listener):
                rng = np.random.default_rng([self.config.seed, 2, number])
                self._checks.append(make_example(rng, self.config.max_voxels, self.config.margin))
        found = []
        for example in self._checks:
            control.check()
            cues_KDHW = torch.from_numpy(example.cues.astype(np.float32))
            propagated = LOGIT_LIMIT * cues_KDHW[PROPAGATION]
            cues_BKDHW = cues_KDHW[None].contiguous(memory_format=torch.channels_last_3d)
            completed = propagated + self.average(cues_BKDHW)[0]
            truth = torch.from_numpy(example.share > 0.5)
            found.append((_dice(completed > 0, truth), _dice(propagated > 0, truth)))
        loss, self._losses = float(np.mean(self._losses)), []
        completed_dice, propagation_dice = np.mean(found, axis=0)
        return Progress(self.step, self.steps, loss, float(completed_dice), float(propagation_dice), self.elapsed_s)


def make_pair(first: Example, second: Example, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Bring two examples to one shape: cues (B, K, D, H, W), share and bool "lies in the scan" (B, D, H, W).

    Each is turned so that the longest sides fall together, both are then turned and mirrored in the same way, and the
    smaller one is continued by its border.
    """
    order, mirrored = rng.permutation(3), [axis for axis in range(3) if rng.random() < 0.5]
    turned = [_turned(example, order, mirrored) for example in (first, second)]
    size = np.max([share.shape for _, share in turned], axis=0)
    cues, shares, insides = [], [], []
    for example_cues, share in turned:
        pad = [(0, int(most) - side) for most, side in zip(size, share.shape, strict=True)]
        cues.append(np.pad(example_cues, [(0, 0), *pad], mode="edge"))
        shares.append(np.pad(share, pad, mode="edge"))
        insides.append(np.pad(np.ones(share.shape, dtype=bool), pad))
    stacked = torch.from_numpy(np.stack(cues).astype(np.float32))
    for name, often in BLINDED.items():
        hidden = torch.from_numpy(rng.random(len(stacked)) < often)
        stacked[hidden, CUES.index(name)] = 0.0
    return (
        stacked.contiguous(memory_format=torch.channels_last_3d),
        torch.from_numpy(np.stack(shares).astype(np.float32)),
        torch.from_numpy(np.stack(insides)),
    )


def completion_loss(logits_BDHW: Tensor, share_BDHW: Tensor, inside_BDHW: Tensor) -> Tensor:
    """Binary cross entropy and a little soft Dice; voxels outside the scan count nothing.

    With more Dice the network learns to take what is doubtful, and does so on real scans where much is.
    """
    weight = inside_BDHW.float()
    entropy = F.binary_cross_entropy_with_logits(logits_BDHW, share_BDHW, weight=weight, reduction="sum") / weight.sum()
    probability = torch.sigmoid(logits_BDHW) * weight
    share = share_BDHW * weight
    both, either = (probability * share).sum((1, 2, 3)), (probability + share).sum((1, 2, 3))
    return entropy + DICE_SHARE * (1.0 - (2.0 * both + 1.0) / (either + 1.0)).mean()


def _turned(
    example: Example, order: NDArray[np.intp], mirrored: list[int]
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    by_length = np.argsort(example.share.shape)[::-1][order]
    share = np.flip(example.share.transpose(by_length), tuple(mirrored))
    cues = np.flip(example.cues.transpose(0, *(by_length + 1)), tuple(axis + 1 for axis in mirrored))
    return cues, share


def _dice(found: Tensor, truth: Tensor) -> float:
    return float(2.0 * (found & truth).sum() / (found.sum() + truth.sum()).clamp(min=1))
