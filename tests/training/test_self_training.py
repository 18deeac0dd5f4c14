"""Scans that nobody annotated teach as networks of a first half label them."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine import ball_case, overfitting_config, tiny_config

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.data.classes import UNKNOWN
from napari_rada.errors import ConfigError, InputError, NotEnoughMemoryError, RunFolderError
from napari_rada.events import FinishReason, Notice, RunFinished, Stage, StageProgress, StepLogged
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.pace import BUDGET_SHARE
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.self_training import after, halves, labelled_by
from napari_rada.training.team import Team
from napari_rada.training.trained import latest_trained
from napari_rada.training.validation import HeldOutScore
from napari_rada.training.volumes import Volume

CASES = ball_case("annotated"), ball_case("bare", seed=1, labelled=False)
HALF = 4


def config(**settings):
    return tiny_config(**{"model__completion": False, "training__self_training": True, **settings})


def weights(run):
    return load_checkpoint(run / "checkpoints" / "last.pt").model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stopped, and what it told."""
    path, events = tmp_path_factory.mktemp("run") / "run", []
    pipeline.train(CASES, path, config(), listener=events.append)
    return path, events


def test_the_second_half_begins_anew_with_what_the_first_has_labelled(whole, tmp_path):
    run, events = whole
    steps = [event for event in events if isinstance(event, StepLogged)]
    assert [step.iteration for step in steps] == list(range(1, 2 * HALF + 1))
    assert {step.total_iterations for step in steps} == {2 * HALF}
    assert events[-1] == RunFinished(FinishReason.COMPLETED, 2 * HALF)
    assert sum(isinstance(event, RunFinished) for event in events) == 1
    told = [event.message for event in events if isinstance(event, Notice)]
    assert "The networks labelled 1 scan without annotated slices; new networks learn from all." in told
    assert StageProgress(Stage.LABEL, 0, 1, "bare") in events
    assert load_checkpoint(run / "checkpoints" / "last.pt").state.taught_by_itself
    alone = tmp_path / "alone"
    pipeline.train(CASES, alone, config(training__unlabelled_patches=0))
    first, logged = ([step.supervised for step in RunFolder.open(path).steps()] for path in (alone, run))
    assert logged[:HALF] == first, "the first half knows the annotated scan alone"
    assert steps[HALF].learning_rate == steps[0].learning_rate, "schedules begin anew"


@pytest.mark.parametrize(("end", "kept"), [(0.85, 2 * HALF), (0.79, HALF)])
def test_networks_of_the_second_half_count_at_its_end_unless_they_are_far_behind(tmp_path, monkeypatch, end, kept):
    dice = iter([0.5, 0.6, 0.7, 0.86, 0.5, 0.6, 0.859, end])
    monkeypatch.setattr("napari_rada.training.trainer.score_held_out", lambda *_: HeldOutScore(next(dice), 0.5))
    pipeline.train(CASES, tmp_path, config(training__validate_every=1))
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt").state.iteration == kept


@pytest.mark.parametrize("when", ["first half", "its end", "labelling", "second half"])
def test_stopped_and_resumed_equals_never_stopped(whole, tmp_path, when):
    control, events = RunControl(), []

    def listen(event):
        events.append(event)
        step = event.iteration if isinstance(event, StepLogged) else 0
        labelling = isinstance(event, StageProgress) and event.stage is Stage.LABEL
        if {"first half": step == 2, "its end": step == HALF, "labelling": labelling, "second half": step == 6}[when]:
            control.stop()

    stopped = pipeline.train(CASES, tmp_path / "run", config(), control=control, listener=listen)
    assert stopped.reason is FinishReason.STOPPED
    assert events[-1] == RunFinished(FinishReason.STOPPED, stopped.iteration)
    resumed = pipeline.resume(tmp_path / "run")
    assert (resumed.reason, resumed.iteration) == (FinishReason.COMPLETED, 2 * HALF)
    for name, values in weights(whole[0]).items():
        assert torch.equal(values, weights(tmp_path / "run")[name]), name


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [(InputError("It is odd."), InputError, "It is odd."), (MemoryError(), NotEnoughMemoryError, "Memory ran out")],
)
def test_what_keeps_the_networks_from_labelling_is_in_the_log(tmp_path, monkeypatch, error, kind, told):
    def label(*_):
        raise error

    monkeypatch.setattr("napari_rada.training.job.labelled_by", label)
    with pytest.raises(kind, match=told):
        pipeline.train(CASES, tmp_path, config())
    last = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert f" failed: {told}" in last
    monkeypatch.undo()
    assert pipeline.resume(tmp_path).iteration == 2 * HALF


