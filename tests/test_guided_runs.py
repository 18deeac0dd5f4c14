"""Guided runs from end to end, with a tiny CLIP of random weights."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.engine import CENTRE, SHAPE, ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.errors import ConfigError, RunFolderError, WeightsError
from napari_rada.events import FinishReason, Notice, StepLogged, TrainingStarted
from napari_rada.training.checkpoint import load_checkpoint, save_weights
from napari_rada.training.run_folder import RunFolder

CLASSES = ClassTable((ClassInfo(0, "background"), ClassInfo(1, "spleen"), ClassInfo(2, "liver")))

AUTO = {"guidance__source": "region+text"}


def halves_case(name="halves"):
    """Make a ball of two classes, left and right."""
    z, y, x = np.indices(SHAPE)
    inside = (z - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (x - CENTRE[2]) ** 2 <= 49
    labels = (inside * np.where(x < CENTRE[2] + 3, 1, 2)).astype(np.uint16)
    image = labels + np.random.default_rng(0).normal(0, 0.15, SHAPE)
    return Case.create(image, labels, slices=list(enumerate(CENTRE)), classes=CLASSES, name=name)


def guided(weights, **settings):
    files = {"guidance__clip_weights": str(weights.clip), "guidance__alpha_weights": str(weights.alpha)}
    small = {"guidance__source": "region+text", "guidance__width": 16, "guidance__controller": [12, 8]}
    return tiny_config(**files | small | settings)


def state(run, name="last"):
    return load_checkpoint(run / "checkpoints" / f"{name}.pt")


@pytest.fixture
def run(tmp_path, tiny_clip):
    config = guided(tiny_clip, training__iterations=8, training__learning_rate=0.02)
    pipeline.train([halves_case()], tmp_path / "run", config)
    return tmp_path / "run"


def with_prompts(run, change):
    """Change the prompts in the best checkpoint."""
    checkpoint = state(run, "best")
    weights = {
        key: change(values) if key.endswith("prompts_KSD") else values for key, values in checkpoint.model.items()
    }
    save_weights(run / "checkpoints" / "best.pt", checkpoint.state, weights)


def test_a_guided_run_uses_its_guidance(run):
    """Shuffling the prompts of the classes changes what is predicted."""
    before = pipeline.predict(run, halves_case(), device="cpu").probability
    with_prompts(run, lambda prompts: prompts.flip(0))
    after = pipeline.predict(run, halves_case(), device="cpu").probability
    assert np.abs(before - after).max() > 1e-4


def test_the_plain_networks_can_be_guided_too(tmp_path, tiny_clip):
    config = guided(
        tiny_clip, model__completion=False, inference__blend=1.0, training__iterations=8, training__learning_rate=0.02
    )
    pipeline.train([halves_case()], tmp_path / "run", config)
    before = pipeline.predict(tmp_path / "run", halves_case(), device="cpu").probability
    with_prompts(tmp_path / "run", lambda prompts: prompts.flip(0))
    assert np.abs(before - pipeline.predict(tmp_path / "run", halves_case(), device="cpu").probability).max() > 1e-4


def test_an_untrained_adapter_with_zeroed_prompts_is_no_guidance(tmp_path, tiny_clip):
    predictions = []
    for name, config in (("none", tiny_config(guidance__source="none")), ("guided", guided(tiny_clip))):
        control = RunControl()

        def stop_at_once(event, control=control):
            if isinstance(event, TrainingStarted):
                control.stop()

        pipeline.train([halves_case()], tmp_path / name, config, control=control, listener=stop_at_once)
        checkpoint = state(tmp_path / name)
        zeroed = {k: torch.zeros_like(v) if k.endswith("prompts_KSD") else v for k, v in checkpoint.model.items()}
        save_weights(tmp_path / name / "checkpoints" / "best.pt", checkpoint.state, zeroed)
        predictions.append(pipeline.predict(tmp_path / name, halves_case(), device="cpu").probability)
    np.testing.assert_array_equal(*predictions)


def test_fewer_networks_can_be_guided_too(tmp_path, tiny_clip):
    config = guided(tiny_clip, model__networks=1, training__unlabelled_patches=0)
    pipeline.train([halves_case()], tmp_path / "run", config)
    assert "guidance" in pipeline.predict(tmp_path / "run", halves_case(), device="cpu").provenance


@pytest.mark.parametrize(("source", "sources"), [("text", 1), ("region", 1), ("region+text", 2)])
def test_every_source_trains_and_is_recorded(tmp_path, tiny_clip, source, sources):
    pipeline.train([halves_case()], tmp_path / "run", guided(tiny_clip, guidance__source=source))
    record = json.loads((tmp_path / "run" / "guidance.json").read_text())
    assert (record["source"], record["random"]) == (source, True)
    with np.load(tmp_path / "run" / "guidance.npz", allow_pickle=False) as content:
        assert content["vectors"].shape == (3, 2, sources, 32)
    prediction = pipeline.predict(tmp_path / "run", halves_case(), device="cpu")
    assert prediction.provenance["guidance"] == f"{source} by ViT-B-16-quickgelu with random weights"


def test_texts_need_no_alpha_weights(tmp_path, tiny_clip):
    config = guided(tiny_clip, guidance__source="text", guidance__alpha_weights=None)
    assert pipeline.train([halves_case()], tmp_path / "run", config).reason is FinishReason.COMPLETED


def test_prediction_and_resuming_need_no_clip(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert pipeline.predict(run, halves_case(), device="cpu").mask.any()
    assert pipeline.resume(run).iteration == 8
    sizes = [values.numel() for name, values in state(run).model.items() if "prompts" in name]
    assert sizes == [2 * 2 * 32] * 3  # nothing else of CLIP is in the checkpoint


def test_stopped_and_resumed_equals_never_stopped(tmp_path, tiny_clip):
    config = guided(tiny_clip, training__iterations=5, training__cross__noisy_passes=2, model__dropout=0.2)
    pipeline.train([halves_case()], tmp_path / "whole", config)
    control = RunControl()

    def stop_after_two(event):
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    pipeline.train([halves_case()], tmp_path / "parts", config, control=control, listener=stop_after_two)
    pipeline.resume(tmp_path / "parts")
    whole, parts = state(tmp_path / "whole").model, state(tmp_path / "parts").model
    assert any(".guided." in name for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_without_weights_it_trains_without_guidance_and_says_so_once(tmp_path):
    events = []
    pipeline.train([ball_case()], tmp_path / "auto", tiny_config(**AUTO), listener=events.append)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert len([message for message in told if message.startswith("Training without guidance: the weights of")]) == 1
    assert (tmp_path / "auto" / "run.log").read_text().count("Training without guidance") == 1
    assert json.loads((tmp_path / "auto" / "guidance.json").read_text())["source"] == "none"
    pipeline.train([ball_case()], tmp_path / "none", tiny_config(guidance__source="none"), listener=events.append)
    assert not (tmp_path / "none" / "guidance.json").exists()
    auto, none = state(tmp_path / "auto").model, state(tmp_path / "none").model
    assert auto.keys() == none.keys()
    assert all(torch.equal(auto[name], none[name]) for name in auto)
    assert "guidance" not in pipeline.predict(tmp_path / "auto", ball_case(), device="cpu").provenance


def test_a_run_that_began_without_weights_stays_without_them(tmp_path, tiny_clip, monkeypatch):
    pipeline.train([halves_case()], tmp_path / "run", tiny_config(**AUTO))
    monkeypatch.setattr("napari_rada.training.guiding.find_files", lambda *_: pytest.fail("looked for weights again"))
    assert pipeline.resume(tmp_path / "run").reason is FinishReason.COMPLETED


def test_required_weights_are_missed_before_anything_is_written(tmp_path):
    with pytest.raises(
        WeightsError, match=r"guidance\.mode is required; fetch them with `napari-rada weights download`"
    ):
        pipeline.train([ball_case()], tmp_path / "run", tiny_config(**AUTO, guidance__mode="required"))
    assert not (tmp_path / "run").exists()


def test_files_that_are_named_must_exist_and_be_two(tmp_path, tiny_clip):
    with pytest.raises(ConfigError, match=r"guidance\.alpha_weights is not set; name both"):
        pipeline.train([ball_case()], tmp_path / "run", tiny_config(**AUTO, guidance__clip_weights=str(tiny_clip.clip)))
    config = guided(tiny_clip, guidance__clip_weights=str(tmp_path / "absent.pt"))
    with pytest.raises(WeightsError, match=r"absent\.pt does not exist"):
        pipeline.train([ball_case()], tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_random_weights_are_said_to_be_random(tmp_path, tiny_clip):
    events = []
    pipeline.train([halves_case()], tmp_path / "run", guided(tiny_clip), listener=events.append)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert any("The guidance weights are random" in message for message in told)


def test_planes_that_judge_a_network_are_not_shown_to_it_silently(tmp_path, tiny_clip):
    events = []
    config = guided(tiny_clip, guidance__plane_pairs=[[2, 1], [2, 1], [2, 1]])
    pipeline.train([halves_case()], tmp_path / "run", config, listener=events.append)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert any("shows networks the slices by which they are judged" in message for message in told)


@pytest.mark.parametrize(("name", "content"), [("guidance.npz", b"no archive"), ("guidance.json", b"[]")])
def test_damaged_features_are_told(run, name, content):
    (run / name).write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"{name} is (missing or )?damaged"):
        pipeline.resume(run)


def test_a_stop_while_prompts_are_encoded_leaves_a_run_that_resumes_guided(tmp_path, tiny_clip):
    control = RunControl()

    def stop_at_prompts(event):
        if getattr(event, "message", "") == "region prompts":
            control.stop()

    config = guided(tiny_clip)
    stopped = pipeline.train([halves_case()], tmp_path / "run", config, control=control, listener=stop_at_prompts)
    assert (stopped.reason, stopped.iteration) == (FinishReason.STOPPED, 0)
    assert pipeline.resume(tmp_path / "run").reason is FinishReason.COMPLETED
    assert any(".guided." in name for name in state(tmp_path / "run").model)


def test_a_continued_run_encodes_its_own_annotation(run, tmp_path):
    pipeline.continue_training(run, [halves_case()], tmp_path / "same")
    old, same = (state(path).model["networks.0.guided.prompts_KSD"] for path in (run, tmp_path / "same"))
    assert torch.equal(old, same)
    case = halves_case()
    fewer = Case.create(case.image, case.labels, slices=[(0, 8), (1, 13), (2, 12)], classes=CLASSES, name="halves")
    pipeline.continue_training(run, [fewer], tmp_path / "other")
    assert not torch.equal(old, state(tmp_path / "other").model["networks.2.guided.prompts_KSD"])


def test_a_continued_run_keeps_its_prompts_where_the_weights_are_gone(run, tmp_path):
    config = RunFolder.open(run).config()
    config = config.with_settings({"guidance.clip_weights": None, "guidance.alpha_weights": None})
    events = []
    pipeline.continue_training(run, [halves_case()], tmp_path / "new", config, listener=events.append)
    assert any("keep the prompts of the run that they continue" in getattr(event, "message", "") for event in events)
    old, new = (state(path).model["networks.0.guided.prompts_KSD"] for path in (run, tmp_path / "new"))
    assert torch.equal(old, new)


def test_networks_without_guidance_are_continued_without_it(tmp_path, tiny_clip):
    pipeline.train(
        [halves_case()], tmp_path / "old", tiny_config(**AUTO, guidance__width=16, guidance__controller=[12, 8])
    )
    pipeline.continue_training(tmp_path / "old", [halves_case()], tmp_path / "new", guided(tiny_clip))
    assert "without guidance" in json.loads((tmp_path / "new" / "guidance.json").read_text())["reason"]


def test_a_guided_head_that_is_built_differently_cannot_be_continued(run, tmp_path):
    config = RunFolder.open(run).config().with_settings({"guidance.width": 32})
    with pytest.raises(ConfigError, match="built differently"):
        pipeline.continue_training(run, [halves_case()], tmp_path / "new", config)


def test_an_unguided_run_never_loads_open_clip_nor_monai(tmp_path):
    """They take seconds to import."""
    code = (
        "import sys; from napari_rada import pipeline; from tests.engine import ball_case, tiny_config; "
        f"pipeline.train([ball_case()], {str(tmp_path / 'run')!r}, "
        "tiny_config(training__iterations=1, guidance__source='region+text')); "
        f"pipeline.predict({str(tmp_path / 'run')!r}, ball_case()); "
        "print({'open_clip', 'monai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "set()"
