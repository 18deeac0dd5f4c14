import csv
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine import ball, ball_case, fully_annotated, overfitting_config, tiny_config

from napari_rada.config import RunConfig
from napari_rada.control import RunControl
from napari_rada.data.case import check_trainable
from napari_rada.data.classes import UNKNOWN
from napari_rada.data.working import make_working_case
from napari_rada.errors import RadaError, RunFolderError
from napari_rada.events import (
    CheckpointSaved,
    FinishReason,
    Paused,
    Resumed,
    StepLogged,
    TrainingStarted,
    Validated,
)
from napari_rada.inference.sliding import VolumeInput, predicted_softmax
from napari_rada.propagation import make_propagator
from napari_rada.training import trainer as trainer_module
from napari_rada.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from napari_rada.training.economy import Economy
from napari_rada.training.losses import entropy
from napari_rada.training.objective import Knobs
from napari_rada.training.run_folder import LOSS_COLUMNS, RunFolder
from napari_rada.training.trainer import TIMED_ITERATIONS, Trainer
from napari_rada.training.volumes import make_volume

CPU = torch.device("cpu")


def training_volume(config, case):
    working = make_working_case(case, check_trainable([case]))
    pseudo = make_propagator(config.propagation).propagate(
        working, held_out=True, control=RunControl(), on_progress=lambda done, total: None
    )
    return make_volume(working, pseudo, config.training.view_pairs, model=config.model)


def make_trainer(path, config, control=None, listener=lambda event: None, checkpoint=None, case=None, **further):
    folder = RunFolder.open(path) if checkpoint else RunFolder.create(path, config)
    volume = training_volume(config, case or ball_case())
    return Trainer([volume], 2, config, folder, CPU, control or RunControl(), listener, checkpoint, **further)


def weights(trainer):
    return torch.cat([parameter.detach().ravel() for parameter in trainer.model.parameters()])


def test_the_networks_learn_a_tiny_volume_from_the_image_alone(tmp_path):
    """Overfitting without help: every slice annotated, no propagation as input."""
    config = overfitting_config()
    trainer = make_trainer(tmp_path, config, case=fully_annotated())
    assert trainer.run() is FinishReason.COMPLETED
    image = trainer.volumes[0].image
    blank = VolumeInput(image, np.full((2, *image.shape), 0.5, np.float32), np.zeros_like(image[None]))
    softmax = predicted_softmax(trainer.model, blank, config.training.patch, config.inference, RunControl())
    truth = ball() > 0
    for network in softmax:
        mask = network.argmax(axis=0) > 0
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert dice > 0.95


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
@pytest.mark.parametrize("noisy_passes", [0, 2])
def test_networks_teach_each_other_on_labelled_patches_if_asked_to(tmp_path, noisy_passes, architecture):
    config = tiny_config(
        model__architecture=architecture,
        training__iterations=2,
        training__labelled_patches=2,
        training__unlabelled_patches=0,
        training__cross__on_labelled=True,
        training__cross__schedule="constant",
        training__cross__noisy_passes=noisy_passes,
        training__learning_rate=1e-3,
    )
    events = []
    trainer = make_trainer(tmp_path, config, listener=events.append)
    assert trainer.run() is FinishReason.COMPLETED
    steps = [event for event in events if isinstance(event, StepLogged)]
    assert len(steps) == 2
    assert all(np.isfinite(step.cross).all() and min(step.cross) > 0 and step.beta > 0 for step in steps)
    written = RunFolder.open(tmp_path).steps()
    np.testing.assert_allclose([step.cross for step in written], [step.cross for step in steps], rtol=1e-4)


def test_a_run_made_before_a_setting_existed_goes_on_without_it(tmp_path):
    config = RunConfig.from_preset("quick")
    folder = RunFolder.create(tmp_path, config)
    kept = [line for line in folder.config_file.read_text().splitlines() if "aligned" not in line]
    folder.config_file.write_text("\n".join(kept))
    assert config.data.aligned
    assert folder.config() == config.with_settings({"data.aligned": False})


def test_without_unlabelled_patches_networks_teach_each_other_nothing_unless_asked_to(tmp_path):
    events = []
    config = tiny_config(training__labelled_patches=2, training__unlabelled_patches=0)
    make_trainer(tmp_path, config, listener=events.append).run()
    assert all(step.cross == (0.0, 0.0, 0.0) for step in events if isinstance(step, StepLogged))


