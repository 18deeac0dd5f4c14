"""Grad-CAM: against its definition on one tile, and from a run folder."""

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.engine import CENTRE, ball, ball_case, ball_image, tiny_config

from napari_rada import pipeline
from napari_rada.cli import main
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.errors import InputError, Stopped
from napari_rada.events import StageProgress
from napari_rada.inference.explain import class_heat
from napari_rada.inference.sliding import VolumeInput, blank_prior
from napari_rada.io import save_labels, write_volume
from napari_rada.models.completer import CUES
from napari_rada.models.guided import Guide
from napari_rada.models.networks import NetworkInput
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.settings import GuidanceConfig, InferenceConfig, ModelConfig

TILE = (16, 16, 16)


@pytest.fixture
def model():
    guide = Guide(torch.randn(3, 1, 2, 8), GuidanceConfig(width=16, controller=(12, 8)))
    made = TripleViewModel(2, ModelConfig(filters=4, blocks=(1, 1, 1), norm="instance", dropout=0.0), 3, guide)
    with torch.no_grad():
        for network in made.networks:
            network.guided.head.weight.normal_()
    return made


def heat_of(model, image, class_index=1, **kwargs):
    return class_heat(
        model,
        blank_prior(image, 2),
        class_index,
        TILE,
        InferenceConfig(),
        kwargs.pop("control", RunControl()),
        **kwargs,
    )


def test_on_one_tile_it_is_the_definition(model):
    image = np.random.default_rng(0).random(TILE).astype(np.float32)
    model.eval()
    tile = torch.from_numpy(image)[None]
    parts = NetworkInput(tile, torch.full((1, 2, *TILE), 0.5), torch.zeros(1, 1, *TILE))
    wanted = []
    for network in model.networks:
        features = network.features(parts)
        logits = network.logits(features, parts)
        score = logits[0, 1][logits[0].argmax(dim=0) == 1].sum()
        (gradient,) = torch.autograd.grad(score, features.bottleneck_BCDHW)
        weighted = (gradient.mean(dim=(2, 3, 4), keepdim=True) * features.bottleneck_BCDHW).sum(dim=1, keepdim=True)
        heat = F.interpolate(weighted.clamp_min(0), size=TILE, mode="trilinear", align_corners=False)[0, 0].detach()
        wanted.append(heat / heat.max().clamp_min(1e-30))
    found = heat_of(model, image)
    assert found.max() > 0
    np.testing.assert_allclose(found, torch.stack(wanted).mean(dim=0).numpy(), rtol=1e-4, atol=1e-5)


def test_it_depends_on_guidance(model):
    image = np.random.default_rng(0).random(TILE).astype(np.float32)
    before = heat_of(model, image)
    with torch.no_grad():
        for network in model.networks:
            network.guided.prompts_KSD.mul_(-3)
    assert not np.allclose(before, heat_of(model, image))


def test_larger_volumes_are_covered_and_the_model_is_left_as_it_was(model):
    model.train()
    heat = heat_of(model, np.random.default_rng(0).random((20, 26, 24)).astype(np.float32))
    assert heat.shape == (20, 26, 24)
    assert 0 <= heat.min() <= heat.max() <= 1
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_stop_is_obeyed(model):
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        heat_of(model.train(), np.zeros(TILE, np.float32), control=control)
    assert model.training


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    labels = ball()
    case = Case.create(ball_image(labels), labels, slices=list(enumerate(CENTRE)), name="ball")
    write_volume(folder / "image.nii.gz", case.image, case.grid)
    save_labels(case, folder / "labels.nii.gz")
    config = tiny_config(guidance__source="none", model__blocks=[1, 1], training__iterations=6)
    pipeline.train([case], folder / "run", config)
    return folder


def test_a_run_explains_a_class_of_a_scan(run):
    events = []
    explanation = pipeline.explain(
        run / "run", ball_case(labelled=False), "label 1", device="cpu", listener=events.append
    )
    assert explanation.heat.shape == ball().shape
    assert explanation.heat.dtype == np.float32
    assert explanation.class_name == "label 1"
    assert explanation.provenance["iteration"] > 0
    progress = [event for event in events if isinstance(event, StageProgress) and event.total == 6]
    assert [event.done for event in progress] == list(range(7))
    again = pipeline.explain(run / "run", ball_case(labelled=False), "1", device="cpu")
    np.testing.assert_array_equal(explanation.heat, again.heat)


def test_a_completer_is_asked_about_the_voxels_that_it_predicts(monkeypatch):
    """What the packaged completer adds is taken away in a prediction, so it is here."""
    config = ModelConfig(architecture="completer", completion=True)
    model, scored = TripleViewModel(2, config, 0), []
    monkeypatch.setattr(model, "corrected", lambda logits, inputs: scored.append(inputs) or torch.full_like(logits, -1))
    image = np.random.default_rng(0).random(TILE).astype(np.float32)
    prior, cues = np.full((2, *TILE), 0.5, np.float32), np.zeros((len(CUES), *TILE), np.float32)
    heat = class_heat(model, VolumeInput(image, prior, cues), 1, TILE, InferenceConfig(), RunControl())
    assert len(scored) == 3
    assert not heat.any()


def test_a_class_that_the_run_does_not_know_is_refused(run):
    with pytest.raises(InputError, match=r"There is no class 'liver'; the classes are label 1 \(1\)"):
        pipeline.explain(run / "run", ball_case(), "liver", device="cpu")


def test_the_command_writes_the_heat_in_the_images_geometry(run, tmp_path, capsys):
    out = tmp_path / "heat.nii.gz"
    image = run / "image.nii.gz"
    assert main(["explain", str(run / "run"), str(image), "--class", "Label 1", "-o", str(out), "--device", "cpu"]) == 0
    assert "where the networks look for label 1 (guidance: none)" in capsys.readouterr().out
    written, scan = nib.load(out), nib.load(image)
    assert written.shape == scan.shape
    np.testing.assert_array_equal(written.affine, scan.affine)
    assert 0 <= np.asarray(written.dataobj).min() <= np.asarray(written.dataobj).max() <= 1
    assert main(["explain", str(run / "run"), str(image), "--class", "liver", "-o", str(out), "--overwrite"]) == 2
    assert "There is no class 'liver'" in capsys.readouterr().err
