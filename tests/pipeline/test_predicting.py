"""Predicting with a trained run, and suggesting from what it found."""

import numpy as np
import pytest
from tests.engine import CENTRE, SHAPE, ball, ball_case, ball_image, dice, tiny_config

from napari_rada import pipeline, preparation
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.data.grid import Grid
from napari_rada.data.resampling import upsample
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError, Stopped
from napari_rada.events import Notice, Stage, StageProgress
from napari_rada.training.plan import plan
from napari_rada.training.run_folder import RunFolder


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
    planned = RunFolder.open(tmp_path / "run").config()
    assert planned == plan(cases, config)
    assert (planned.model.completion, planned.data.spacing) == (False, (1.0, 1.0, 1.0))
    unseen = pipeline.predict(tmp_path / "run", ball_case(seed=3, labelled=False), device="cpu")
    assert dice(unseen.mask, ball()) > 0.8


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


def test_label_values_and_classes_survive(tmp_path):
    labels = ball() * 7
    labels[:, :, 12:][labels[:, :, 12:] > 0] = 300
    case = Case.create(ball_image(ball()), labels, slices=list(enumerate(CENTRE)))
    pipeline.train([case], tmp_path / "run", tiny_config())
    prediction = pipeline.predict(tmp_path / "run", case, device="cpu")
    assert set(np.unique(prediction.mask)) == {0, 7, 300}
    assert set(prediction.volumes_ml()) == {"label 7", "label 300"}


def test_a_stop_interrupts_prediction(run):
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        pipeline.predict(run, ball_case(), device="cpu", control=control)


@pytest.mark.parametrize("tidy", [True, "all"])
def test_what_says_nothing_of_tidying_is_refused(run, tidy):
    with pytest.raises(InputError, match=rf"^{tidy!r} does not say what to tidy; give a CleanUp\.$"):
        pipeline.predict(run, ball_case(), tidy=tidy)


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


def test_pairs_name_annotated_slices_for_a_suggestion(run):
    found = pipeline.predict(run, ball_case(), device="cpu")
    planes = [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)]
    assert pipeline.suggest(found, list(enumerate(CENTRE))) == pipeline.suggest(found, planes)
    with pytest.raises(InputError, match="Slice 99 on axis 0 lies outside the volume"):
        pipeline.suggest(found, [(0, 99)])
    with pytest.raises(InputError, match="no choice 'bset' for weights; use 'best' or 'last'"):
        pipeline.predict(run, ball_case(), weights="bset")
