"""What only a CUDA graphics card can show; skipped without one."""

from __future__ import annotations

import gc
from contextlib import suppress

import numpy as np
import pytest
import torch
from tests.engine import ball, ball_case, dice, fully_annotated, overfitting_config, tiny_config
from tests.test_guided_runs import guided, halves_case
from tests.training.test_trainer import training_volume

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.events import FinishReason, Notice, StepLogged, ignore
from napari_rada.inference.sliding import blank_prior, predicted_softmax
from napari_rada.models.networks import NetworkInput
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.objective import Summary
from napari_rada.training.preflight import preflight
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA graphics card")

CUDA = torch.device("cuda")


def make_trainer(path, config):
    volume = training_volume(config, ball_case())
    return Trainer([volume], 2, config, RunFolder.create(path, config), CUDA, RunControl(), ignore)


def weights(trainer):
    return torch.cat([parameter.detach().cpu().ravel() for parameter in trainer.model.parameters()])


def remember(losses):
    """Return a listener that keeps the supervised losses of every step."""
    return lambda event: losses.append(event.supervised) if isinstance(event, StepLogged) else None


def test_the_networks_learn_a_tiny_volume_from_the_image_alone(tmp_path):
    config = overfitting_config(device="cuda", training__cross__noisy_passes=1, inference__keep_annotated=False)
    case = fully_annotated()
    assert pipeline.train([case], tmp_path / "run", config).reason is FinishReason.COMPLETED
    assert dice(pipeline.predict(tmp_path / "run", case, device="cuda").mask, ball()) > 0.95


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
def test_card_and_processor_predict_the_same(tmp_path, architecture):
    config = tiny_config(
        device="cuda", model__architecture=architecture, training__augment="deform", inference__blend=1.0
    )
    pipeline.train([ball_case()], tmp_path / "run", config)
    on_card, on_processor = (pipeline.predict(tmp_path / "run", ball_case(), device=name) for name in ("cuda", "cpu"))
    np.testing.assert_allclose(on_card.probability, on_processor.probability, atol=0.05)  # bfloat16


@pytest.mark.parametrize("stop_after", [2, 9])
def test_a_run_stops_and_goes_on_as_if_nothing_had_been(tmp_path, stop_after):
    config = tiny_config(device="cuda", training__iterations=14, model__dropout=0.3, training__augment="deform")
    control, whole, parts = RunControl(), [], []

    def stop(event):
        remember(parts)(event)
        if isinstance(event, StepLogged) and event.iteration == stop_after:
            control.stop()

    pipeline.train([ball_case()], tmp_path / "whole", config, listener=remember(whole))
    stopped = pipeline.train([ball_case()], tmp_path / "parts", config, control=control, listener=stop)
    assert (stopped.reason, stopped.iteration) == (FinishReason.STOPPED, stop_after)
    assert pipeline.resume(tmp_path / "parts", listener=remember(parts)).iteration == 14
    np.testing.assert_allclose(parts, whole, rtol=0.02)


@pytest.mark.parametrize("before", [1, 8])
@pytest.mark.parametrize("noisy", [0, 2])
def test_a_step_waits_for_the_card_where_it_looks_for_numbers_that_are_not_finite_and_nowhere_else(
    tmp_path, monkeypatch, noisy, before
):
    trainer = make_trainer(tmp_path, tiny_config(training__cross__noisy_passes=noisy))
    for _ in range(before):  # what happens once, or until an iteration is recorded
        trainer.step(trainer.batches.take().to(CUDA), 1)
    batch = trainer.batches.take().to(CUDA)
    monkeypatch.setattr(Summary, "read", lambda values: Summary(0.0, 0.0, (), ()))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(batch, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_networks_learn_the_same(tmp_path, mode):
    plain, compiled = (
        make_trainer(tmp_path / name, tiny_config(training__compile=name, training__iterations=6))
        for name in ("none", mode)
    )
    plain.run()
    compiled.run()
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=0.05, atol=0.01)


