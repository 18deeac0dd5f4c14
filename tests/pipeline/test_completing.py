"""Networks that complete annotated slices, from training to explanation."""

import itertools

import numpy as np
import pytest
import torch
from tests.engine import CENTRE, SHAPE, ball, ball_case, ball_image, dice

from napari_rada import pipeline
from napari_rada.config import RunConfig
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.errors import ConfigError, InputError
from napari_rada.events import FinishReason, StepLogged
from napari_rada.models.completer import load_completer
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.plan import plan
from napari_rada.training.run_folder import RunFolder


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