@pytest.mark.parametrize("said", [0, 1])
def test_new_networks_learn_what_the_teacher_says(tmp_path, monkeypatch, said):
    def label(model, volume, *_):
        shape = (3, *volume.image.shape)
        return replace(volume, pseudo=np.full(shape, said, np.int16), pseudo_distance=np.zeros(shape, np.float32))

    monkeypatch.setattr("napari_rada.training.job.labelled_by", label)
    bare = Case.create(np.random.default_rng(5).normal(5.0, 1.0, (16, 24, 24)).astype(np.float32), name="bare")
    learning = {"training__iterations": 30, "training__self_training": True, "training__unlabelled_patches": 1}
    pipeline.train([CASES[0], bare], tmp_path, overfitting_config(**learning, inference__largest_part=False))
    found = pipeline.predict(tmp_path, bare, weights="last").mask.mean()
    assert found < 0.1 if said == 0 else found > 0.5


def test_labels_are_what_the_networks_find_together_and_trusted_everywhere():
    image = np.random.default_rng(0).normal(size=(16, 16, 24)).astype(np.float32)
    nobody = np.full(image.shape, UNKNOWN, np.int16)
    volume = Volume(
        image, nobody, np.zeros(image.shape, np.uint8), None, None, None, None, {}, (1.0, 1.0, 1.0), "bare", False
    )
    settings = config(training__patch=[16, 16, 24])
    model = TripleViewModel(2, settings.model)
    found = labelled_by(model, volume, settings, RunControl())
    assert found.pseudo is not None
    assert found.pseudo_distance is not None
    assert found.pseudo.shape == found.pseudo_distance.shape == (3, *image.shape)
    assert (found.pseudo_distance == 0).all()
    assert set(np.unique(found.pseudo)) <= {0, 1}
    assert not found.is_labelled, "patches of it are still drawn as those of an unlabelled scan"
    one = labelled_by(model, volume, settings.with_settings({"inference.largest_part": True}), RunControl())
    assert one.pseudo is not None
    assert 0 < one.pseudo.sum() < found.pseudo.sum(), "noise has many parts"


def test_a_time_budget_is_shared_by_the_halves():
    first, second = halves(config(training__minutes=10))
    assert first.training.minutes == second.training.minutes == 5
    assert (first.training.unlabelled_patches, second.training.unlabelled_patches) == (0, 1)


@pytest.mark.parametrize(("on_labelled", "noisy", "cost"), [(True, 0, 3 / 2), (False, 3, 4 / 2), (True, 3, 3 / 2)])
def test_an_iteration_of_the_second_half_takes_as_long_as_its_patches(on_labelled, noisy, cost):
    crossing = {"training__cross__on_labelled": on_labelled, "training__cross__noisy_passes": noisy}
    left = after(*halves(config(training__labelled_patches=2, **crossing)))
    assert left.iterations == HALF
    assert left.cost == pytest.approx(cost)


def test_the_time_left_in_the_first_half_is_that_of_both(whole, tmp_path):
    steps = [event for event in whole[1] if isinstance(event, StepLogged)]
    each = steps[1].elapsed_s - steps[0].elapsed_s  # the first one loads
    assert steps[1].remaining_s == pytest.approx(each * (HALF - 2 + 2 * HALF)), "of two patches instead of one"
    assert steps[HALF - 1].remaining_s > 0 == steps[-1].remaining_s
    control, events = RunControl(), []

    def listen(event):
        events.append(event)
        if isinstance(event, StepLogged):
            control.stop()

    pipeline.train(CASES, tmp_path / "run", config(training__minutes=10), control=control, listener=listen)
    (step,) = (event for event in events if isinstance(event, StepLogged))
    assert step.remaining_s > 60 * 10 / 2, "the second half has its minutes, too"