def test_the_uncertainty_of_labelled_patches_is_that_of_their_noisy_outputs(tmp_path):
    config = tiny_config(
        training__labelled_patches=2, training__cross__on_labelled=True, training__cross__noisy_passes=3
    )
    trainer, seen = make_trainer(tmp_path, config), []
    for network in trainer.model.networks:
        torch.nn.init.normal_(network.vnet.head.weight, generator=torch.Generator().manual_seed(1))
    trainer.model.register_forward_hook(lambda model, inputs, outputs: seen.append((inputs[0], outputs.detach())))
    batch, knobs = trainer.sampler.batch(2, 1), Knobs(alpha=0.9, beta=0.1, threshold=10.0, pseudo_weight=1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainer.losses(batch, knobs)
        (clean, logits), *noisy = seen
        assert torch.equal(clean.image_BDHW, batch.image_BDHW)
        assert [len(inputs.image_BDHW) for inputs, _ in noisy] == [3, 3, 3]
        assert all(0.1 < (inputs.image_BDHW - clean.image_BDHW).abs().max() < 0.2001 for inputs, _ in noisy)
        teacher = torch.stack([torch.softmax(outputs[0], dim=1) for _, outputs in noisy]).mean(dim=0)
        uncertainty, unknown = entropy(teacher), batch.truth_BDHW == UNKNOWN
        threshold = float(uncertainty[unknown].median())
        torch.manual_seed(0)
        losses = trainer.losses(batch, knobs._replace(threshold=threshold))
    voxels = logits.movedim(2, -1)[:, unknown & (uncertainty < threshold)]
    expected = torch.nn.functional.cross_entropy(voxels[2], voxels[0].argmax(1))
    torch.testing.assert_close(losses[2].cross[0], expected, rtol=1e-3, atol=1e-3)


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(tmp_path):
    first, second, other = (
        make_trainer(tmp_path / name, tiny_config(seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    for trainer in (first, second, other):
        trainer.run()
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_training_leaves_the_global_random_state_alone(tmp_path):
    before = torch.get_rng_state()
    make_trainer(tmp_path, tiny_config()).run()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, optimiser):
    config = tiny_config(
        training__iterations=6, model__dropout=0.3, training__cross__noisy_passes=2, training__optimiser__kind=optimiser
    )
    whole = make_trainer(tmp_path / "whole", config)
    whole.run()

    control = RunControl()

    def stop_after_three(event):
        if isinstance(event, StepLogged) and event.iteration == 3:
            control.stop()

    interrupted = make_trainer(tmp_path / "parts", config, control, stop_after_three)
    assert interrupted.run() is FinishReason.STOPPED
    assert interrupted.state.iteration == 3
    checkpoint = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    resumed = make_trainer(tmp_path / "parts", config, checkpoint=checkpoint)
    assert resumed.run() is FinishReason.COMPLETED
    assert torch.equal(weights(whole), weights(resumed))
    rows = [list(csv.reader((tmp_path / name / "losses.csv").read_text().splitlines())) for name in ("whole", "parts")]
    assert [row[:-1] for row in rows[0]] == [row[:-1] for row in rows[1]]


def test_events_tell_the_whole_story(tmp_path):
    events = []
    make_trainer(tmp_path, tiny_config(), listener=events.append).run()
    assert isinstance(events[0], TrainingStarted)
    assert events[0].first_iteration == 1
    steps = [event for event in events if isinstance(event, StepLogged)]
    assert [step.iteration for step in steps] == [1, 2, 3, 4]
    assert all(len(step.supervised) == len(step.cross) == 3 for step in steps)
    assert steps[-1].remaining_s == 0
    validations = [event for event in events if isinstance(event, Validated)]
    assert [event.iteration for event in validations] == [2, 4]
    assert all(0 < event.dice <= 1 and 0 < event.propagation_dice <= 1 for event in validations)
    assert isinstance(events[-1], CheckpointSaved)
    with (tmp_path / "losses.csv").open() as file:
        header, *rows = list(csv.reader(file))
    assert tuple(header) == LOSS_COLUMNS
    assert len(rows) == 4
    assert (tmp_path / "checkpoints" / "best.pt").is_file()


def test_a_stop_before_the_start_trains_nothing_and_leaves_a_checkpoint(tmp_path):
    control = RunControl()
    control.stop()
    trainer = make_trainer(tmp_path, tiny_config(), control)
    assert trainer.run() is FinishReason.STOPPED
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt").state.iteration == 0


def test_a_paused_run_saves_waits_and_goes_on(tmp_path):
    control, events, waiting = RunControl(), [], threading.Event()

    def listen(event):
        events.append(event)
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.pause()
        if isinstance(event, Paused):
            waiting.set()

    trainer = make_trainer(tmp_path, tiny_config(), control, listen)
    thread = threading.Thread(target=trainer.run)
    thread.start()
    assert waiting.wait(30)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt").state.iteration == 2
    assert thread.is_alive()
    control.resume()
    thread.join(30)
    assert not thread.is_alive()
    assert Paused(2) in events
    assert Resumed(2) in events
    assert [event.iteration for event in events if isinstance(event, StepLogged)] == [1, 2, 3, 4]


def test_a_stop_wakes_a_paused_run(tmp_path):
    control = RunControl()
    control.pause()

    def listen(event):
        if isinstance(event, Paused):
            control.stop()

    assert make_trainer(tmp_path, tiny_config(), control, listen).run() is FinishReason.STOPPED


def test_a_loss_that_is_not_finite_changes_no_weight(tmp_path):
    trainer = make_trainer(tmp_path, tiny_config())
    batch = trainer.batches.take().to(torch.device("cpu"))
    before = weights(trainer)
    where = r"loss became nan in iteration 1, on the patches ball from \(\d+, \d+, \d+\); ball .*; "
    told = where + "continue the run in a new folder, or start a new one if it has no checkpoint yet, with a lower"
    with pytest.raises(RadaError, match=told):
        trainer.step(batch._replace(image_BDHW=torch.full_like(batch.image_BDHW, torch.nan)), 1)
    assert torch.equal(before, weights(trainer))


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    trainer = make_trainer(tmp_path, tiny_config())
    before = weights(trainer)
    next(trainer.model.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(RadaError, match=r"gradient became (nan|inf) in iteration 1, on the patches ball"):
        trainer.run()
    assert torch.equal(before, weights(trainer))


def test_weights_that_are_not_finite_leave_the_last_good_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path, tiny_config())
    path = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(path, TrainState(1, 4), trainer.model)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(torch.nan)
    with pytest.raises(RunFolderError, match="weights after iteration 2 are not finite and were not saved"):
        save_checkpoint(path, TrainState(2, 4), trainer.model)
    assert load_checkpoint(path).state.iteration == 1


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
def test_thin_patches_are_trained_on_as_well_in_bfloat16(tmp_path, architecture):
    """The gradient must not depend on what lay in memory before; see `learns_in_bfloat16`."""
    config = tiny_config(
        model__architecture=architecture, model__blocks=[1, 1, 1, 1], training__bfloat16=True, training__iterations=2
    )
    economy, found = Economy(autocast=True), []
    for number in range(4):
        trainer = make_trainer(tmp_path / str(number), config, economy=economy)
        for size in (100, 1000, 3000, 10_000, 30_000, 100_000):
            _ = [torch.full((size,), torch.nan) for _ in range(20)]
        trainer.run()
        found.append(weights(trainer))
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_a_time_budget_sets_the_number_of_iterations(tmp_path):
    config = tiny_config(training__minutes=0.02, training__iterations=100_000, training__validate_every=100_000)
    events = []
    trainer = make_trainer(tmp_path, config, listener=events.append)
    trainer.run()
    total = trainer.state.total_iterations
    assert TIMED_ITERATIONS < total < 100_000
    assert trainer.state.iteration == total
    assert events[0].total_iterations is None, "nobody knows yet"
    steps = [event for event in events if isinstance(event, StepLogged)]
    assert [step.estimated for step in steps] == [step.iteration <= TIMED_ITERATIONS for step in steps]
    assert {step.total_iterations for step in steps if not step.estimated} == {total}


def stops(control, event):
    if isinstance(event, StepLogged) and event.iteration > TIMED_ITERATIONS + 3:
        control.stop()


def test_a_time_budget_counts_where_a_run_was_stopped_before_it_was_planned(tmp_path):
    """On a card more iterations go by first than on a processor, on which the run may go on."""
    config = tiny_config(training__minutes=0.02, training__iterations=100_000, training__validate_every=100_000)
    control = RunControl()
    stopped = make_trainer(tmp_path, config, control, lambda event: stops(control, event))
    stopped._timed = TIMED_ITERATIONS + 20
    stopped.run()
    state = load_checkpoint(stopped.folder.last_checkpoint).state
    assert not state.planned
    assert state.iteration < TIMED_ITERATIONS + 20
    resumed = make_trainer(tmp_path, config, checkpoint=load_checkpoint(stopped.folder.last_checkpoint))
    resumed.run()
    assert resumed.state.planned
    assert resumed.state.iteration == resumed.state.total_iterations < 100_000


def test_a_run_that_did_not_note_that_it_was_planned_is_not_planned_anew(tmp_path):
    config = tiny_config(training__minutes=0.02, training__iterations=100_000, training__validate_every=100_000)
    trainer = make_trainer(tmp_path, config)
    trainer.run()
    checkpoint = load_checkpoint(trainer.folder.last_checkpoint)
    checkpoint = replace(checkpoint, state=replace(checkpoint.state, planned=None))
    resumed = make_trainer(tmp_path, config, checkpoint=checkpoint)
    assert resumed.state.total_iterations == trainer.state.total_iterations
    assert resumed.run() is FinishReason.COMPLETED
    assert resumed.state.iteration == trainer.state.iteration


def test_a_time_budget_counts_however_few_iterations_are_set(tmp_path):
    config = tiny_config(training__minutes=0.01, training__iterations=2, training__validate_every=100_000)
    trainer = make_trainer(tmp_path, config)
    trainer.run()
    assert trainer.state.iteration == trainer.state.total_iterations > TIMED_ITERATIONS


def test_checkpoints_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(RunFolderError, match="There is no checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(RunFolderError, match="damaged or not ours"):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(RunFolderError, match="has format 99; this version reads format 1"):
        load_checkpoint(path)
    torch.save({"format": 1, "state": {}}, path)
    with pytest.raises(RunFolderError, match="incomplete"):
        load_checkpoint(path)


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_checkpoint_never_runs_code(tmp_path, capsys):
    torch.save({"format": 1, "state": Malicious()}, tmp_path / "last.pt")
    with pytest.raises(RunFolderError, match="damaged or not ours"):
        load_checkpoint(tmp_path / "last.pt")
    assert "code ran" not in capsys.readouterr().out


def test_a_checkpoint_is_never_half_written(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, tiny_config())
    path = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(path, TrainState(1, 4), trainer.model)

    def full_disk(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(RunFolderError, match=r"last\.pt cannot be written \(No space left on device\); what the run"):
        save_checkpoint(path, replace(TrainState(1, 4), iteration=2), trainer.model)
    assert load_checkpoint(path).state.iteration == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_damage_that_torch_does_not_notice_is_noticed(tmp_path):
    trainer = make_trainer(tmp_path, tiny_config())
    path = tmp_path / "last.pt"
    save_checkpoint(path, TrainState(1, 4), trainer.model)
    content = bytearray(path.read_bytes())
    where = content.index(bytes(next(trainer.model.parameters()).untyped_storage()))
    content[where + 5] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # torch itself is content
    with pytest.raises(RunFolderError, match="damaged or not ours"):
        load_checkpoint(path)


def test_a_validation_that_a_stop_cut_off_is_made_up_for(tmp_path, monkeypatch):
    config = tiny_config(training__iterations=4, training__validate_every=2)
    whole = make_trainer(tmp_path / "whole", config)
    whole.run()
    validated = trainer_module.score_held_out

    def cut_off(model, volumes, config, control, team):
        if parts.state.iteration == 4:
            control.stop()
        control.check()
        return validated(model, volumes, config, control, team)

    monkeypatch.setattr(trainer_module, "score_held_out", cut_off)
    parts = make_trainer(tmp_path / "parts", config)
    assert parts.run() is FinishReason.STOPPED
    monkeypatch.undo()
    checkpoint = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    assert checkpoint.state.iteration == 4
    assert make_trainer(tmp_path / "parts", config, checkpoint=checkpoint).run() is FinishReason.COMPLETED
    tables = [(tmp_path / name / "validation.csv").read_text() for name in ("whole", "parts")]
    assert tables[0] == tables[1]
    best = [load_checkpoint(tmp_path / name / "checkpoints" / "best.pt").state for name in ("whole", "parts")]
    assert best[0].best_dice == best[1].best_dice
