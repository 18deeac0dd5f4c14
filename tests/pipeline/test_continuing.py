"""Continuing a run: from its weights, with another annotation, into a folder of its own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine import CENTRE, ball, ball_case, ball_image, tiny_config

from napari_rada import pipeline
from napari_rada.cli import main
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.errors import ConfigError, InputError, RunFolderError, Stopped
from napari_rada.events import CheckpointSaved, FinishReason, Stage, StageProgress, StepLogged, TrainingStarted
from napari_rada.io import load_case, save_labels, write_volume
from napari_rada.pipeline import continuing
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "run"
    pipeline.train([ball_case()], path, tiny_config())
    return path


def case_with_another_slice() -> Case:
    labels = ball()
    return Case.create(ball_image(labels), labels, slices=[*enumerate(CENTRE), (0, CENTRE[0] + 3)], name="ball")


def weights(path):
    return torch.cat([values.ravel().float() for values in load_checkpoint(path).model.values()])


def test_iterations_and_curve_go_on_and_the_old_run_stays(run, tmp_path):
    old = {file.name: file.read_bytes() for file in sorted(run.rglob("*")) if file.is_file()}
    events = []
    result = pipeline.continue_training(run, [case_with_another_slice()], tmp_path / "new", listener=events.append)
    assert result.reason is FinishReason.COMPLETED
    assert result.iteration == 8
    assert [e.first_iteration for e in events if isinstance(e, TrainingStarted)] == [5]
    assert [e.iteration for e in events if isinstance(e, StepLogged)] == [5, 6, 7, 8]
    folder = RunFolder.open(tmp_path / "new")
    assert [step.iteration for step in folder.steps()] == list(range(1, 9))
    assert [step.supervised for step in folder.steps()[:4]] == [s.supervised for s in RunFolder.open(run).steps()]
    assert [validation.iteration for validation in folder.validations()] == [2, 4, 6, 8]
    assert folder.parent() == (run.resolve(), 4)
    assert RunFolder.open(run).parent() is None
    assert old == {file.name: file.read_bytes() for file in sorted(run.rglob("*")) if file.is_file()}


def test_it_begins_with_the_old_weights_and_anew_with_the_schedules(run, tmp_path):
    control, steps = RunControl(), []

    def stop_at_start(event):
        if isinstance(event, TrainingStarted):
            control.stop()

    pipeline.continue_training(run, [ball_case()], tmp_path / "new", control=control, listener=stop_at_start)
    assert torch.equal(weights(run / "checkpoints/last.pt"), weights(tmp_path / "new/checkpoints/last.pt"))
    pipeline.continue_training(
        run,
        [ball_case()],
        tmp_path / "other",
        listener=lambda e: steps.append(e) if isinstance(e, StepLogged) else None,
    )
    first = RunFolder.open(run).steps()
    assert steps[0].learning_rate == pytest.approx(first[0].learning_rate, rel=1e-5)
    assert steps[0].beta == pytest.approx(first[0].beta, rel=1e-5)


def test_a_continued_run_predicts_resumes_and_is_continued(run, tmp_path):
    control = RunControl()

    def stop(event):
        if isinstance(event, StepLogged) and event.iteration == 6:
            control.stop()

    case = case_with_another_slice()
    pipeline.continue_training(run, [case], tmp_path / "new", control=control, listener=stop)
    assert pipeline.resume(tmp_path / "new").iteration == 8
    assert pipeline.continue_training(tmp_path / "new", [case], tmp_path / "newer").iteration == 12
    prediction = pipeline.predict(tmp_path / "newer", case, device="cpu")
    np.testing.assert_array_equal(prediction.mask[case.known], case.labels[case.known])


def test_one_that_was_stopped_while_propagating_is_resumed_from_the_old_weights(run, tmp_path):
    control = RunControl()

    def stop_at_propagation(event):
        if isinstance(event, StageProgress) and event.stage is Stage.PROPAGATE:
            control.stop()

    result = pipeline.continue_training(
        run, [ball_case()], tmp_path / "new", control=control, listener=stop_at_propagation
    )
    assert (result.reason, result.iteration) == (FinishReason.STOPPED, pipeline.resume(run).iteration)
    assert torch.equal(weights(run / "checkpoints/last.pt"), weights(tmp_path / "new/checkpoints/last.pt"))
    assert pipeline.resume(tmp_path / "new").iteration == 8


def test_minutes_count_from_where_it_goes_on(run, tmp_path):
    config = tiny_config(training__minutes=0.001, training__iterations=50)
    result = pipeline.continue_training(run, [ball_case()], tmp_path / "new", config)
    assert result.iteration == 4 + 6, "five timed iterations and one more"


def test_a_run_that_went_without_guidance_is_continued_without_asking_for_any(tmp_path):
    asked = tiny_config(guidance__source="region+text", training__iterations=2)
    pipeline.train([ball_case()], tmp_path / "run", asked)
    without = tiny_config(guidance__source="none", training__iterations=2)
    assert pipeline.continue_training(tmp_path / "run", [ball_case()], tmp_path / "new", without).iteration == 4


def test_what_cannot_be_continued_is_told(run, tmp_path):
    labels = ball() * 2
    other = Case.create(ball_image(ball()), labels, slices=list(enumerate(CENTRE)))
    with pytest.raises(InputError, match=r"the label values \[2\] are new, the run knows \[0, 1\]"):
        pipeline.continue_training(run, [other], tmp_path / "new")
    with pytest.raises(InputError, match=r"ball: the label values \[2\] are new, .*; give them the run's"):
        pipeline.predict(run, replace(other, name="ball"))
    with pytest.raises(ConfigError, match="built differently"):
        pipeline.continue_training(run, [ball_case()], tmp_path / "new", tiny_config(model__filters=8))
    with pytest.raises(RunFolderError, match="already holds a run"):
        pipeline.continue_training(run, [ball_case()], run)
    with pytest.raises(InputError, match="No case has annotated slices"):
        pipeline.continue_training(run, [ball_case(labelled=False)], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_value_that_the_run_calls_otherwise_is_refused(tmp_path):
    def named(name):
        return ClassTable((ClassInfo(0, "background"), ClassInfo(1, name)))

    case = ball_case()
    pipeline.train([replace(case, classes=named("liver"))], tmp_path / "run", tiny_config())
    with pytest.raises(InputError, match="ball calls the label value 1 'spleen' and the run calls it 'liver'; one val"):
        pipeline.continue_training(tmp_path / "run", [replace(case, classes=named("spleen"))], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for same in (case, replace(case, classes=named("Liver"))):
        assert continuing._with_classes(same, named("liver")).classes == named("liver")


def test_a_checkpoint_comes_on_request(tmp_path):
    control, saved = RunControl(), []

    def ask(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.request_checkpoint()
            control.request_checkpoint()
        if isinstance(event, CheckpointSaved):
            saved.append(event.iteration)

    config = tiny_config(training__checkpoint_seconds=1e6)
    pipeline.train([ball_case()], tmp_path / "run", config, control=control, listener=ask)
    assert saved == [2, 4], "once on request, once at the end"


def test_the_command_line_continues_a_run(run, tmp_path, capsys):
    labels = ball()
    case = ball_case()
    write_volume(tmp_path / "scan.nii.gz", ball_image(labels), case.grid)
    save_labels(load_case_like(tmp_path / "scan.nii.gz"), tmp_path / "labels.nii.gz")
    spec = f"{tmp_path / 'scan.nii.gz'},{tmp_path / 'labels.nii.gz'}"
    out = tmp_path / "new"
    assert main(["train", spec, "-o", str(out), "--continue", str(run), "--set", "training.iterations=3"]) == 0
    assert "completed after 7 iterations" in capsys.readouterr().out
    assert RunFolder.open(out).config().model == RunFolder.open(run).config().model


def load_case_like(path):
    case = load_case(path)
    return Case.create(case.image, ball(), slices=list(enumerate(CENTRE)), grid=case.grid, source=case.source)


def test_one_that_was_cut_off_before_it_was_a_run_can_be_started_again(run, tmp_path, monkeypatch):
    def cut_off(*_):
        raise Stopped

    monkeypatch.setattr(continuing, "save_snapshot", cut_off)
    monkeypatch.setattr(RunFolder, "undone_on_failure", nullcontext)  # as a killed process, which takes nothing back
    with pytest.raises(Stopped):
        pipeline.continue_training(run, [ball_case()], tmp_path / "new")
    monkeypatch.undo()
    assert not RunFolder(tmp_path / "new").is_run
    assert load_checkpoint(tmp_path / "new" / "checkpoints" / "last.pt").state.iteration > 0
    assert pipeline.continue_training(run, [ball_case()], tmp_path / "new").iteration == 8


def test_training_on_keeps_the_grid_of_the_run(tmp_path):
    cases = [ball_case("a"), ball_case("b", seed=1, labelled=False)]
    pipeline.train(cases, tmp_path / "run", tiny_config(data__max_voxels=6000))
    grid = RunFolder.open(tmp_path / "run").config().data.spacing
    assert grid == (1.0, 2.0, 2.0)
    wide = tiny_config(data__max_voxels=10**6)
    pipeline.continue_training(tmp_path / "run", cases, tmp_path / "next", wide)
    assert RunFolder.open(tmp_path / "next").config().data.spacing == grid