def test_iterations_in_all_are_those_that_seem_to_fit_into_the_budgets_of_both_halves(tmp_path):
    control, steps = RunControl(), []

    def listen(event):
        if isinstance(event, StepLogged):
            steps.append(event)
            if event.iteration == 8:
                control.stop()

    settings = config(training__minutes=10, training__iterations=100_000)
    pipeline.train(CASES, tmp_path / "run", settings, control=control, listener=listen)
    assert 10 < steps[2].total_iterations < 100_000, "not those that a run without a budget would have"
    timed = steps[4]
    each = (timed.elapsed_s - steps[0].elapsed_s) / 4  # the first one loads
    first = timed.iteration + (BUDGET_SHARE * 300.0 - timed.elapsed_s) / each
    second = BUDGET_SHARE * 300.0 / (each * after(*halves(settings)).cost)
    assert timed.total_iterations == pytest.approx(first + second, abs=2)
    assert [step.total_iterations for step in steps[4:]] == [timed.total_iterations] * 4, "planned once"
    assert all(step.estimated for step in steps), "the second half is not planned"


def test_where_all_scans_are_annotated_there_is_one_half(tmp_path):
    assert pipeline.train([CASES[0], ball_case("other", seed=2)], tmp_path, config()).iteration == HALF
    assert not (tmp_path / "checkpoints" / "teacher.pt").exists()


def test_every_process_has_a_patch_in_the_first_half_too(tmp_path):
    class Two(Team):
        size = 2

    with pytest.raises(ConfigError, match="2 processes for 1 patches"):
        pipeline.train(CASES, tmp_path / "run", config(), team=Two())


def test_networks_can_teach_each_other_from_the_start_instead(tmp_path):
    ran = pipeline.train(CASES, tmp_path / "run", config(training__self_training=False))
    assert ran.iteration == HALF
    assert not (tmp_path / "run" / "checkpoints" / "teacher.pt").exists()


def test_networks_that_began_anew_and_are_not_done_are_not_those_of_a_run(tmp_path):
    image = CASES[0].image
    one_view = Case.create(image, (image > 0.5).astype(np.uint8), slices=[(0, 10)], name="annotated")
    control = RunControl()

    def stop_while_labelling(event):
        if isinstance(event, StageProgress) and event.stage is Stage.LABEL:
            control.stop()

    run = tmp_path / "run"
    pipeline.train([one_view, CASES[1]], run, config(), control=control, listener=stop_while_labelling)
    assert not (run / "checkpoints" / "best.pt").exists(), "of a single view nothing can be held out"
    teacher = load_checkpoint(run / "checkpoints" / "teacher.pt").model
    found = latest_trained(RunFolder.open(run)).model
    assert all(torch.equal(found[name], values) for name, values in teacher.items())
    started = pipeline.predict(run, CASES[1]).probability
    assert not np.array_equal(started, pipeline.predict(run, CASES[1], weights="last").probability)
    stopped = RunControl()
    stopped.stop()
    pipeline.continue_training(run, one_view, tmp_path / "on", control=stopped)
    assert np.array_equal(started, pipeline.predict(tmp_path / "on", CASES[1]).probability), "nothing was learned yet"
    pipeline.resume(run)
    done = pipeline.predict(run, CASES[1])
    assert np.array_equal(done.probability, pipeline.predict(run, CASES[1], weights="last").probability)
    assert np.array_equal(started, pipeline.predict(run, CASES[1], weights="teacher").probability)


def test_networks_that_labelled_nothing_cannot_be_asked(tmp_path):
    pipeline.train(CASES, tmp_path, config(training__self_training=False))
    with pytest.raises(InputError, match=r"no networks of this run labelled scans; ask for its best or last"):
        pipeline.predict(tmp_path, CASES[1], weights="teacher")


@pytest.mark.parametrize("damaged", [False, True])
def test_networks_that_labelled_and_are_lost_are_told_and_not_needed_at_the_end(whole, tmp_path, damaged):
    control = RunControl()
    pipeline.train(
        CASES,
        tmp_path / "run",
        config(),
        control=control,
        listener=lambda event: control.stop() if isinstance(event, StepLogged) and event.iteration == 6 else None,
    )
    ended = tmp_path / "ended"
    shutil.copytree(whole[0], ended)
    for run in (tmp_path / "run", ended):
        teacher = run / "checkpoints" / "teacher.pt"
        teacher.write_bytes(b"lost") if damaged else teacher.unlink()
    with pytest.raises(RunFolderError, match=r"teacher\.pt is .*; restore it from a copy, or .*continue the run"):
        pipeline.resume(tmp_path / "run")
    told = []
    assert pipeline.resume(ended, listener=told.append).iteration == 2 * HALF
    assert not any(isinstance(event, StageProgress) and event.stage is Stage.LABEL for event in told)