def steps(path, count=12, **settings):
    """Take steps on one batch; returns the trainer and the objective of every step."""
    trainer = make_trainer(path, tiny_config(training__cross__schedule="constant", training__iterations=12, **settings))
    batch = trainer.batches.take().to(CUDA)
    return trainer, [trainer.step(batch, iteration)[0].objective for iteration in range(1, count + 1)]


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("noisy", [0, 2])
def test_recorded_iterations_learn_what_others_learn(tmp_path, architecture, norm, optimiser, noisy):
    settings = {
        "model__architecture": architecture,
        "model__norm": norm,
        "training__optimiser__kind": optimiser,
        "training__learning_rate": 1e-3,
        "training__cross__noisy_passes": noisy,
    }
    (plain, one_by_one), (recorded, at_once) = (
        steps(tmp_path / str(graph), training__cuda_graph=graph, **settings) for graph in (False, True)
    )
    assert recorded._computed._recordings
    np.testing.assert_allclose(at_once, one_by_one, rtol=0.02)
    torch.testing.assert_close(weights(recorded), weights(plain), rtol=0.05, atol=0.01)


def test_a_recorded_iteration_draws_other_random_numbers_every_time(tmp_path):
    _, objectives = steps(tmp_path, model__dropout=0.5, training__learning_rate=1e-12)
    assert len(set(objectives[5:])) > 1


@pytest.mark.parametrize("why", ["waits", "memory in a network", "memory in the loss"])
def test_an_iteration_that_cannot_be_recorded_is_computed_as_usual_and_training_goes_on(tmp_path, monkeypatch, why):
    told = []
    config = tiny_config(training__iterations=8, model__dropout=0.3, training__cross__noisy_passes=1)
    trainer = make_trainer(tmp_path, config)
    trainer.listener = told.append
    losses, network = trainer.losses, trainer.model.networks[1].forward

    def spoilt(*inputs):
        found = (network if why == "memory in a network" else losses)(*inputs)
        if torch.cuda.is_current_stream_capturing():
            if why != "waits":
                raise torch.cuda.OutOfMemoryError(why)
            found[0].supervised.item()
        return found

    where = trainer.model.networks[1] if why == "memory in a network" else trainer
    monkeypatch.setattr(where, "losses" if where is trainer else "forward", spoilt)
    trainer.run()
    assert trainer.state.iteration == 8
    (notice,) = [event for event in told if isinstance(event, Notice)]
    assert "cannot be recorded" in str(notice)
    assert not torch.cuda.is_current_stream_capturing()
    torch.rand(3, device=CUDA)  # the generator draws again, and memory is given back
    hold = torch.empty(2**26, device=CUDA)
    before = torch.cuda.memory_reserved()
    del hold
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < before


def move_there_and_back(trainer):
    trainer.model.place_on(torch.device("cpu"))
    hold = torch.empty(2**20, device=CUDA)  # so that they come to lie elsewhere
    trainer.model.place_on(CUDA)
    return hold


def test_weights_that_were_moved_are_recorded_again(tmp_path):
    trainer, _ = steps(tmp_path, 8)
    told = []
    trainer.listener = told.append
    first = id(next(iter(trainer._computed._recordings.values())).summary)
    hold = move_there_and_back(trainer)
    batch, before = trainer.batches.take().to(CUDA), weights(trainer)
    trainer.step(batch, 9)
    assert len(hold)
    assert not torch.equal(weights(trainer), before)
    assert not told
    (recording,) = trainer._computed._recordings.values()
    assert id(recording.summary) != first


