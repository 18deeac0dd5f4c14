"""The trainer: a blocking loop over iterations, with a stop token, that saves its own checkpoints.

Shape legend: N networks (3), B batch (L labelled, then U unlabelled patches), C classes, D H W patch.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_rada.errors import RadaError, Stopped
from napari_rada.events import (
    CheckpointSaved,
    FinishReason,
    Notice,
    Paused,
    Resumed,
    StepLogged,
    TrainingStarted,
    Validated,
)
from napari_rada.models.device import autocast, autocasts, cuts_ahead, learns_in_bfloat16
from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import NUM_VIEWS, TripleViewModel
from napari_rada.training import schedules
from napari_rada.training.batches import Batches
from napari_rada.training.checkpoint import LEARN_SLOWER, TrainState, save_checkpoint
from napari_rada.training.compilation import compiled
from napari_rada.training.economy import AS_CONFIGURED, average, recomputed, split
from napari_rada.training.interruption import whole_or_not_at_all
from napari_rada.training.losses import entropy
from napari_rada.training.objective import Knobs, Summary, clean_uncertainty, network_losses, objective, summarised
from napari_rada.training.optimiser import make_optimiser
from napari_rada.training.pace import NOTHING, Pace
from napari_rada.training.patches import PatchSampler
from napari_rada.training.recording import WARM_UP, CudaGraphs, Recorder, recordable
from napari_rada.training.share import Rows, Share, share_layers
from napari_rada.training.team import ALONE
from napari_rada.training.validation import score_held_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.events import Listener
    from napari_rada.models.guided import Guide
    from napari_rada.training.checkpoint import Checkpoint
    from napari_rada.training.economy import Economy
    from napari_rada.training.objective import NetworkLoss
    from napari_rada.training.pace import ToCome
    from napari_rada.training.patches import Batch, Cuts, Draws
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.team import Team
    from napari_rada.training.volumes import Volume

TIMED_ITERATIONS = 4
"""After so many iterations beside those that load, a time budget is turned into a number of them."""

SECOND_HALF = 0.02
"""Held-out Dice by which networks may be behind their teachers at the end of self-training and are still preferred: it
is that of annotated scans, of which they saw less, and says nothing of the others, for which they were trained."""


class Trainer:
    """Trains the three networks of one run.

    Parameters
    ----------
    volumes
        Training volumes on the working grid, at least one labelled.
    checkpoint
        Where to go on; None starts afresh.
    economy
        How memory is saved.
    guide
        The encoded prompts; None trains without guidance.
    team
        The processes that train this run together; only the one that leads writes to `folder`.
    to_come
        What the run does after the iterations of this trainer, for what is told.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        num_classes: int,
        config: RunConfig,
        folder: RunFolder,
        device: torch.device,
        control: RunControl,
        listener: Listener,
        checkpoint: Checkpoint | None = None,
        *,
        economy: Economy = AS_CONFIGURED,
        guide: Guide | None = None,
        team: Team = ALONE,
        to_come: ToCome = NOTHING,
    ) -> None:
        self.volumes = volumes
        self.config = config
        self.settings = config.training
        self.folder = folder
        self.device = device
        self.control = control
        self.listener = listener
        self.economy = economy
        self.team = team
        self.to_come = to_come
        self.rows = Rows()
        records = device.type == "cuda" and recordable(self.settings, team.size) and economy.records
        loading = WARM_UP + 1 if records else 1
        state = checkpoint.state if checkpoint else TrainState(0, self.settings.iterations)
        self._timed = state.iteration + loading + TIMED_ITERATIONS
        self.state = self._budgeted(replace(state, rung=economy.rung), loading)
        self.model = TripleViewModel(num_classes, config.model, config.seed, guide)
        if checkpoint:
            checkpoint.fill(self.model)
        if team.size > 1:
            share_layers(self.model, team, self.rows)
        self.model.place_on(device)
        self._networks, self._computed = self._as_fast_as_possible(records=records)
        self.optimiser = make_optimiser(self.model, config)
        self.sampler = self._make_sampler(num_classes)
        whole = self.share
        self.batches = Batches(self.sampler, whole.labelled * whole.parts, whole.unlabelled * whole.parts, self._cut)
        self._mixed = (economy.autocast or autocasts(device, cpu=self.settings.bfloat16)) and learns_in_bfloat16(
            device, self.settings.patch[0], self.model.stride
        )
        self._checkpoint = checkpoint
        self._saved_at = 0.0
        self._pace = Pace(loading)

    def run(self) -> FinishReason:
        """Train until the planned iterations are done or a stop is requested; always leaves a checkpoint."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.config.seed)
            if self._checkpoint and self._checkpoint.training:
                self._checkpoint.restore(self.optimiser, self.sampler.rng, self.device)
            planned = None if self._is_open else self.state.total_iterations + self.to_come.iterations
            self.listener(TrainingStarted(self.state.iteration + 1, planned, str(self.device)))
            try:
                with self.batches.cut_ahead() if cuts_ahead(self.device) else nullcontext():
                    reason = self._loop()
                self._save()
            finally:
                held = self.folder.settle()
        for name in held:
            self.listener(Notice(f"{name} is open in another program, so that its last lines could not be written."))
        return reason

    def _loop(self) -> FinishReason:
        self._saved_at = time.monotonic()
        try:
            self._validate_if_due()
            while self.state.iteration < self.state.total_iterations:
                self._wait_while_paused()
                if self.team.any(self.control.stop_requested):
                    return FinishReason.STOPPED
                self._iterate()
                self._validate_if_due()
                due = time.monotonic() - self._saved_at > self.settings.checkpoint_seconds
                if self.control.take_checkpoint_request() or due:
                    self._save()
        except Stopped:
            return FinishReason.STOPPED
        return FinishReason.COMPLETED

    def _iterate(self) -> None:
        """One joint iteration: a batch, the step of all three networks, the log.

        Raises
        ------
        Stopped
            If a stop was requested meanwhile; the iteration counts as not begun. Several processes, graphics cards
            and compiled networks finish it.
        """
        started = time.monotonic()
        iteration = self.state.iteration + 1
        with self._stoppable():
            summary, beta, rate = self.step(self.batches.take().to(self.device), iteration)
        self.state = replace(
            self.state, iteration=iteration, elapsed_s=self.state.elapsed_s + time.monotonic() - started
        )
        self._pace.went_on(self.state)
        self._plan_time_budget()
        if iteration % self.settings.log_every == 0:
            self._log(summary, beta, rate)

    def _log(self, summary: Summary, beta: float, rate: float) -> None:
        """Write and tell the losses of the iteration that is done, and how long the run still takes."""
        absent = (math.nan,) * (NUM_VIEWS - len(summary.supervised))
        each = self._pace.seconds(self.state)
        own, later = self._seems_to_fit(), self.to_come
        event = StepLogged(
            self.state.iteration,
            own + later.iterations,
            summary.supervised + absent,
            summary.cross + absent,
            beta,
            rate,
            self.state.elapsed_s,
            each * (own - self.state.iteration) + later.seconds(each),
            self._is_open,
        )
        if self.team.leads:
            self.folder.log_step(event)
        self.listener(event)

    def _cut(self, draws: Draws) -> Cuts:
        return self.sampler.cut(draws, self.share.positions, pinned=self.device.type == "cuda")

    def _stoppable(self) -> AbstractContextManager[None]:
        if self.device.type != "cpu" or self.team.size > 1 or self.settings.compile != "none":
            return nullcontext()
        return whole_or_not_at_all(self.model, self.sampler.rng, self.control)

    @property
    def share(self) -> Share:
        """What this process computes of a batch."""
        settings, parts = self.settings, self.economy.parts
        return Share(
            self.team.rank,
            self.team.size,
            settings.labelled_patches // parts,
            settings.unlabelled_patches // parts,
            parts,
        )

    def _as_fast_as_possible(
        self, *, records: bool
    ) -> tuple[Callable[[NetworkInput], Tensor], Callable[[Batch, Knobs], Tensor]]:
        """Return what computes the logits and what computes gradients."""
        if not records:
            return compiled(self.model, self.settings.compile, self.team.size), self._compute
        graphs = CudaGraphs(self.device, len(self.model.networks))
        return graphs.side_by_side(self.model), Recorder(self._compute, self.model, graphs, self._not_recorded)

    def _not_recorded(self, reason: str) -> None:
        self.listener(Notice(f"Iterations cannot be recorded on this card ({reason}); they take longer one by one."))

    def step(self, batch: Batch, iteration: int) -> tuple[Summary, float, float]:
        """Run every network once on the batch, add up the losses, and take one optimiser step.

        Returns
        -------
        summary, beta, learning_rate
            Of this iteration.

        Raises
        ------
        RadaError
            If a loss or a gradient is not finite; no weight is changed then.
        """
        knobs, rate = self._scheduled(iteration)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        summary = self._summary(batch, knobs, iteration)
        self.optimiser.step()
        return summary, float(knobs.beta), rate

    def _scheduled(self, iteration: int) -> tuple[Knobs, float]:
        """Return the knobs and the learning rate of an iteration."""
        settings, first = self.settings, self.state.first
        since, total = iteration - first, self.state.total_iterations - first
        beta = schedules.cross_weight(since, total, settings.cross)
        knobs = Knobs(
            alpha=schedules.trust(since, total, settings.alpha, settings.alpha_every),
            beta=beta,
            threshold=schedules.entropy_threshold(since, total, self.model.num_classes),
            pseudo_weight=settings.pseudo_weight,
            crossing=beta > 0,
        )
        return knobs, schedules.learning_rate(since, total, settings.learning_rate, settings.decay)

    def _compute(self, batch: Batch, knobs: Knobs) -> Tensor:
        """Leave the gradients of a batch in the parameters, which have none before; returns what a `Summary` reads."""
        batches = split(batch, self.share.own_labelled * self.economy.parts, self.economy.parts)
        losses = average([self._backward(part, knobs) for part in batches])
        self.team.add_gradients(self.model.parameters())
        return summarised(losses, knobs.beta, self.model.parameters())

    def _backward(self, batch: Batch, knobs: Knobs) -> list[NetworkLoss]:
        """Add the gradient of a batch, or a part of one; returns its losses."""
        with self.rows.seen(self.share.rows, self.share.size_of_part):
            losses = self.losses(batch, knobs)
            torch.autograd.backward(objective(losses, knobs.beta) / self.economy.parts)
        return losses

    def losses(self, batch: Batch, knobs: Knobs) -> list[NetworkLoss]:
        """Run every network once on the batch; each output serves as that of a student and of a teacher."""
        inputs = network_input(batch)
        with autocast(self.device, always=self._mixed):
            logits_NBCDHW = recomputed(self.model, inputs) if self.economy.recompute else self._networks(inputs)
        logits_NBCDHW = logits_NBCDHW.float()
        own = self.share.own_labelled
        labelled = len(batch.image_BDHW) if self.state.taught_by_itself else own  # the others have labels, too, then
        first = 0 if self.settings.cross.on_labelled else own
        uncertainty = self._uncertainty(logits_NBCDHW, batch, first) if knobs.crossing else None
        pairs = self.settings.view_pairs
        return network_losses(logits_NBCDHW, batch, labelled, pairs, knobs, uncertainty, self.team.total, first)

    def _summary(self, batch: Batch, knobs: Knobs, iteration: int) -> Summary:
        """Compute the gradients and look at the numbers: the one place in an iteration that waits for a card."""
        summary = Summary.read(self._computed(batch, knobs))
        for what, value in (("The loss", summary.objective), ("The gradient", summary.gradient)):
            if not math.isfinite(value):
                raise RadaError(
                    f"{what} became {value} in iteration {iteration}, on the patches {self.batches.origins}; "
                    f"{LEARN_SLOWER}."
                )
        return summary

    def _uncertainty(self, logits_NBCDHW: Tensor, batch: Batch, first: int) -> Tensor | None:
        """Entropy (nat) of each network on the patches from `first` on, (N, U, D, H, W)."""
        cross = self.settings.cross
        if self.settings.unlabelled_patches == 0 and not cross.on_labelled:
            return None
        if cross.noisy_passes == 0:
            return clean_uncertainty(logits_NBCDHW, first)
        inputs, share = network_input(batch, first), self.share
        rows, number = (
            (share.rows, share.size_of_part) if cross.on_labelled else (share.unlabelled_rows, share.unlabelled)
        )
        whole = (number, *inputs.image_BDHW.shape[1:])
        mean_NUCDHW = torch.zeros_like(logits_NBCDHW[:, first:])
        seen = self.rows.seen(rows, number)
        with torch.no_grad(), autocast(self.device, always=self._mixed), seen:
            for _ in range(cross.noisy_passes):
                noise = torch.randn(whole, device=self.device).mul_(cross.noise)
                noise = self.rows.pick(noise.clamp_(-2 * cross.noise, 2 * cross.noise))
                noisy = inputs._replace(image_BDHW=inputs.image_BDHW + noise)
                mean_NUCDHW += torch.softmax(self._networks(noisy).float(), dim=2) / cross.noisy_passes
        return torch.stack([entropy(probability) for probability in mean_NUCDHW])

    def _validate_if_due(self) -> None:
        """Validate after every so many iterations and after the last, once: also where a stop cut that off."""
        iteration = self.state.iteration
        due = iteration % self.settings.validate_every == 0 or iteration == self.state.total_iterations
        if due and iteration != self.state.validated:
            with self.team.together():
                self._validate()

    def _validate(self) -> None:
        iteration = self.state.iteration
        score = score_held_out(self.model, self.volumes, self.config, self.control, self.team)
        self.state = replace(self.state, validated=iteration)
        if score is None:
            return
        best = self.state.best_dice is None or score.dice >= self.state.best_dice - self._allowance
        self.state = replace(
            self.state,
            dice=score.dice,
            propagation_dice=score.propagation,
            best_dice=score.dice if best else self.state.best_dice,
        )
        event = Validated(iteration, score.dice, score.propagation, best)
        self.listener(event)
        if not self.team.leads:
            return
        self.folder.log_validation(event)
        if best:
            save_checkpoint(self.folder.best_checkpoint, self.state, self.model)

    @property
    def _allowance(self) -> float:
        """How far networks may fall behind the best ones and replace them: those of a second half, at its end."""
        done = self.state.taught_by_itself and self.state.iteration == self.state.total_iterations
        return SECOND_HALF if done else 0.0

    def _budgeted(self, state: TrainState, loading: int) -> TrainState:
        """Say whether a time budget was turned into iterations before, and leave room to time some if it was not."""
        if state.planned is None:
            state = replace(state, planned=state.iteration >= state.first + loading + TIMED_ITERATIONS)
        if self.settings.minutes is not None and not state.planned:
            state = replace(state, total_iterations=max(state.total_iterations, self._timed))
        return state

    def _make_sampler(self, num_classes: int) -> PatchSampler:
        """Make what cuts patches; a run that was continued draws others than the one before."""
        seed, first, model = self.config.seed, self.state.first, self.config.model
        return PatchSampler(
            self.volumes,
            self.settings.patch,
            num_classes=num_classes,
            num_cues=count_cues(model.architecture, num_classes),
            centred=self.settings.centred,
            augment=self.settings.augment,
            prior_dropout=model.prior_dropout,
            rng=np.random.default_rng([seed, first] if first else seed),
        )

    def _plan_time_budget(self) -> None:
        """Turn a time budget into a number of iterations, once, so that the schedules know the end."""
        if self.settings.minutes is None or self.state.iteration > self._timed:
            return
        self.to_come = self.to_come.fitted(self._pace.seconds(self.state))
        if self.state.planned or self.state.iteration < self._timed:
            return
        fitting = int(self.team.leaders(self._pace.fitting(self.state, self.settings.minutes)))
        self.state = replace(self.state, total_iterations=max(fitting, self.state.iteration + 1), planned=True)

    @property
    def _is_open(self) -> bool:
        """True as long as a time budget, of this trainer or of what comes after it, is no number of iterations."""
        return self.settings.minutes is not None and (not self.state.planned or self.to_come.minutes > 0)

    def _seems_to_fit(self) -> int:
        """Return the last iteration of this trainer: as planned, or by its pace until a budget is planned."""
        if self.settings.minutes is None or self.state.planned:
            return self.state.total_iterations
        return max(self._timed, self._pace.fitting(self.state, self.settings.minutes))

    def _wait_while_paused(self) -> None:
        if not self.control.pause_requested:
            return
        self._save()
        self.control.take_checkpoint_request()
        self.listener(Paused(self.state.iteration))
        self.control.wait_while_paused()
        if not self.control.stop_requested:
            self.listener(Resumed(self.state.iteration))

    def _save(self) -> None:
        if not self.team.leads:
            return
        save_checkpoint(self.folder.last_checkpoint, self.state, self.model, self.optimiser, self.batches.state)
        self._saved_at = time.monotonic()
        self.listener(CheckpointSaved(self.state.iteration, self.folder.last_checkpoint))


def network_input(batch: Batch, first: int = 0) -> NetworkInput:
    """Return what the networks see of a batch, from patch `first` on."""
    return NetworkInput(batch.image_BDHW[first:], batch.prior_BCDHW[first:], batch.cues_BJDHW[first:])
