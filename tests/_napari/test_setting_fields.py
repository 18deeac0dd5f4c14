"""The form's fields, read off the configuration."""

from __future__ import annotations

import pytest

from napari_rada._napari.setting_fields import as_text, as_yaml, check_settings, setting_fields
from napari_rada.config import RunConfig
from napari_rada.presets import PRESETS


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_is_a_field_and_its_text_gives_it_back(preset):
    config = RunConfig.from_preset(preset)
    fields = setting_fields(config)
    assert [field.name for field in fields] == list(leaves(config.model_dump()))
    assert config.with_settings({field.name: as_yaml(field.text) for field in fields}) == config


def test_choices_are_listed():
    fields = {field.name: field for field in setting_fields(RunConfig.from_preset("quick"))}
    assert {"diffusion", "registration"} <= set(fields["propagation.method"].choices)
    assert fields["training.optimiser.kind"].choices == ("sgd", "adamw")
    assert fields["model.completion"].choices == ("yes", "no")
    assert fields["model.norm"].choices == ("batch", "instance")
    assert fields["training.learning_rate"].choices == ()
    assert fields["training.decay.warmup"].label == "Warmup"
    assert fields["training.decay.warmup"].group == "training.decay"


def test_another_member_of_a_union_has_other_fields():
    config = RunConfig.from_preset("quick", propagation={"method": "registration"})
    names = [field.name for field in setting_fields(config, frozenset({"seed"}))]
    assert "propagation.transform" in names
    assert "propagation.absorption" not in names
    assert "seed" not in names


def test_what_is_wrong_is_named():
    base = RunConfig.from_preset("quick")
    config, name, problem = check_settings(base, {"seed": "3", "training.learning_rate": "-1"})
    assert config is None
    assert name == "training.learning_rate"
    assert "must be more than 0, found -1" in problem
    assert check_settings(base, {"seed": "3"}) == (base.with_settings({"seed": 3}), "", "")
    _, name, problem = check_settings(base, {"data.percentiles": "[50, 40]"})
    assert name == "data.percentiles"
    assert "lower < upper" in problem


def test_values_are_written_as_one_types():
    assert [as_text(value) for value in (None, True, 0.0003, (1, 2.5), [False])] == [
        "unset",
        "yes",
        "0.0003",
        "[1, 2.5]",
        "[no]",
    ]
    assert [as_text(value) for value in (0.00123456789, [-1234567.5, 3e-05])] == [
        "0.00123456789",
        "[-1234567.5, 3e-05]",
    ]
    typed = {"unset": "null", "none": "none", "Yes": "true", "no": "false", " ": "null", "[1, 2]": "[1, 2]"}
    assert {text: as_yaml(text) for text in typed} == typed
    assert as_text(["a, {name}", "b"]) == '["a, {name}", b]'
