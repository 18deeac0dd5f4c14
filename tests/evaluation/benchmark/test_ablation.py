from __future__ import annotations

from dataclasses import replace

import pytest

from napari_rada.config import RunConfig
from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.ablation import RANDOM_NOTE, guidance_notes, variants
from napari_rada.evaluation.benchmark.factors import FACTORS
from napari_rada.evaluation.benchmark.ours import OwnTraining, make_own
from napari_rada.evaluation.benchmark.results import Row


@pytest.fixture
def base() -> OwnTraining:
    method = make_own("quick", {"training.iterations": 7})
    assert isinstance(method, OwnTraining)
    return method


@pytest.mark.parametrize("factor", FACTORS)
def test_every_level_changes_the_settings_in_its_own_way(base: OwnTraining, factor: str) -> None:
    found = variants(base, factor)
    assert [method.name for method in found] == [f"{factor} {level}" for level in FACTORS[factor]]
    assert all(method.config.training.iterations == 7 for method in found)
    assert len({method.config.to_yaml() for method in found}) == len(found)


def test_only_the_factor_is_switched(base: OwnTraining) -> None:
    (two,) = variants(base, "views", ["2"])
    assert two.config == base.config.with_settings({"model.networks": 2})
    assert variants(base, "beta", ["0"])[0].config.training.cross.beta_max == 0


def test_what_the_preset_does_is_among_the_levels(base: OwnTraining) -> None:
    for factor in ("propagation", "views"):
        assert base.config in [method.config for method in variants(base, factor)]


def test_guided_levels_need_their_weights(base: OwnTraining) -> None:
    files = {"guidance.clip_weights": "a.pt", "guidance.alpha_weights": "b.pth"}
    none, *guided = variants(base, "guidance", settings=files)
    assert none.config.guidance.source == "none"
    for method in guided:
        assert method.config.guidance.mode == "required"
        assert str(method.config.guidance.alpha_weights) == "b.pth"
    shown = [method.config.guidance.plane_pairs for method in variants(base, "planes")]
    assert shown[0] is None
    assert shown[1] == ((0, 2), (0, 2), (0, 2))


def test_unknown_factors_and_levels(base: OwnTraining) -> None:
    with pytest.raises(InputError, match="no factor colour; choose among guidance, planes"):
        variants(base, "colour")
    with pytest.raises(InputError, match="views has no level 4; choose among 1, 2, 3"):
        variants(base, "views", ["4"])


def test_random_weights_are_told() -> None:
    row = Row("t", "d", "s", "m", 0)
    assert guidance_notes([row, replace(row, note="text by ViT-B-16-quickgelu")]) == []
    assert guidance_notes([row, replace(row, note="text by X with random weights")]) == [RANDOM_NOTE]


def test_the_default_levels_are_among_those_that_are_compared() -> None:
    config = RunConfig.from_preset("paper")
    assert config.training.cross.beta_max == 0.1
    assert config.model.networks == 3
