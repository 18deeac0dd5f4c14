"""Training, resuming, and what a run folder keeps of both."""

import csv
import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.engine import CENTRE, ball, ball_case, ball_image, dice, tiny_config

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.errors import ConfigError, InputError, MissingDependencyError, RunFolderError
from napari_rada.events import FinishReason, Notice, StepLogged
from napari_rada.pipeline import training
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import load_cases


@contextmanager
def double():
    """Compute in double precision unless something else is said."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_slips_of_painting_are_told_once_by_whatever_uses_the_annotation(tmp_path, monkeypatch):
    case = ball_case()
    labels = case.labels.copy()
    labels[CENTRE[0]] &= ball(radius=5.0)[CENTRE[0]] ^ 1
    outlined, config, run = replace(case, labels=labels), tiny_config(training__iterations=1), tmp_path / "run"

    def told(use, *what):
        events = []
        use(*what, listener=events.append)
        return [event.message.split(";")[0] for event in events if isinstance(event, Notice)]

    slip = ["ball: label 1 is a closed outline in axial slice 10"]
    assert told(pipeline.propagate, outlined, config) == slip
    assert told(pipeline.train, [outlined], run, config) == slip
    predict = partial(pipeline.predict, run, device="cpu")
    assert told(predict, outlined) == slip
    assert told(predict, ball_case(labelled=False)) == []
    assert told(pipeline.propagate, case, config) == []
    monkeypatch.setattr("napari_rada.data.slips.USUAL", 0)
    many = "ball: 1 structures are annotated, one for each label value, and every one takes time of its own"
    assert told(pipeline.propagate, outlined, config) == [many, *slip]
    assert told(pipeline.train, [outlined], tmp_path / "other", config) == [many, *slip]
    assert told(predict, outlined) == [many, *slip]


@pytest.mark.parametrize(("patches", "taught"), [(0, ["a"]), (1, ["a", "b", "c"])])
def test_scans_without_labels_are_left_out_unless_the_networks_are_to_learn_there(tmp_path, patches, taught):
    cases = [ball_case("a"), ball_case("b", seed=1, labelled=False), ball_case("c", seed=2, labelled=False)]
    config, told = tiny_config(training__unlabelled_patches=patches, training__labelled_patches=2), []
    pipeline.train(cases, tmp_path / "run", config, listener=told.append)
    pipeline.continue_training(tmp_path / "run", cases, tmp_path / "next", config, listener=told.append)
    told = [event.message for event in told if isinstance(event, Notice) and "left out" in event.message]
    left_out = (
        "2 scans without annotated slices are left out of training; the preset standard, or "
        "training.unlabelled_patches=1, makes networks learn there, too."
    )
    assert told == [left_out, left_out] * (patches == 0)
    for name in ("run", "next"):
        folder = RunFolder.open(tmp_path / name)
        assert [case.name for case in load_cases(folder, folder.config())] == taught
        assert not folder.config().model.completion


@pytest.mark.parametrize("augment", ["flips", "deform"])
def test_stopped_and_resumed_equals_never_stopped(tmp_path, augment):
    config = tiny_config(training__iterations=5, training__augment=augment, training__bfloat16=augment == "deform")
    whole = pipeline.train([ball_case()], tmp_path / "whole", config)
    control = RunControl()

    def stop_after_two(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    stopped = pipeline.train([ball_case()], tmp_path / "parts", config, control=control, listener=stop_after_two)
    assert (stopped.reason, stopped.iteration) == (FinishReason.STOPPED, 2)
    resumed = pipeline.resume(tmp_path / "parts")
    assert (resumed.reason, resumed.iteration) == (FinishReason.COMPLETED, 5)
    assert resumed.dice == whole.dice
    models = [load_checkpoint(tmp_path / name / "checkpoints" / "last.pt").model for name in ("whole", "parts")]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_arrays_are_resumed_on_the_voxels_that_they_had(tmp_path):
    """Sizes such as 0.3 are other numbers in the single precision of a file."""
    labels = ball()
    case = Case.create(ball_image(labels), labels, slices=list(enumerate(CENTRE)), spacing=(0.7, 0.3, 0.3))
    config = tiny_config(data__max_voxels=4096, propagation__method="combined", model__completion=True)
    pipeline.train([case], tmp_path / "whole", config)
    control = RunControl()

    def stop(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    pipeline.train([case], tmp_path / "parts", config, control=control, listener=stop)
    pipeline.resume(tmp_path / "parts")
    ends = [load_checkpoint(tmp_path / name / "checkpoints" / "last.pt").model for name in ("whole", "parts")]
    assert all((ends[0][name] == values).all() for name, values in ends[1].items())
    known = load_cases(RunFolder.open(tmp_path / "parts"), config)[0].grid
    np.testing.assert_array_equal(known.affine, case.grid.affine)
    assert known.oriented == case.grid.oriented


def test_a_run_stopped_during_propagation_can_be_resumed(tmp_path):
    control = RunControl()
    control.stop()
    stopped = pipeline.train([ball_case()], tmp_path / "run", tiny_config(), control=control)
    assert (stopped.reason, stopped.iteration) == (FinishReason.STOPPED, 0)
    assert pipeline.resume(tmp_path / "run").reason is FinishReason.COMPLETED


def test_resuming_drops_the_lines_after_the_checkpoint(tmp_path):
    path = tmp_path / "run"
    pipeline.train([ball_case()], path, tiny_config())
    with (path / "losses.csv").open("a") as file:
        file.write("5,1,1,1,0,0,0,0,0,0\n")
    pipeline.resume(path)
    with (path / "losses.csv").open() as file:
        assert [row[0] for row in csv.reader(file)] == ["iteration", "1", "2", "3", "4"]


def test_the_run_folder_holds_what_repeats_the_run(run):
    config = RunFolder.open(run).config()
    assert config == tiny_config()
    environment = json.loads((run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__.split("+")[0] or environment["torch"]
    cases = json.loads((run / "cases.json").read_text())
    assert cases["cases"][0]["slices"] == [list(place) for place in enumerate(CENTRE)]
    assert (run / cases["cases"][0]["labels"]).is_file()
    assert (run / cases["cases"][0]["image"]).is_file()
    assert "TrainingStarted" in (run / "run.log").read_text()


def test_an_existing_run_is_never_overwritten(run):
    with pytest.raises(RunFolderError, match="already holds a run; choose another folder"):
        pipeline.train([ball_case()], run, tiny_config())


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run folder"):
        pipeline.predict(tmp_path, ball_case())
    with pytest.raises(RunFolderError, match="is not a run folder"):
        pipeline.resume(tmp_path)


@pytest.mark.parametrize("path", ["", None])
def test_an_empty_name_is_not_the_folder_in_which_the_program_runs(run, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match=r"The name of the run folder is empty; name"):
        pipeline.train([ball_case()], path, tiny_config())
    with pytest.raises(RunFolderError, match=r"The name of the run folder is empty; name"):
        pipeline.continue_training(run, [ball_case()], path)
    assert not list(tmp_path.iterdir())


def test_a_run_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        pipeline.train([ball_case()], tmp_path / "file" / "run", tiny_config())


def test_one_class_only_is_refused_before_anything_is_written(tmp_path):
    image = ball_image(ball())
    case = Case.create(image, np.ones_like(ball()), slices=[(0, 5)])
    with pytest.raises(InputError, match="hold only label 1"):
        pipeline.train([case], tmp_path / "run", tiny_config())
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ants", None)
    with pytest.raises(MissingDependencyError, match=r"pip install antspyx"):
        pipeline.train([ball_case()], tmp_path / "run", tiny_config(propagation__method="registration"))
    assert not (tmp_path / "run").exists()


def test_slices_on_one_axis_only_still_train(tmp_path):
    case = Case.create(ball_image(ball()), ball(), slices=[(0, 8), (0, 10), (0, 12)])
    result = pipeline.train([case], tmp_path / "run", tiny_config())
    assert result.dice is not None


def test_a_single_slice_trains_without_a_held_out_figure(tmp_path):
    case = Case.create(ball_image(ball()), ball(), slices=[(0, 10)])
    result = pipeline.train([case], tmp_path / "run", tiny_config())
    assert result.dice is None
    assert pipeline.predict(tmp_path / "run", case, device="cpu").mask.any()


@pytest.mark.parametrize("flushed", [False, True])
def test_denormal_numbers_are_as_before_a_computation(flushed):
    torch.set_flush_denormal(flushed)
    try:
        pipeline.propagate(ball_case(), tiny_config())
        assert bool((torch.tensor([1e-39]) * 1.0).item()) is not flushed
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("networks", [1, 2])
def test_fewer_networks_train_resume_and_predict(tmp_path, networks):
    control, case = RunControl(), ball_case()

    def stop_at_two(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    config = tiny_config(model__networks=networks)
    pipeline.train([case], tmp_path / "run", config, control=control, listener=stop_at_two)
    assert pipeline.resume(tmp_path / "run").dice > 0.8
    steps = RunFolder.open(tmp_path / "run").steps()
    taking_part = [True] * networks + [False] * (3 - networks)
    assert [step.iteration for step in steps] == [1, 2, 3, 4]
    assert [np.isfinite(loss) for loss in steps[-1].supervised] == taking_part
    assert (steps[-1].cross[0] > 0) == (networks == 2)
    predicted = pipeline.predict(tmp_path / "run", case, device="cpu")
    assert dice(predicted.mask, ball()) > 0.8
    assert (predicted.disagreement is None) == (networks == 1)
    assert 0 < pipeline.suggest(predicted).score <= 1


def test_what_is_unambiguous_is_taken_and_the_rest_is_told(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(training, "run_job", lambda job, checkpoint: heard.append(job))
    pipeline.train(ball_case(), tmp_path / "one", "quick")
    pipeline.train((case for case in [ball_case("a"), ball_case("b", 1)]), tmp_path / "two", "quick")
    assert [[case.name for case in job.cases] for job in heard] == [["ball"], ["a", "b"]]
    with pytest.raises(InputError, match=r"^'scan\.nii\.gz' is no case"):
        pipeline.predict(tmp_path, "scan.nii.gz")
    for cases in (["scan.nii.gz"], 7, [ball_case(), None]):
        with pytest.raises(InputError, match="is no case; make one with load_case or"):
            pipeline.train(cases, tmp_path / "none")
    with pytest.raises(ConfigError, match="There is no preset 'quik'"):
        pipeline.train(ball_case(), tmp_path / "none", "quik")
    with pytest.raises(ConfigError, match="Settings of type dict were given; use RunConfig"):
        pipeline.propagate(ball_case(), {"seed": 1})
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, lambda: np.errstate(all="raise"), double])
def test_what_a_caller_chose_for_his_own_computations_changes_nothing(around, run, tmp_path):
    control = RunControl()
    with around():
        pipeline.train(
            [ball_case()],
            tmp_path / "run",
            tiny_config(),
            control=control,
            listener=lambda event: control.stop() if isinstance(event, StepLogged) else None,
        )
        assert pipeline.resume(tmp_path / "run").reason is FinishReason.COMPLETED
        found = pipeline.predict(tmp_path / "run", ball_case(), device="cpu")
    np.testing.assert_array_equal(found.probability, pipeline.predict(run, ball_case(), device="cpu").probability)
