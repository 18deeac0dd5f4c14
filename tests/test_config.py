"""Settings: presets, YAML, dotted changes, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from napari_rada.config import RunConfig, load_complete_config, load_config, parse
from napari_rada.errors import ConfigError
from napari_rada.presets import COHORT, PRESETS
from napari_rada.settings import CombinedConfig, FlowConfig, RegistrationConfig
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_yaml(preset: str, tmp_path: Path) -> None:
    config = RunConfig.from_preset(preset)
    assert config.preset == preset
    assert load_config(written(tmp_path, config.to_yaml())) == config


@pytest.mark.parametrize(
    "text", ["08", "1.0e5", "+.5", "010", "1:30", "yes", "null", "1_000", "0x1f", "~", "2020-01-1"]
)
def test_texts_that_look_like_something_else_survive_yaml(text: str, tmp_path: Path) -> None:
    config = parse({"guidance": {"prompts": {1: text}, "cache": text}})
    assert load_complete_config(written(tmp_path, config.to_yaml())) == config


def test_changed_settings_survive_yaml(tmp_path: Path) -> None:
    changes = {
        "propagation.method": "registration",
        "training.optimiser.kind": "adamw",
        "training.decay.kind": "cosine",
        "data.window": [-125, 275],
        "data.max_voxels": None,
    }
    for preset in PRESETS:
        config = RunConfig.from_preset(preset).with_settings(changes)
        assert load_config(written(tmp_path, config.to_yaml())) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_a_file_leaves_out_what_its_preset_says(preset: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"preset: {preset}\nseed: 7\ntraining:\n  iterations: 12\n")
    assert load_config(path) == RunConfig.from_preset(preset).with_settings({"seed": 7, "training.iterations": 12})


def test_settings_are_read_from_a_path_that_is_a_text(tmp_path: Path) -> None:
    assert load_config(str(written(tmp_path, "preset: quick\nseed: 7\n"))) == RunConfig.from_preset("quick", seed=7)


def test_a_file_without_preset_starts_from_quick(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "seed: 0\n")) == RunConfig.from_preset("quick")


def test_the_paper_preset_is_the_paper() -> None:
    """METHOD: SGD 0.9, weight decay 1e-4, 0.01 / 10 every 2500 to 1e-4, 6000 iterations, 2 + 2 patches 112x112x80."""
    training = RunConfig.from_preset("paper").training
    assert (training.iterations, training.labelled_patches, training.unlabelled_patches) == (6000, 2, 2)
    assert (training.learning_rate, training.weight_decay, training.patch) == (0.01, 1e-4, (80, 112, 112))
    assert training.optimiser.model_dump() == {"kind": "sgd", "momentum": 0.9}
    assert training.decay.model_dump() == {"kind": "step", "factor": 10, "every": 2500, "minimum": 1e-4}
    assert (training.alpha, training.alpha_every) == (0.97, 1000)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"training.iterations": "500"}, ("training", "iterations", 500)),
        ({"training.learning_rate": "1e-3"}, ("training", "learning_rate", 1e-3)),
        ({"training.patch": "[16, 24, 32]"}, ("training", "patch", (16, 24, 32))),
        ({"data.window": "[-125, 275]"}, ("data", "window", (-125.0, 275.0))),
        ({"data.max_voxels": "null"}, ("data", "max_voxels", None)),
        ({"data.max_voxels": "None"}, ("data", "max_voxels", None)),
        ({"propagation.caution": "none"}, ("propagation", "caution", None)),
        ({"training.compile": "none"}, ("training", "compile", "none")),
        ({"training.iterations": "010"}, ("training", "iterations", 10)),
        ({"training.iterations": "1_000"}, ("training", "iterations", 1000)),
        ({"training.bfloat16": "yes"}, ("training", "bfloat16", True)),
        ({"training.augment": "none"}, ("training", "augment", "none")),
        ({"inference.overlap": 0}, ("inference", "overlap", 0.0)),
        ({"guidance.source": "null"}, ("guidance", "source", "none")),
    ],
)
def test_dotted_settings(settings: dict[str, Any], found: tuple[str, str, Any]) -> None:
    group, name, value = found
    changed = RunConfig().with_settings(settings)
    assert getattr(getattr(changed, group), name) == value
    assert changed.with_settings({}) == changed


def test_devices_keep_their_number() -> None:
    assert RunConfig().with_settings({"device": "cuda:1"}).device == "cuda:1"


def test_another_union_member_brings_its_own_settings() -> None:
    changed = RunConfig().with_settings({"propagation.alpha": 0.9, "propagation.method": "registration"})
    assert changed.propagation == RegistrationConfig(alpha=0.9)
    assert changed.with_settings({"propagation.transform": "SyNOnly"}).propagation == RegistrationConfig(
        alpha=0.9, transform="SyNOnly"
    )


def test_flow_as_one_of_several_opinions_has_its_finer_grid_whatever_else_is_set() -> None:
    alone, pooled = (
        RunConfig.from_preset("paper").with_settings({"propagation.method": method, f"{path}.window": 3.0}).propagation
        for method, path in (("flow", "propagation"), ("combined", "propagation.flow"))
    )
    assert isinstance(alone, FlowConfig)
    assert isinstance(pooled, CombinedConfig)
    assert (alone.window, pooled.flow.window) == (3.0, 3.0)
    assert alone.max_voxels < pooled.flow.max_voxels == 600_000


def test_changes_of_one_group_leave_the_others() -> None:
    config = RunConfig.from_preset("paper")
    changed = config.with_settings({"training.cross.noise": 0.2})
    assert changed.training.cross.noise == 0.2
    assert changed.training.model_copy(update={"cross": config.training.cross}) == config.training
    assert changed.data == config.data


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training.iteration": 5}, r"no setting training\.iteration; training\.iterations may be meant\.$"),
        ({"iterations": 5}, r"There is no setting iterations; training\.iterations may be meant\.$"),
        ({"trainning.iterations": 5}, r"There is no setting trainning; training may be meant\.$"),
        ({"cross.noise": 0.5}, r"There is no setting cross; training\.cross may be meant\.$"),
        ({"training.optimiser.lr": 3}, r"There is no setting training\.optimiser\.lr\.$"),
        ({"foo.bar": 5}, r"There is no setting foo\."),
        ({"seed.bar": 5}, r"Setting seed must be a whole number, found \{'bar': 5\}\.$"),
        ({"training.iterations": 0}, r"Setting training\.iterations must be at least 1, found 0\.$"),
        ({"training.iterations": "many"}, r"Setting training\.iterations must be a whole number, found 'many'\.$"),
        ({"training.iterations": ""}, r"Setting training\.iterations must be a whole number, found nothing\.$"),
        ({"training.learning_rate": "fast"}, r"Setting training\.learning_rate must be a number, found 'fast'\.$"),
        ({"training.learning_rate": ".nan"}, r"Setting training\.learning_rate must be finite, found nan\.$"),
        ({"training.iterations": "true"}, r"Setting training: iterations must be a whole number, found true\.$"),
        ({"training.minutes": "true"}, r"Setting training: minutes must be a number, found true\.$"),
        ({"data.spacing": "[true, 1, 1]"}, r"Setting data: spacing must be a number, found true\.$"),
        ({"training.patch": "[9, 9, false]"}, r"Setting training: patch must be a whole number, found false\.$"),
        ({"training.minutes": "1:30"}, r"Setting training\.minutes must be a number, found '1:30'\.$"),
        ({"training.iterations": "0x10"}, r"Setting training\.iterations must be a whole number, found '0x10'\.$"),
        ({"training.iterations": "none"}, r"Setting training\.iterations must be a whole number, found 'none'\.$"),
        ({"training.bfloat16": "2"}, r"Setting training\.bfloat16 must be true or false, found 2\.$"),
        ({"training.patch": "64"}, r"Setting training\.patch must be a list such as \[1, 2\], found 64\.$"),
        ({"training.patch": "[9, 9]"}, r"Setting training\.patch must be longer, found \[9, 9\]\.$"),
        ({"training.patch": "[9, 9, 9, 9]"}, r"Setting training\.patch must have 3 values, found \[9, 9, 9, 9\]\.$"),
        ({"training": "5"}, r"Setting training must be a mapping of names to values, found 5\.$"),
        (
            {"propagation.method": "magic"},
            r"Setting propagation\.method must be one of 'combined', 'diffusion', .*, found 'magic'\.$",
        ),
        ({"propagation.alpha": 0.9}, r"There is no setting propagation\.alpha"),
        (
            {"data.window": [3, 3]},
            r"Setting data: window must be \(lower, upper\) with lower < upper, found \(3\.0, 3\.0\)",
        ),
        ({"data.percentiles": [1, 101]}, r"percentiles must lie in 0\.\.100"),
        ({"training.patch": [4, 32, 32]}, r"patch must be at least 8 voxels along every axis, found \(4, 32, 32\)"),
        ({"training.view_pairs": [[0, 0], [1, 2], [0, 2]]}, r"two different views of 0, 1, 2, found \(0, 0\)"),
        ({"training.patch": "[1, 2"}, r"Setting training\.patch: '\[1, 2' is not a value"),
        ({"training": 3, "training.iterations": 5}, r"'training' was set as a whole before"),
        (
            {"model.architecture": "completer"},
            r"Setting model: architecture completer needs completion: true and prior_dropout: 0\.",
        ),
        (
            {"model.architecture": "completer", "model.completion": True, "model.prior_dropout": 0.1},
            r"Setting model: architecture completer needs completion: true and prior_dropout: 0\.",
        ),
        (
            {"model.architecture": "unet"},
            r"Setting model\.architecture must be one of 'vnet' or 'completer', found 'unet'\.$",
        ),
        ({"preset": "huge"}, r"Setting preset must be one of 'quick', 'standard' or 'paper', found 'huge'\.$"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig().with_settings(settings)


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="There is no preset 'huge'; choose one of quick, standard, paper"):
        RunConfig.from_preset("huge")


def test_plain_data_must_be_a_mapping() -> None:
    with pytest.raises(ConfigError, match=r"Settings must be a mapping of names to values"):
        parse([1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", r"config\.yaml: not a readable YAML file \(while parsing"),
        ("- 1\n- 2\n", r"config\.yaml: a YAML file of settings is needed, found list"),
        ("", r"config\.yaml: a YAML file of settings is needed, found NoneType"),
        ("preset: huge\n", r"config\.yaml: There is no preset 'huge'"),
        ("training:\n  iteration: 3\n", r"config\.yaml: There is no setting training\.iteration"),
        ("seed: 1\nseed: 2\n", r"config\.yaml: .* \(it has the key 'seed' twice; keep one of them\)"),
        ("training: {iterations: 3, iterations: 4}\n", "the key 'iterations' twice"),
    ],
)
def test_bad_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: not a readable YAML file"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize("preset", PRESETS)
def test_changes_against_the_preset_make_the_config_again(preset):
    base = RunConfig.from_preset(preset)
    assert base.changes() == {}
    changed = base.with_settings(
        {"seed": 3, "training.optimiser.kind": "sgd", "training.optimiser.momentum": 0.5, "data.window": [-100, 200]}
    )
    changes = changed.changes()
    assert {"seed", "training.optimiser.momentum", "data.window"} <= set(changes)
    assert "training.learning_rate" not in changes
    assert RunConfig.from_preset(preset).with_settings(changes) == changed


@pytest.mark.parametrize("preset", PRESETS)
def test_a_cohort_gets_the_settings_for_cohorts(preset: str) -> None:
    cohort = RunConfig.from_preset(preset).for_cohort()
    assert cohort.cohort
    assert not cohort.model.completion
    assert cohort == RunConfig.from_preset(preset).base(cohort=True)
    settings = {**COHORT[preset], "model.completion": False, "cohort": True}
    assert cohort == RunConfig.from_preset(preset).with_settings(settings)
    assert cohort.for_cohort() == cohort
    assert cohort.changes() == {}


def test_a_cohort_can_have_a_setting_of_the_preset_for_one_scan(tmp_path: Path) -> None:
    cohort = RunConfig.from_preset("quick").for_cohort().with_settings({"training.learning_rate": 1e-3})
    assert cohort.changes() == {"training.learning_rate": 1e-3}
    assert cohort.for_cohort() == cohort
    assert load_config(written(tmp_path, cohort.to_yaml())) == cohort
    chosen = {"cohort": "true", "training.learning_rate": "1e-3"}
    assert RunConfig.from_preset("quick").with_settings(chosen) == cohort
    short = load_config(written(tmp_path, "preset: quick\ncohort: true\ntraining: {learning_rate: 0.001}"))
    assert short == cohort


@pytest.mark.parametrize("preset", PRESETS)
def test_a_cohort_never_gets_networks_that_need_annotated_slices(preset: str) -> None:
    chosen = {"model.architecture": "completer", "model.completion": True, "model.prior_dropout": 0.0, "seed": 3}
    config = RunConfig.from_preset(preset).with_settings(chosen)
    assert (config.model.architecture, config.model.completion) == ("completer", True)
    cohort = config.for_cohort()
    assert (cohort.model.architecture, cohort.model.completion, cohort.seed) == ("vnet", False, 3)
    assert cohort.for_cohort() == cohort


def test_a_cohort_keeps_the_settings_that_were_chosen() -> None:
    chosen = {
        "training.iterations": 7,
        "training.patch": [16, 16, 16],
        "data.window": [0, 80],
        "model.completion": True,
    }
    cohort = RunConfig.from_preset("quick").with_settings(chosen).for_cohort()
    assert (cohort.training.iterations, cohort.data.window, cohort.model.completion) == (7, (0, 80), False)
    assert (cohort.training.patch, cohort.training.patch_voxels) == ((16, 16, 16), None)
    assert cohort.training.augment == "deform"


def test_a_chosen_patch_can_be_planned_all_the_same() -> None:
    config = RunConfig.from_preset("quick").with_settings(
        {"training.patch": [16, 16, 16], "training.patch_voxels": 5000}
    )
    assert config.for_cohort().training.patch_voxels == 5000


def test_text_is_read_once_on_its_way_to_a_cohort(tmp_path: Path) -> None:
    path = written(tmp_path, "preset: quick\nguidance:\n  prompts: {1: 'CT: a left kidney', 2: 'tumor #2'}\n")
    config = load_config(path)
    assert config.for_cohort().guidance.prompts == config.guidance.prompts == {1: "CT: a left kidney", 2: "tumor #2"}


def test_a_preset_is_begun_with_and_not_set() -> None:
    config = RunConfig.from_preset("quick")
    assert config.with_settings({"preset": "quick"}) == config
    with pytest.raises(ConfigError, match="--preset"):
        config.with_settings({"preset": "paper"})


@pytest.mark.parametrize("text", ["010", "1:30", "1e3", "0x10", "true", "none", ".5", "1_0"])
def test_text_that_looks_like_a_number_stays_text(text: str, tmp_path: Path) -> None:
    config = RunConfig().with_settings({"guidance.prompts": {1: text}})
    assert load_config(written(tmp_path, config.to_yaml())) == config


def test_a_run_of_another_version_is_told_as_such(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    folder.config_file.write_text(folder.config_file.read_text() + "colour: red\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: There is no setting colour\.$"):
        folder.config()
    folder.environment_file.write_text('{"napari-rada": "99.0"}')
    with pytest.raises(ConfigError, match=r"setting colour; the run was made by napari-rada 99\.0, and this is "):
        folder.config()


@pytest.mark.parametrize(
    ("slices", "voxels"), [(0, 150_000), (3, 150_000), (4, 200_000), (6, 300_000), (9, 300_000), (500, 300_000)]
)
def test_more_annotated_slices_get_a_finer_grid_of_at_most_twice_the_voxels(slices: int, voxels: int) -> None:
    data = RunConfig.from_preset("quick").data
    assert data.voxels_with(slices) == voxels
    assert data.model_copy(update={"usual_slices": None}).voxels_with(slices) == 150_000
    assert data.model_copy(update={"max_voxels": None}).voxels_with(slices) is None
