import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from tests.engine import tiny_config
from tests.training.test_trainer import make_trainer, weights

from napari_rada.control import RunControl
from napari_rada.events import FinishReason, StepLogged
from napari_rada.training import trainer as trainer_module
from napari_rada.training.batches import Batches, threads_ahead
from napari_rada.training.checkpoint import load_checkpoint


class Sampler:
    """Draws numbers instead of patches."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def draw(self, labelled, unlabelled):
        return [int(self.rng.integers(1000)) for _ in range(labelled + unlabelled)]


class Cutter:
    """Cuts what was drawn, the sooner the later it comes, and remembers in which threads."""

    def __init__(self):
        self.threads = []

    def __call__(self, draws):
        time.sleep(0.02 / (1 + len(self.threads)))
        self.threads.append(threading.current_thread())
        return [2 * number for number in draws]


def taken(sampler, cut, count, *, ahead):
    batches = Batches(sampler, 2, 1, cut)
    with batches.cut_ahead() if ahead else nullcontext():
        found = [(batches.take(), batches.origins, batches.state) for _ in range(count)]
    return found, batches.state


@pytest.mark.parametrize("processors", [1, 16])
def test_batches_cut_ahead_are_the_same_and_so_is_the_state_that_is_saved(monkeypatch, processors):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    plain, ahead = Cutter(), Cutter()
    assert taken(Sampler(), plain, 20, ahead=False) == taken(Sampler(), ahead, 20, ahead=True)
    assert set(plain.threads) == {threading.main_thread()}
    assert threading.main_thread() not in ahead.threads
    assert len(set(ahead.threads)) <= threads_ahead() == {1: 1, 16: 4}[processors]
    assert 20 <= len(ahead.threads) <= 20 + threads_ahead()


def test_torch_has_as_many_threads_afterwards_as_before():
    before, seen = torch.get_num_threads(), []

    def cut(draws):
        seen.append(torch.get_num_threads())
        return draws

    torch.set_num_threads(2)
    try:
        taken(Sampler(), cut, 8, ahead=True)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_batch_cut_ahead_reaches_who_takes_it():
    def cut(draws):
        raise TypeError("this cannot be cut")

    batches = Batches(Sampler(), 2, 1, cut)
    with batches.cut_ahead(), pytest.raises(TypeError, match="cannot be cut"):
        batches.take()


def test_a_run_that_cuts_ahead_stops_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    config = tiny_config(training__iterations=5, model__dropout=0.3, training__augment="deform")
    whole = make_trainer(tmp_path / "whole", config)
    whole.run()

    monkeypatch.setattr(trainer_module, "cuts_ahead", lambda device: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    control = RunControl()

    def stop_after_two(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    assert make_trainer(tmp_path / "parts", config, control, stop_after_two).run() is FinishReason.STOPPED
    checkpoint = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    resumed = make_trainer(tmp_path / "parts", config, checkpoint=checkpoint)
    assert resumed.run() is FinishReason.COMPLETED
    assert torch.equal(weights(whole), weights(resumed))


def test_patches_for_a_graphics_card_are_cut_into_pinned_memory(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, tiny_config(training__augment="deform"))
    empty, asked = torch.empty, []

    def make(*shape, pin_memory=False, **options):
        asked.append(pin_memory)
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", make)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: asked.append(True) or tensor)
    trainer.batches.take()
    assert asked
    assert not any(asked)
    asked.clear()
    trainer.device = torch.device("cuda")
    trainer.batches.take()
    assert asked
    assert all(asked)
