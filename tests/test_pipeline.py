import csv
import itertools
import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.engine import CENTRE, SHAPE, ball, ball_case, ball_image, tiny_config

from napari_rada import pipeline, preparation
from napari_rada.config import RunConfig
from napari_rada.control import RunControl
from napari_rada.data.box import box_selector
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.grid import Grid
from napari_rada.data.resampling import upsample
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import ConfigError, InputError, MissingDependencyError, RunFolderError, Stopped
from napari_rada.events import FinishReason, Notice, Stage, StageProgress, StepLogged
from napari_rada.inference import ensemble
from napari_rada.inference.edges import follow_edges
from napari_rada.inference.ensemble import Part, assemble, averaged
from napari_rada.models.completer import load_completer
from napari_rada.preparation import Work, image_in_box, propagated, working_grids
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.plan import plan
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import load_cases


def dice(mask, reference):
    return 2 * ((mask > 0) & (reference > 0)).sum() / ((mask > 0).sum() + (reference > 0).sum())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    result = pipeline.train([ball_case()], path, tiny_config())
    assert result.reason is FinishReason.COMPLETED
    return path


@contextmanager
def double():
    """Compute in double precision unless something else is said."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_propagation_needs_no_training():
    prediction = pipeline.propagate(ball_case(), tiny_config(propagation__method="combined"))
    assert dice(prediction.mask, ball()) > 0.85
    assert prediction.disagreement is not None  # of random walker and completer: where it guesses
    assert 0 <= prediction.disagreement.min() <= prediction.disagreement.max() <= 1
    np.testing.assert_allclose(prediction.probability.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("count", [0, 2])
def test_what_takes_one_case_refuses_others(run, count):
    cases = [ball_case()] * count
    for call in (pipeline.propagate, partial(pipeline.predict, run), partial(pipeline.preview, run)):
        with pytest.raises(InputError, match=f"One case is needed, found {count}"):
            call(cases)


def test_a_run_predicts_its_own_case_without_being_given_the_labels(run):
    prediction = pipeline.predict(run, ball_case(labelled=False), device="cpu")
    assert dice(prediction.mask, ball()) > 0.85
    assert prediction.mask.shape == ball().shape
    assert prediction.disagreement is not None
    assert 0 <= prediction.disagreement.min() <= prediction.disagreement.max() <= 1
    assert prediction.provenance["iteration"] > 0


def test_labelled_cases_of_a_cohort_are_propagated_on_grids_of_their_own(tmp_path, monkeypatch):
    seen = []
    make = preparation.make_propagator

    def watched(config, **more):
        propagator = make(config, **more)
        propagate = propagator.propagate

        def noting(case, **kwargs):
            seen.append((case.name, case.shape))
            return propagate(case, **kwargs)

        monkeypatch.setattr(propagator, "propagate", noting, raising=False)
        return propagator

    monkeypatch.setattr(preparation, "make_propagator", watched)
    cases = [ball_case("a"), ball_case("b", 1, labelled=False)]
    config = tiny_config(data__propagation_voxels=20_000, data__max_voxels=4096, training__iterations=1)
    pipeline.train(cases, tmp_path / "run", config)
    (name, shape) = seen.pop()
    assert (name, seen) == ("a", [])
    assert 4096 < np.prod(shape) <= 20_000  # finer than the grid of the networks
    found = pipeline.predict(tmp_path / "run", ball_case("a"), device="cpu")
    assert found.mask.shape == SHAPE
    assert [name for name, _ in seen] == ["a"]


def test_what_was_found_coarsely_follows_the_edges_of_the_scan(tmp_path, monkeypatch):
    case = ball_case()
    plain, edge_aware = (
        tiny_config(
            data__max_voxels=4096, model__completion=False, training__iterations=1, inference__edge_aware=wanted
        )
        for wanted in (False, True)
    )
    coarse, fine = (pipeline.propagate(case, config) for config in (plain, edge_aware))
    assert not np.allclose(fine.probability, coarse.probability, atol=0.1)
    np.testing.assert_array_equal(fine.mask[case.known], case.labels[case.known])
    work = Work(case, check_trainable([case]), edge_aware, RunControl(), lambda event: None)
    box = working_grids(work)[0].box
    inside = box_selector(box)
    unknown = ~case.known[inside]
    expected = coarse.probability[(slice(None), *inside)].copy()
    follow_edges(expected, image_in_box(work, box), case.grid.spacing, RunControl())
    deep = ndimage.minimum_filter(unknown, 5)  # away from what was painted, which is put in before
    assert np.abs(fine.probability[(slice(None), *inside)] - expected)[:, deep].max() < 0.1
    pipeline.train([case], tmp_path / "run", edge_aware)
    seen = []
    monkeypatch.setattr(ensemble, "follow_edges", lambda *given: seen.append(given[1]) or follow_edges(*given))
    pipeline.predict(tmp_path / "run", case, device="cpu")
    np.testing.assert_array_equal(seen.pop(), image_in_box(work, box))
    pipeline.predict(tmp_path / "run", ball_case("another", 1, labelled=False), device="cpu")
    assert not seen  # nobody annotated it


def test_both_alignments_count_in_propagation_and_prediction(tmp_path):
    case = ball_case()
    config = tiny_config(data__max_voxels=4096, training__iterations=1, inference__edge_aware=False)
    told = []
    found = pipeline.propagate(case, config, listener=told.append)
    classes = check_trainable([case])
    work = Work(case, classes, config, RunControl(), lambda event: None)
    made = propagated(work, working_grids(work), held_out=False)
    parts = [Part(working, pseudo.probability) for pseudo, working in made]
    each = [assemble(case, classes, averaged([part]), keep_annotated=True, provenance={}).probability for part in parts]
    assert not np.allclose(*each, atol=0.05)
    np.testing.assert_allclose(found.probability, np.mean(each, axis=0), atol=1e-6)
    done = [event.done / event.total for event in told if isinstance(event, StageProgress)]
    assert (done[-1], done) == (1.0, sorted(done))
    pipeline.train([case], tmp_path / "run", config)
    seen = []
    predicted = pipeline.predict(tmp_path / "run", case, device="cpu", listener=seen.append)
    tiles = [
        (event.done, event.total) for event in seen if isinstance(event, StageProgress) and event.stage is Stage.PREDICT
    ]
    assert tiles[-1] == (2 * tiles[0][0], 2 * tiles[0][0])
    assert dice(predicted.mask, ball()) > 0.85
    np.testing.assert_allclose(predicted.probability.sum(axis=0), 1, atol=1e-5)


def test_annotated_slices_keep_what_was_painted(run):
    case = ball_case()
    prediction = pipeline.predict(run, case, device="cpu")
    assert case.labels is not None
    np.testing.assert_array_equal(prediction.mask[case.known], case.labels[case.known])


def test_a_completing_run_refuses_a_scan_that_nobody_annotated(run):
    with pytest.raises(InputError, match="completes annotated slices and was given none of this scan"):
        pipeline.predict(run, ball_case(seed=5, labelled=False), device="cpu")


def test_a_cohort_run_predicts_a_scan_that_nobody_annotated(tmp_path):
    cases = [ball_case("a"), ball_case("b", seed=1), ball_case("c", seed=2, labelled=False)]
    config = tiny_config(training__iterations=40, training__learning_rate=0.02)
    pipeline.train(cases, tmp_path / "run", config)
    planned = pipeline.RunFolder.open(tmp_path / "run").config()
    assert planned == plan(cases, config)
    assert (planned.model.completion, planned.data.spacing) == (False, (1.0, 1.0, 1.0))
    unseen = pipeline.predict(tmp_path / "run", ball_case(seed=3, labelled=False), device="cpu")
    assert dice(unseen.mask, ball()) > 0.8


def test_slips_of_painting_are_told_once_by_whatever_uses_the_annotation(tmp_path):
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


@pytest.mark.parametrize(("patches", "taught"), [(0, ["a"]), (1, ["a", "b", "c"])])
def test_scans_without_labels_are_left_out_unless_the_networks_are_to_learn_there(tmp_path, patches, taught):
    cases = [ball_case("a"), ball_case("b", seed=1, labelled=False), ball_case("c", seed=2, labelled=False)]
    config, told = tiny_config(training__unlabelled_patches=patches, training__labelled_patches=2), []
    pipeline.train(cases, tmp_path / "run", config, listener=told.append)
    pipeline.continue_training(tmp_path / "run", cases, tmp_path / "next", config, listener=told.append)
    told = [event.message for event in told if isinstance(event, Notice) and "left out" in event.message]
    left_out = "2 scans without annotated slices are left out of training; training.unlabelled_patches=1 makes"
    assert [message.startswith(left_out) for message in told] == [True, True] * (patches == 0)
    for name in ("run", "next"):
        folder = RunFolder.open(tmp_path / name)
        assert [case.name for case in load_cases(folder, folder.config())] == taught
        assert not folder.config().model.completion


def test_a_scan_of_another_spacing_is_predicted_on_the_grid_of_the_cohort(tmp_path):
    cases = [ball_case("a"), ball_case("b", seed=1, labelled=False)]
    pipeline.train(cases, tmp_path / "run", tiny_config())
    fine = np.kron(ball_image(ball(), seed=3), np.ones((2, 2, 2), dtype=np.float32))
    case = Case.create(fine, grid=Grid.from_spacing(fine.shape, (0.5, 0.5, 0.5)))
    told = []
    found = pipeline.predict(tmp_path / "run", case, device="cpu", listener=told.append)
    assert not [event for event in told if isinstance(event, Notice)]
    huge = Case.create(case.image, grid=Grid.from_spacing(fine.shape, (10.0, 10.0, 10.0)), name="huge")
    pipeline.predict(tmp_path / "run", huge, device="cpu", listener=told.append)
    (message,) = [event.message for event in told if isinstance(event, Notice)]
    assert message.startswith("huge has working voxels of 10 x 10 x 10 mm along (z, y, x) and the networks learned on")
    same = pipeline.predict(tmp_path / "run", ball_case(seed=3, labelled=False), device="cpu")
    assert found.mask.shape == fine.shape
    np.testing.assert_allclose(found.probability, upsample(same.probability, (2, 2, 2), fine.shape), atol=0.02)


def test_training_on_keeps_the_grid_of_the_run(tmp_path):
    cases = [ball_case("a"), ball_case("b", seed=1, labelled=False)]
    pipeline.train(cases, tmp_path / "run", tiny_config(data__max_voxels=6000))
    grid = pipeline.RunFolder.open(tmp_path / "run").config().data.spacing
    assert grid == (1.0, 2.0, 2.0)
    wide = tiny_config(data__max_voxels=10**6)
    pipeline.continue_training(tmp_path / "run", cases, tmp_path / "next", wide)
    assert pipeline.RunFolder.open(tmp_path / "next").config().data.spacing == grid


def test_label_values_and_classes_survive(tmp_path):
    labels = ball() * 7
    labels[:, :, 12:][labels[:, :, 12:] > 0] = 300
    case = Case.create(ball_image(ball()), labels, slices=list(enumerate(CENTRE)))
    pipeline.train([case], tmp_path / "run", tiny_config())
    prediction = pipeline.predict(tmp_path / "run", case, device="cpu")
    assert set(np.unique(prediction.mask)) == {0, 7, 300}
    assert set(prediction.volumes_ml()) == {"label 7", "label 300"}


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
    config = pipeline.RunFolder.open(run).config()
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


def test_a_stop_interrupts_prediction(run):
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        pipeline.predict(run, ball_case(), device="cpu", control=control)


def test_prediction_tells_its_progress(run):
    events = []
    pipeline.predict(run, ball_case(), device="cpu", listener=events.append)
    tiles = [event for event in events if isinstance(event, StageProgress) and event.stage is Stage.PREDICT]
    assert [event.done for event in tiles] == list(range(1, tiles[-1].total + 1))


def test_suggestions_avoid_annotated_slices(run):
    prediction = pipeline.predict(run, ball_case(), device="cpu")
    annotated = [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)]
    suggestion = pipeline.suggest(prediction, annotated)
    assert suggestion.plane not in annotated
    assert 0 <= suggestion.score <= 1


@pytest.mark.parametrize("method", ["combined", "diffusion"])
def test_a_propagation_suggests_a_slice_without_training(method):
    prediction = pipeline.propagate(ball_case(), tiny_config(propagation__method=method))
    annotated = [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)]
    assert pipeline.suggest(prediction, annotated).plane not in annotated


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


@pytest.fixture(scope="module")
def completers():
    """Return the quick preset as it is, but for the number of iterations."""
    changes = {"training.iterations": 4, "training.validate_every": 2, "device": "cpu", "guidance.source": "none"}
    return RunConfig.from_preset("quick").with_settings({**changes, "model.architecture": "completer"})


@pytest.fixture(scope="module")
def completer_run(completers, tmp_path_factory):
    path = tmp_path_factory.mktemp("completers") / "run"
    assert pipeline.train([ball_case()], path, completers).reason is FinishReason.COMPLETED
    return path


def test_completers_are_at_least_as_good_as_the_propagation(completer_run, completers):
    config, steps = RunFolder.open(completer_run).config(), RunFolder.open(completer_run).steps()
    assert config == plan([ball_case()], completers)
    assert np.isfinite([(*step.supervised, *step.cross) for step in steps]).all()
    predicted = pipeline.predict(completer_run, ball_case(), device="cpu")
    assert dice(predicted.mask, ball()) >= dice(pipeline.propagate(ball_case(), completers).mask, ball()) - 0.02
    assert predicted.disagreement is not None


def test_completers_stopped_and_resumed_equal_those_never_stopped(completer_run, completers, tmp_path):
    control = RunControl()

    def stop_after_two(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    stopped = pipeline.train([ball_case()], tmp_path / "parts", completers, control=control, listener=stop_after_two)
    assert (stopped.reason, stopped.iteration) == (FinishReason.STOPPED, 2)
    assert pipeline.resume(tmp_path / "parts").iteration == 4
    whole, parts = (
        load_checkpoint(run / "checkpoints" / "last.pt").model for run in (completer_run, tmp_path / "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_completers_learn(completer_run):
    """The three are no longer what they began as, nor one network."""
    weights = load_checkpoint(completer_run / "checkpoints" / "last.pt").model
    heads = [weights[f"networks.{network}.completer.head.weight"] for network in range(3)]
    heads.append(load_completer().head.weight)
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(heads, 2))


def test_completers_are_explained(completer_run):
    explanation = pipeline.explain(completer_run, ball_case(), "label 1", device="cpu")
    assert explanation.heat.shape == ball().shape
    assert explanation.heat.min() >= 0
    assert 0 < explanation.heat.max() <= 1


def test_completers_of_two_classes_train_predict_and_are_explained_class_by_class(completers, tmp_path):
    labels = ball() * 7
    labels[:, :, 12:][labels[:, :, 12:] > 0] = 300
    case = Case.create(ball_image(ball()), labels, slices=list(enumerate(CENTRE)))
    pipeline.train([case], tmp_path / "run", completers)
    assert set(np.unique(pipeline.predict(tmp_path / "run", case, device="cpu").mask)) == {0, 7, 300}
    heats = [pipeline.explain(tmp_path / "run", case, value, device="cpu").heat for value in ("7", "300")]
    assert not np.allclose(*heats)


def test_completers_preview_slices_that_were_held_out(completer_run):
    preview = pipeline.preview(completer_run, ball_case(), device="cpu")
    known = ball_case().known
    assert not preview.mask[~known].any()
    assert dice(preview.mask[known], ball()[known]) > 0.8


@pytest.mark.parametrize(("use", "more"), [(pipeline.predict, ()), (pipeline.explain, ("label 1",))])
def test_completers_refuse_a_scan_that_nobody_annotated_in_one_sentence(completer_run, use, more):
    bare = ball_case("bare", seed=5, labelled=False)
    with pytest.raises(
        InputError, match=r"^bare: this run completes annotated slices and was given none of this scan; [^.]+\.$"
    ):
        use(completer_run, bare, *more, device="cpu")


def test_completers_of_one_slice_train_without_a_held_out_figure(completers, tmp_path):
    case = Case.create(ball_image(ball()), ball(), slices=[(0, 10)])
    assert pipeline.train([case], tmp_path / "run", completers).dice is None
    assert pipeline.predict(tmp_path / "run", case, device="cpu").mask.any()


def test_a_cohort_trains_no_completers(completers, tmp_path):
    cases = [ball_case("a"), ball_case("b", seed=1)]
    settings = {"training.iterations": 1, "model.filters": 2, "model.blocks": [1, 1], "training.patch": [16, 16, 16]}
    pipeline.train(cases, tmp_path / "run", completers.with_settings(settings))
    assert RunFolder.open(tmp_path / "run").config().model.architecture == "vnet"
    assert pipeline.predict(tmp_path / "run", ball_case(seed=3, labelled=False), device="cpu").mask.shape == SHAPE


def test_completers_are_not_continued_as_v_nets(completer_run, completers, tmp_path):
    assert pipeline.continue_training(completer_run, [ball_case()], tmp_path / "on").iteration == 8
    vnets = completers.with_settings({"model.architecture": "vnet"})
    with pytest.raises(ConfigError, match="are built differently"):
        pipeline.continue_training(completer_run, [ball_case()], tmp_path / "other", vnets)
    with pytest.raises(ConfigError, match="are built differently"):
        pipeline.continue_training(completer_run, [ball_case("a"), ball_case("b", seed=1)], tmp_path / "more")
    assert not (tmp_path / "other").exists()


def test_a_mask_tells_run_iteration_and_annotation(run):
    first = pipeline.predict(run, ball_case(), device="cpu").provenance
    assert first["run"] == str(run)
    assert first == pipeline.predict(run, ball_case(), device="cpu").provenance
    labels = ball()
    other = Case.create(ball_image(labels), labels, slices=list(enumerate(CENTRE))[:2])
    assert pipeline.predict(run, other, device="cpu").provenance["annotation"] != first["annotation"]


@pytest.mark.parametrize(
    ("architecture", "own", "method"),
    [("completer", None, "combined"), ("completer", 6000, "diffusion"), ("vnet", None, "combined")],
)
def test_networks_that_learned_nothing_leave_the_propagation(tmp_path, architecture, own, method):
    """Of three classes, two of which touch."""
    labels = ball()
    labels[:, :, CENTRE[2] + 3 :] *= 2
    case = Case.create(ball_image(labels), labels, slices=list(enumerate(CENTRE)))
    config = tiny_config(
        propagation__method=method,
        data__propagation_voxels=own,
        data__max_voxels=4096,
        model__architecture=architecture,
        model__completion=True,
        training__iterations=1,
        training__learning_rate=1e-12,
        training__unlabelled_patches=0,
        inference__corrections=True,
        inference__keep_size=True,
        inference__edge_aware=False,
    )
    pipeline.train([case], tmp_path / "run", config)
    predicted, propagated = pipeline.predict(tmp_path / "run", case, device="cpu"), pipeline.propagate(case, config)
    assert len(np.unique(propagated.mask)) == 3
    np.testing.assert_allclose(predicted.probability, propagated.probability, atol=0.01)
    assert (predicted.mask != propagated.mask).mean() < 1e-3


def test_the_largest_part_alone_stays_of_a_propagation_too():
    truth = ball()
    truth[1:4, 1:4, 1:4] = 1
    case = Case.create(ball_image(truth), truth, slices=[*enumerate(CENTRE), (0, 2)])
    for wanted, parts in ((False, 2), (True, 1)):
        config = tiny_config(inference__largest_part=wanted, inference__keep_annotated=False)
        assert ndimage.label(pipeline.propagate(case, config).mask)[1] == parts


def test_what_is_unambiguous_is_taken_and_the_rest_is_told(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(pipeline, "_train", lambda job, checkpoint: heard.append(job))
    pipeline.train(ball_case(), tmp_path / "one", "quick")
    pipeline.train((case for case in [ball_case("a"), ball_case("b", 1)]), tmp_path / "two", "quick")
    assert [[case.name for case in job.cases] for job in heard] == [["ball"], ["a", "b"]]
    for cases in (["scan.nii.gz"], 7, [ball_case(), None]):
        with pytest.raises(InputError, match="is no case; make one with load_case or"):
            pipeline.train(cases, tmp_path / "none")
    with pytest.raises(ConfigError, match="There is no preset 'quik'"):
        pipeline.train(ball_case(), tmp_path / "none", "quik")
    with pytest.raises(ConfigError, match="Settings of type dict were given; use RunConfig"):
        pipeline.propagate(ball_case(), {"seed": 1})
    assert not (tmp_path / "none").exists()


def test_pairs_name_annotated_slices_for_a_suggestion(run):
    found = pipeline.predict(run, ball_case(), device="cpu")
    planes = [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)]
    assert pipeline.suggest(found, list(enumerate(CENTRE))) == pipeline.suggest(found, planes)
    with pytest.raises(InputError, match="Slice 99 on axis 0 lies outside the volume"):
        pipeline.suggest(found, [(0, 99)])
    with pytest.raises(InputError, match="no choice 'bset' for weights; use 'best' or 'last'"):
        pipeline.predict(run, ball_case(), weights="bset")


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
