"""Recorded iterations, on a tape that needs no card: it repeats by computing again (on cards: tests/test_cuda.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.engine import tiny_config
from tests.training.test_trainer import make_trainer

from napari_rada.events import Notice
from napari_rada.training import trainer as trainer_module
from napari_rada.training.economy import AS_CONFIGURED, Economy
from napari_rada.training.recording import WARM_UP, Recorder, recordable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from napari_rada.training.trainer import Trainer

CPU = torch.device("cpu")


class Tape:
    """Repeats a computation into the tensors that the first one left, as a graph does; counts what happened."""

    def __init__(self, trainer: Trainer, reason: str = "") -> None:
        self.model, self.reason = trainer.model, reason
        self.recorded = self.repeated = 0

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        if self.reason:
            compute()
            raise RuntimeError(self.reason)
        self.recorded += 1
        found = compute()
        gradients = [weights.grad for weights in self.model.parameters()]

        def repeat() -> None:
            self.repeated += 1
            self.model.zero_grad(set_to_none=True)
            found.copy_(compute())
            for gradient, weights in zip(gradients, self.model.parameters(), strict=True):
                if gradient is not None:
                    gradient.copy_(weights.grad)

        return found, repeat


def recorded(path: Path, reason: str = "", **settings: Any) -> tuple[Trainer, Tape, list[str]]:
    """Make a trainer whose iterations are recorded."""
    trainer, told = plain(path, **settings), []
    tape = Tape(trainer, reason)
    trainer._computed = Recorder(trainer._compute, trainer.model, tape, told.append)
    return trainer, tape, told


def plain(path: Path, **settings: Any) -> Trainer:
    return make_trainer(path, tiny_config(training__iterations=12, training__cross__schedule="linear", **settings))


def objectives(trainer: Trainer, first: int = 1, last: int = 12) -> list[float]:
    return [
        trainer.step(trainer.batches.take().to(CPU), iteration)[0].objective for iteration in range(first, last + 1)
    ]


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().ravel().clone() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("architecture", ["vnet", "completer"])
def test_recorded_iterations_learn_what_others_learn_whatever_batch_and_schedules_are(
    tmp_path: Path, architecture: str, optimiser: str
) -> None:
    settings = {"model__architecture": architecture, "training__optimiser__kind": optimiser}
    usual = plain(tmp_path / "usual", training__alpha_every=2, **settings)
    other, tape, told = recorded(tmp_path / "recorded", training__alpha_every=2, **settings)
    np.testing.assert_allclose(objectives(other), objectives(usual), rtol=1e-4)
    torch.testing.assert_close(weights(other), weights(usual), rtol=1e-3, atol=1e-5)
    assert (tape.recorded, tape.repeated, told) == (1, 12 - WARM_UP, [])


def test_what_the_networks_teach_each_other_is_recorded_for_itself(tmp_path: Path) -> None:
    trainer, tape, _ = recorded(tmp_path)
    knobs, _ = trainer._scheduled(6)
    batch = trainer.batches.take().to(CPU)
    for beta in (0.0, 0.1):
        for _ in range(WARM_UP + 2):
            trainer.optimiser.zero_grad(set_to_none=True)
            summary = trainer._summary(batch, knobs._replace(beta=beta, crossing=beta > 0), 6)
        assert (sum(summary.cross) > 0) == (beta > 0)
    assert (tape.recorded, tape.repeated) == (2, 4)


def test_batches_of_another_size_are_recorded_for_themselves(tmp_path: Path) -> None:
    trainer, tape, _ = recorded(tmp_path)
    for size in (16, 24):
        trainer.sampler.patch = (size, size, size)
        objectives(trainer, 1, WARM_UP + 1)
    assert (tape.recorded, tape.repeated) == (2, 2)


def test_weights_that_moved_are_recorded_again(tmp_path: Path) -> None:
    trainer, tape, _ = recorded(tmp_path)
    objectives(trainer, 1, 6)
    for parameter in trainer.model.parameters():
        parameter.data = parameter.data.clone()
    before = weights(trainer)
    objectives(trainer, 7, 7)
    assert tape.recorded == 2
    assert not torch.equal(before, weights(trainer))


def test_where_recording_fails_iterations_are_computed_as_usual_and_that_is_told_once(tmp_path: Path) -> None:
    usual = plain(tmp_path / "usual")
    trainer, tape, told = recorded(tmp_path / "failed", "operation not permitted\nand much more")
    assert objectives(trainer) == objectives(usual)
    assert (tape.repeated, told) == (0, ["operation not permitted"])


def test_a_loss_that_is_not_finite_is_found_in_a_recorded_iteration_too(tmp_path: Path) -> None:
    trainer, _, _ = recorded(tmp_path)
    objectives(trainer, 1, 6)
    batch, before = trainer.batches.take().to(CPU), weights(trainer)
    with pytest.raises(Exception, match="loss became nan in iteration 7"):
        trainer.step(batch._replace(image_BDHW=torch.full_like(batch.image_BDHW, torch.nan)), 7)
    assert torch.equal(before, weights(trainer))
    objectives(trainer, 7, 7)
    assert not torch.equal(before, weights(trainer))


class NoCard:
    """Stands for the graphs of a card."""

    def __init__(self, device: torch.device, networks: int) -> None:
        assert device.type == "cuda"
        assert networks == 3

    def side_by_side(self, model: object) -> object:
        return model


@pytest.mark.parametrize(
    ("settings", "processes", "expected"),
    [
        ({}, 1, True),
        ({}, 2, False),
        ({"training__cuda_graph": False}, 1, False),
        ({"training__compile": "default"}, 1, False),
    ],
)
def test_iterations_are_recorded_unless_something_else_is_asked_for(
    settings: dict[str, Any], processes: int, expected: bool
) -> None:
    assert recordable(tiny_config(**settings).training, processes) == expected


@pytest.mark.parametrize("economy", [Economy(parts=2), Economy(recompute=True), Economy(unrecorded=True)])
def test_what_saves_memory_in_other_ways_is_not_recorded(economy: Economy) -> None:
    assert AS_CONFIGURED.records
    assert not economy.records


def test_it_is_told_that_a_card_cannot_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "CudaGraphs", NoCard)
    trainer, told = plain(tmp_path), []
    trainer.listener, trainer.device = told.append, torch.device("cuda")
    networks, computed = trainer._as_fast_as_possible(records=True)
    assert networks is trainer.model
    assert isinstance(computed, Recorder)
    computed._failed("no graphs here")
    assert isinstance(told[0], Notice)
    assert "cannot be recorded on this card (no graphs here)" in str(told[0])
    assert trainer._as_fast_as_possible(records=False) == (trainer.model, trainer._compute)


def test_a_tape_that_writes_to_where_gradients_lay_is_not_led_astray_by_weights_that_move_and_come_back(
    tmp_path: Path,
) -> None:
    trainer, _, _ = recorded(tmp_path)
    objectives(trainer, 1, 6)
    for parameter in trainer.model.parameters():
        if parameter.grad is not None:
            parameter.grad.data = parameter.grad.data.clone()
    before = weights(trainer)
    trainer.optimiser.zero_grad(set_to_none=True)
    objectives(trainer, 7, 7)
    (recording,) = trainer._computed._recordings.values()
    for gradient, parameter in zip(recording.gradients, trainer.model.parameters(), strict=True):
        assert gradient is None or gradient.data_ptr() == parameter.grad.data_ptr()
    assert not torch.equal(before, weights(trainer))
