"""Pre-training: it learns, it resumes bit for bit, it writes what the propagation reads."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_rada import durable
from napari_rada.cli import main
from napari_rada.control import RunControl
from napari_rada.errors import ConfigError, InputError, NotEnoughMemoryError
from napari_rada.events import Stage, StageProgress
from napari_rada.models.completer import CUES, load_completer, read_provenance
from napari_rada.pretraining.examples import Example, draw_slices, make_example
from napari_rada.pretraining.run import pretrain
from napari_rada.pretraining.trainer import PretrainConfig, Pretrainer, completion_loss, make_pair

TINY = PretrainConfig(steps=4, widths=(4, 6), pool=2, warmup=1, max_voxels=4096, checks=1, check_every=2)


def weights_of(trainer: Pretrainer) -> list[torch.Tensor]:
    return list(trainer.average.state_dict().values())


def small_example(seed: int = 0) -> Example:
    return make_example(np.random.default_rng(seed), max_voxels=4096, margin=0.25)


def test_an_example_has_cues_and_truth_on_one_small_grid():
    example = small_example()
    assert example.cues.shape == (len(CUES), *example.share.shape)
    assert example.share.size <= 4096
    assert 0 <= example.share.min() < 0.5 < example.share.max() <= 1


def test_slices_are_drawn_through_the_structure_on_at_least_two_axes():
    mask = np.zeros((30, 30, 30), bool)
    mask[8:20, 10:25, 5:15] = True
    for seed in range(30):
        slices = draw_slices(np.random.default_rng(seed), mask)
        assert len({plane.axis for plane in slices}) >= 2
        assert all(mask[plane.selector()].any() for plane in slices)


def test_a_pair_is_brought_to_one_shape_and_what_is_added_counts_nothing():
    first, second = small_example(0), small_example(1)
    cues, share, inside = make_pair(first, second, np.random.default_rng(0))
    assert cues.shape[0] == share.shape[0] == inside.shape[0] == 2
    assert [int(one.sum()) for one in inside] == [first.share.size, second.share.size]
    logits = torch.randn_like(share)
    assert completion_loss(logits, share, inside) == completion_loss(
        torch.where(inside, logits, 9.0), torch.where(inside, share, 0.3), inside
    )


def test_the_loss_is_zero_for_the_truth_and_one_half_of_each_part_else():
    share = torch.zeros(1, 4, 4, 4)
    share[:, :2] = 1.0
    inside = torch.ones_like(share, dtype=torch.bool)
    assert completion_loss(200.0 * (share - 0.5), share, inside) == pytest.approx(0.0, abs=1e-6)
    # undecided everywhere: entropy ln 2, soft Dice (2 * 16 + 1) / (32 + 32 + 1)
    undecided = np.log(2) + 0.1 * (1 - 33 / 65)
    assert completion_loss(torch.zeros_like(share), share, inside) == pytest.approx(undecided, abs=1e-6)


def test_it_learns_one_example_by_heart():
    trainer = Pretrainer(replace(TINY, steps=100, learning_rate=3e-2))
    drawn = small_example(2)
    cues = drawn.cues.copy()
    cues[CUES.index("propagation")] = 0  # nothing to start from
    example = Example(cues, (drawn.share > 0.5).astype(np.float16))
    trainer._example = lambda number: example  # type: ignore[method-assign]
    losses = [trainer.train_step() for _ in range(100)]
    assert np.mean(losses[-5:]) < 0.25 * losses[0]


def test_stopped_and_resumed_it_ends_with_the_same_weights():
    whole = Pretrainer(TINY)
    assert whole.run(RunControl(), lambda progress: None)
    control = RunControl()
    half = Pretrainer(TINY)
    assert not half.run(control, lambda progress: control.stop())
    assert half.step == 2
    rest = Pretrainer(TINY, half.state_dict())
    assert rest.run(RunControl(), lambda progress: None)
    for one, other in zip(weights_of(whole), weights_of(rest), strict=True):
        assert torch.equal(one, other)
    assert [p.loss for p in whole.history] == [p.loss for p in rest.history]


@pytest.mark.parametrize("checks", [1, 3])
def test_a_check_that_a_stop_cut_off_is_made_up_for(checks):
    config, events, control = replace(TINY, checks=checks), [], RunControl()
    whole = Pretrainer(config)
    whole.run(RunControl(), lambda progress: None)

    def listen(event):
        if event == StageProgress(Stage.PREPARE, 1, checks, "scans to check on"):
            control.stop()

    half = Pretrainer(config)
    ended = half.run(control, lambda progress: None, listener=listen)
    assert ended == (checks == 1), "a single scan is over soon"
    rest = Pretrainer(config, half.state_dict())
    assert rest.run(RunControl(), lambda progress: None, listener=events.append)
    assert [progress[:-1] for progress in rest.history] == [progress[:-1] for progress in whole.history]
    assert StageProgress(Stage.PREPARE, 0, 2, "latest examples") in events, "which takes a while"


def test_after_the_last_step_nothing_is_left_but_a_check_that_was_cut_off():
    trainer = Pretrainer(TINY)
    trainer.run(RunControl(), lambda progress: None)
    complete = list(trainer.history)
    state = trainer.state_dict()
    assert Pretrainer(TINY, state).run(RunControl(), lambda progress: pytest.fail("it was checked"))
    cut_off = Pretrainer(TINY, {**state, "history": state["history"][:-1], "losses": [complete[-1].loss]})
    assert cut_off.run(RunControl(), lambda progress: None)
    assert cut_off.history == complete


@pytest.mark.parametrize("stop_at", [1, 3])
def test_stopped_between_two_checks_it_tells_the_same_losses(stop_at):
    whole = Pretrainer(TINY)
    whole.run(RunControl(), lambda progress: None)
    half = stopped_at(stop_at)
    rest = Pretrainer(TINY, half.state_dict())
    rest.run(RunControl(), lambda progress: None)
    assert [progress[:-1] for progress in rest.history] == [progress[:-1] for progress in whole.history]


def test_stopped_before_its_steps_are_planned_it_keeps_its_hours(monkeypatch):
    monkeypatch.setattr("napari_rada.pretraining.trainer.TIMED_STEPS", 2)
    rest = Pretrainer(TINY, stopped_at(1, hours=1e-9).state_dict())
    assert rest.run(RunControl(), lambda progress: None)
    assert rest.step == rest.steps == 3


def stopped_at(step, hours=None):
    """Train from the start, and stop after a step."""
    control, trainer = RunControl(), Pretrainer(TINY)
    train_step = trainer.train_step

    def watched():
        loss = train_step()
        if trainer.step == step:
            control.stop()
        return loss

    trainer.train_step = watched
    assert not trainer.run(control, lambda progress: None, hours)
    return trainer


def test_hours_become_steps():
    trainer = Pretrainer(replace(TINY, check_every=1000, checks=0))
    trainer.train_step = lambda: _count(trainer)  # type: ignore[method-assign]
    trainer._check = lambda *_: trainer.step  # type: ignore[assignment, method-assign, return-value]
    clock = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_rada.pretraining.trainer.time.monotonic", lambda: float(next(clock)))
        trainer.steps = 10**6
        trainer.run(RunControl(), lambda progress: None, hours=0.01)
    assert trainer.steps == trainer.step == 36  # one second a step


def _count(trainer: Pretrainer) -> float:
    trainer.step += 1
    return 0.0


def test_the_command_s_run_writes_weights_with_their_provenance(tmp_path):
    out = tmp_path / "weights.safetensors"
    assert pretrain(out, TINY, control=RunControl(), on_progress=lambda progress: None)
    assert load_completer(out).widths == TINY.widths
    provenance = read_provenance(out)
    assert provenance["steps"] == TINY.steps
    assert [entry["step"] for entry in provenance["history"]] == [2, 4]
    with pytest.raises(InputError, match="exists; choose another name, or resume"):
        pretrain(out, TINY, control=RunControl(), on_progress=lambda progress: None)


def test_a_name_is_needed():
    with pytest.raises(InputError, match="names no file"):
        pretrain(Path(""), TINY, control=RunControl(), on_progress=lambda progress: None)


def test_two_do_not_train_to_one_name(tmp_path):
    out, said = tmp_path / "weights.safetensors", []

    def on_progress(progress):
        out.with_name(out.name + ".state").rename(aside := tmp_path / "aside")
        with pytest.raises(InputError, match=r"in use by process .*; stop that one .* choose another name") as new:
            pretrain(out, TINY, control=RunControl(), on_progress=lambda progress: None)
        aside.rename(out.with_name(out.name + ".state"))
        with pytest.raises(InputError, match=r"is in use by process") as resumed:
            pretrain(out, TINY, resume=True, control=RunControl(), on_progress=lambda progress: None)
        said.extend([new, resumed])

    assert pretrain(out, TINY, control=RunControl(), on_progress=on_progress)
    assert len(said) == 4
    beside = tmp_path / "other.safetensors"
    assert pretrain(beside, TINY, control=RunControl(), on_progress=lambda progress: None)


class Full:
    """A file on a full disk."""

    def write(self, data):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("hours", [float("nan"), float("inf"), 0.0, -1.0])
@pytest.mark.parametrize("resume", [False, True])
def test_hours_that_are_no_time_are_refused(tmp_path, hours, resume):
    with pytest.raises(ConfigError, match=r"Training cannot last .* hours; give a number above 0\."):
        pretrain(
            tmp_path / "weights.safetensors",
            TINY,
            hours=hours,
            resume=resume,
            control=RunControl(),
            on_progress=lambda progress: None,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [("--seed", "-1"), ("--seed", str(2**64)), ("--steps", "0"), ("--steps", "-3")]
    + [("--hours", hours) for hours in ("nan", "inf", "0", "-1")],
)
def test_the_command_refuses_what_it_cannot_do_in_one_line_and_writes_nothing(tmp_path, capsys, flags):
    assert main(["pretrain", "-o", str(tmp_path / "weights.safetensors"), *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_resuming_needs_a_state_that_is_ours(tmp_path):
    out = tmp_path / "weights.safetensors"
    with pytest.raises(InputError, match="to resume from"):
        pretrain(out, TINY, resume=True, control=RunControl(), on_progress=lambda progress: None)
    state = out.with_name(out.name + ".state")
    torch.save(Pretrainer(TINY).state_dict(), state)
    whole = state.read_bytes()
    flipped = bytes([*whole[:9000], whole[9000] ^ 1, *whole[9001:]])  # a bit of a weight
    for damaged in (b"junk", whole[: len(whole) // 2], flipped):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or not ours"):
            pretrain(out, TINY, resume=True, control=RunControl(), on_progress=lambda progress: None)


def test_a_shortage_of_memory_is_no_damaged_state(tmp_path, monkeypatch):
    out = tmp_path / "weights.safetensors"
    torch.save({}, out.with_name(out.name + ".state"))

    def short(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(NotEnoughMemoryError, match="close other programs, then go on with --resume"):
        pretrain(out, TINY, resume=True, control=RunControl(), on_progress=lambda progress: None)


def test_a_resumed_command_says_what_makes_no_difference(tmp_path, capsys, monkeypatch):
    out = tmp_path / "weights.safetensors"
    asked = []
    monkeypatch.setattr("napari_rada.cli.pretrain.pretrain", lambda *args, **kwargs: asked.append((args, kwargs)))
    assert main(["pretrain", "-o", str(out), "--resume", "--steps", "7", "--seed", "5"]) == 3
    told = "A resumed pre-training keeps its seed and length; --seed, --steps made no difference."
    assert told in capsys.readouterr().err
    main(["pretrain", "-o", str(out), "--resume"])
    assert "note" not in capsys.readouterr().err
    main(["pretrain", "-o", str(out)])
    assert [call[0][1] for call in asked] == [replace(PretrainConfig(), seed=5, steps=7), *[PretrainConfig()] * 2]


def test_a_killed_process_loses_no_more_than_was_done_since_the_state_was_saved(tmp_path, monkeypatch):
    """Also before the first check."""
    monkeypatch.setattr("napari_rada.pretraining.run.SAVE_S", 0.0)
    config = replace(TINY, check_every=4)
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def kill(event):
        if isinstance(event, StageProgress) and (event.stage, event.done) == (Stage.TRAIN, 3):
            raise SystemExit

    with pytest.raises(SystemExit):
        pretrain(killed, config, control=RunControl(), on_progress=lambda progress: None, listener=kill)
    assert torch.load(tmp_path / "killed.state", weights_only=True)["step"] == 3
    pretrain(killed, config, resume=True, control=RunControl(), on_progress=lambda progress: None)
    pretrain(whole, config, control=RunControl(), on_progress=lambda progress: None)
    states = [load_completer(path).state_dict() for path in (whole, killed)]
    assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())


def test_a_full_disk_is_one_sentence_and_keeps_the_state_before(tmp_path, monkeypatch):
    out = tmp_path / "weights.safetensors"
    state = out.with_name(out.name + ".state")
    kept, write = [], durable._Sink.write

    def full_after_the_first(self, data):
        if kept:
            self._file = Full()
        return write(self, data)

    monkeypatch.setattr(durable._Sink, "write", full_after_the_first)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); the state before is kept"):
        pretrain(out, TINY, control=RunControl(), on_progress=lambda progress: kept.append(state.read_bytes()))
    assert state.read_bytes() == kept[0]
    monkeypatch.undo()
    assert pretrain(out, TINY, resume=True, control=RunControl(), on_progress=lambda progress: None)


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    monkeypatch.setattr(Pretrainer, "run", None)
    with pytest.raises(InputError, match="not writable"):
        pretrain(tmp_path / "weights.safetensors", TINY, control=RunControl(), on_progress=lambda progress: None)
