"""The table of hyper-parameters: complete, true to the presets, printed as text and JSON."""

import json

import pytest

from napari_rada.cli.hyperparameters import ORIGINS, leaves, rows
from napari_rada.config import RunConfig
from napari_rada.presets import PRESETS


def test_every_setting_of_the_paper_preset_has_a_source_and_no_other_has():
    assert set(ORIGINS) == {name for name, _ in leaves(RunConfig.from_preset("paper").model_dump(mode="json"))}


@pytest.mark.parametrize("preset", PRESETS)
def test_no_setting_is_missing_from_a_table(preset):
    config = RunConfig.from_preset(preset)
    found = {row.setting: row.value for row in rows(config)}
    assert found == dict(leaves(config.model_dump(mode="json")))


def test_a_value_that_is_not_the_papers_is_ours():
    sources = {row.setting: row.source for row in rows(RunConfig.from_preset("paper"))}
    assert (sources["training.iterations"], sources["training.cross.beta_max"]) == ("paper", "lineage")
    changed = RunConfig.from_preset("paper").with_settings({"training.iterations": 10})
    assert {row.setting: row.source for row in rows(changed)}["training.iterations"] == "ours"
    quick = {row.setting: row.source for row in rows(RunConfig.from_preset("quick"))}
    assert quick["propagation.diffusion.scales"] == quick["model.completion"] == "ours"


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_what_is_noted_about_the_paper_is_not_said_of_a_preset_that_does_otherwise(preset):
    notes = {row.setting: row.note for row in rows(RunConfig.from_preset(preset))}
    assert notes["cohort"] == "True in a run of several scans"
    assert not any("not coarsened" in note or "the same settings" in note for note in notes.values())


def test_the_paper_preset_has_the_values_of_the_paper():
    """METHOD sections 2 to 5."""
    found = {row.setting: row.value for row in rows(RunConfig.from_preset("paper"))}
    wanted = {
        "propagation.method": "registration",
        "propagation.alpha": 0.97,
        "training.alpha": 0.97,
        "training.alpha_every": 1000,
        "model.filters": 16,
        "model.blocks": [1, 2, 3, 3, 3],
        "model.networks": 3,
        "model.norm": "batch",
        "model.dropout": 0.5,
        "model.completion": False,
        "training.view_pairs": [[2, 1], [0, 2], [1, 0]],
        "training.cross.beta_max": 0.1,
        "training.cross.schedule": "rampup",
        "training.cross.noisy_passes": 8,
        "training.cross.noise": 0.1,
        "guidance.source": "region+text",
        "guidance.reduction": 4,
        "guidance.width": 256,
        "guidance.controller": [256, 128, 64, 8],
        "guidance.templates": ["An image containing the {name}, with the rest being background"],
        "training.optimiser.kind": "sgd",
        "training.optimiser.momentum": 0.9,
        "training.weight_decay": 1e-4,
        "training.learning_rate": 0.01,
        "training.decay.factor": 10,
        "training.decay.every": 2500,
        "training.decay.minimum": 1e-4,
        "training.iterations": 6000,
        "training.labelled_patches": 2,
        "training.unlabelled_patches": 2,
        "training.patch": [80, 112, 112],
        "training.augment": "flips",
        "training.centred": 0,
        "training.pseudo_weight": 1,
        "data.max_voxels": None,
        "inference.blend": 1,
    }
    assert {name: found[name] for name in wanted} == wanted


def test_the_command_prints_it(run_cli):
    shown = run_cli("hyperparameters")
    assert shown.status == 0
    lines = shown.out.splitlines()
    assert lines[0].split() == ["setting", "value", "source", "note"]
    assert len(lines) == 1 + len(ORIGINS)
    assert any(line.split()[:3] == ["training.iterations", "6000", "paper"] for line in lines)
    several = run_cli("hyperparameters", "--preset", "standard", "--set", "cohort=true").out.splitlines()
    assert any(line.split()[:2] == ["training.unlabelled_patches", "1"] for line in several)
    data = json.loads(run_cli("hyperparameters", "--preset", "quick", "--set", "seed=4", "--json").out)
    assert {"setting": "seed", "value": 4, "source": "ours", "note": ""} in data["hyperparameters"]