@pytest.mark.parametrize("before", ["cpu", "cuda"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_run_goes_on_on_another_device(tmp_path, before, optimiser, norm):
    config = tiny_config(device=before, model__norm=norm, training__optimiser__kind=optimiser, training__iterations=6)
    control = RunControl()

    def stop(event):
        if isinstance(event, StepLogged) and event.iteration == 3:
            control.stop()

    pipeline.train([ball_case()], tmp_path, config, control=control, listener=stop)
    after = {"cpu": "cuda", "cuda": "cpu"}[before]
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace(f"device: {before}", f"device: {after}"))
    result = pipeline.resume(tmp_path)
    assert (result.reason, result.iteration) == (FinishReason.COMPLETED, 6)


def test_the_networks_compute_what_they_compute_on_a_processor():
    model = TripleViewModel(3, tiny_config(model__norm="instance").model)
    shape = (16, 24, 16)
    inputs = NetworkInput(torch.rand(2, *shape), torch.full((2, 3, *shape), 1 / 3), torch.rand(2, 1, *shape))
    on_processor = model(inputs)
    model.place_on(CUDA)
    on_card = model(NetworkInput(*(part.to(CUDA) for part in inputs))).cpu()
    torch.testing.assert_close(on_card, on_processor, rtol=0.02, atol=0.02)  # TF32 in convolutions


def test_a_guided_run_trains_and_predicts(tmp_path, tiny_clip):
    config = guided(tiny_clip, device="cuda", training__iterations=8, training__learning_rate=0.02)
    result = pipeline.train([halves_case()], tmp_path / "run", config)
    assert result.reason is FinishReason.COMPLETED
    assert np.isfinite(pipeline.predict(tmp_path / "run", halves_case(), device="cuda").probability).all()


def take_what_is_free(held):
    """Take what PyTorch may still give away of the card, in small and in larger pieces."""
    for piece in (2**22, 2**20):
        with suppress(torch.cuda.OutOfMemoryError):
            while True:
                held.append(torch.empty(piece, dtype=torch.uint8, device=CUDA))


@pytest.fixture
def little_memory():
    """Leave this process as much of the card as a function is called with, in bytes, beside what it holds."""
    held = []

    def leave(free):
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(CUDA).total_memory
        torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
        take_what_is_free(held)
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + free) / total)

    yield leave
    held.clear()
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_training_steps_down_when_the_card_is_full_and_goes_on(tmp_path, little_memory):
    config = tiny_config(
        device="cuda",
        model__filters=16,
        training__patch=[64, 64, 64],
        training__labelled_patches=2,
        training__unlabelled_patches=2,
    )
    little_memory(150 * 2**20)
    told = []
    result = pipeline.train([ball_case()], tmp_path / "run", config, listener=told.append)
    assert (result.reason, result.iteration) == (FinishReason.COMPLETED, 4)
    assert [str(event) for event in told if isinstance(event, Notice)]


def test_prediction_steps_down_when_the_card_is_full_and_the_model_comes_back(little_memory):
    config = tiny_config(model__filters=16)
    model = TripleViewModel(2, config.model).place_on(CUDA)
    image = np.random.default_rng(0).random((48, 48, 48), dtype=np.float32)
    volume, told = blank_prior(image, 2), []
    wanted = predicted_softmax(model, volume, (48, 48, 48), config.inference, RunControl())
    little_memory(2 * 2**20)
    found = predicted_softmax(model, volume, (48, 48, 48), config.inference, RunControl(), on_shortage=told.append)
    assert told
    assert next(model.parameters()).device.type == "cuda"
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-3)


@pytest.mark.parametrize("recorded", [False, True])
def test_what_a_run_needs_is_estimated_for_the_card(tmp_path, recorded):
    config = tiny_config(device="cuda", training__cuda_graph=recorded, training__iterations=30)
    found = preflight([ball_case()], config)
    assert found.memory.device.startswith("cuda")
    trainer = make_trainer(tmp_path, config)
    trainer.run()
    assert 0.1 < found.seconds / trainer.state.elapsed_s < 10


def test_a_run_gives_the_card_back(tmp_path):
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    pipeline.train([ball_case()], tmp_path / "run", tiny_config(device="cuda", training__iterations=8))
    assert torch.cuda.memory_reserved() <= before + 2**25
