import threading

import numpy as np
import pytest
import torch
from tests.engine import tiny_config
from tests.training.test_trainer import make_trainer, weights

from napari_rada.control import RunControl
from napari_rada.events import FinishReason, StepLogged
from napari_rada.training import trainer as trainer_module
from napari_rada.training.batches import Batches
from napari_rada.training.checkpoint import load_checkpoint


class Sampler:
    """Draws numbers instead of patches, and remembers in which threads."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.threads = []

    def draw(self):
        self.threads.append(threading.current_thread())
        self.last = int(self.rng.integers(1000))
        return self.last

    def last_batch(self):
        return f"case {self.last}"


def taken(sampler, count, *, ahead):
    batches = Batches(sampler, sampler.draw)
    if not ahead:
        return [(batches.take(), batches.origins, batches.state) for _ in range(count)]
    with batches.drawn_ahead():
        return [(batches.take(), batches.origins, batches.state) for _ in range(count)]


def test_batches_drawn_ahead_are_the_same_and_so_is_the_state_that_is_saved():
    plain, ahead = Sampler(), Sampler()
    assert taken(plain, 5, ahead=False) == taken(ahead, 5, ahead=True)
    assert len(plain.threads) == 5
    assert len(ahead.threads) == 6
    assert threading.main_thread() not in ahead.threads[1:]


def test_an_error_in_a_batch_drawn_ahead_reaches_who_takes_it():
    sampler = Sampler()
    batches = Batches(sampler, sampler.draw)
    with batches.drawn_ahead():
        batches.take()
        sampler.last_batch = None
        with pytest.raises(TypeError):
            [batches.take() for _ in range(3)]  # one or two were drawn before


def test_a_run_that_draws_ahead_stops_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    config = tiny_config(training__iterations=5, model__dropout=0.3, training__augment="deform")
    whole = make_trainer(tmp_path / "whole", config)
    whole.run()

    monkeypatch.setattr(trainer_module, "draws_ahead", lambda device: True)
    control = RunControl()

    def stop_after_two(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    assert make_trainer(tmp_path / "parts", config, control, stop_after_two).run() is FinishReason.STOPPED
    checkpoint = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    resumed = make_trainer(tmp_path / "parts", config, checkpoint=checkpoint)
    assert resumed.run() is FinishReason.COMPLETED
    assert torch.equal(weights(whole), weights(resumed))


def test_a_batch_for_a_graphics_card_is_pinned_before_it_is_moved(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, tiny_config())
    pinned = []

    def pin(tensor):
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    trainer.batches.take()
    assert not pinned
    trainer.device = torch.device("cuda")
    batch = trainer.batches.take()
    assert len(pinned) == len(batch)
    assert all(one is other for one, other in zip(pinned, batch, strict=True))
