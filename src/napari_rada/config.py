"""All settings of a run: frozen, validated, round-tripping through YAML, with named presets."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, Field, ValidationError

from napari_rada.errors import ConfigError
from napari_rada.presets import COHORT, PRESETS
from napari_rada.setting_errors import groups_in, told
from napari_rada.settings import (
    CombinedConfig,
    DataConfig,
    Group,
    GuidanceConfig,
    InferenceConfig,
    ModelConfig,
    PropagationConfig,
    TrainingConfig,
)
from napari_rada.text import dump_yaml, parse_yaml, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PresetName: TypeAlias = Literal["quick", "standard", "paper"]

IMAGE_ALONE = {"model.architecture": "vnet", "model.completion": False}
"""Networks that predict a scan from its image alone, as those of a cohort must."""


class RunConfig(Group):
    """Everything that determines a run, apart from the data.

    Begin with `from_preset`: what ``RunConfig(...)`` leaves out has the defaults of the single settings, not what the
    preset has, whose name `preset` only notes.
    """

    preset: PresetName = "quick"
    cohort: bool = Field(False, description="Begin with the preset's settings for several cases (`for_cohort`).")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    threads: int | None = Field(None, ge=1, description="CPU threads, at most one per core; None takes all cores.")
    data: DataConfig = DataConfig()
    propagation: PropagationConfig = CombinedConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    inference: InferenceConfig = InferenceConfig()

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> RunConfig:
        """Return a preset, with top-level fields replaced by `changes`.

        A group such as ``training`` is replaced as a whole: what it leaves out has the defaults of the single settings,
        not what the preset has. Change single settings with `with_settings`.

        Raises
        ------
        ConfigError
            If the preset or a setting is unknown or out of range.
        """
        if name not in PRESETS:
            raise ConfigError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
        return parse({"preset": name, **PRESETS[name], **changes})

    def with_settings(self, settings: dict[str, Any]) -> RunConfig:
        """Return a copy with dotted settings replaced, e.g. ``{"training.iterations": 500}``; values may be text.

        Choosing another member of a union (``propagation.method``, ``training.optimiser.kind``) resets its settings.
        With ``cohort`` it is the settings for several cases (`for_cohort`) that are changed. The preset stays.

        Raises
        ------
        ConfigError
            If a setting is unknown or out of range, or it is another preset.
        """
        changes = _nested({key: _read_in(key, value) for key, value in settings.items()})
        begun = self.for_cohort() if changes.get("cohort") is True and not self.cohort else self
        found = parse(_merged(begun.model_dump(mode="json"), changes))
        if found.preset != self.preset:
            raise ConfigError("A preset is what settings begin with (--preset, RunConfig.from_preset), and is not set.")
        return found

    def for_cohort(self) -> RunConfig:
        """Return the settings for more than one case: networks must also predict scans that nobody annotated.

        Settings in which this differs from its preset stay, and a patch that was chosen is not planned; the others
        become those of the preset for cohorts. A setting that shall be as for a single case is changed afterwards.
        Networks that need annotated slices are replaced in any case.
        """
        if self.cohort:
            return self.with_settings(IMAGE_ALONE)
        chosen = self.changes()
        if "training.patch" in chosen:
            chosen.setdefault("training.patch_voxels", None)
        changes = _nested({**chosen, **IMAGE_ALONE})  # values already, in which nothing is to be read
        return parse(_merged(self.base(cohort=True).model_dump(mode="json"), changes))

    def base(self, *, cohort: bool) -> RunConfig:
        """Return the preset that this began with, for a single case or for a cohort."""
        preset = RunConfig.from_preset(self.preset)
        if not cohort:
            return preset
        settings = {**COHORT[self.preset], **IMAGE_ALONE, "cohort": True}
        return parse(_merged(preset.model_dump(mode="json"), _nested(settings)))

    def changes(self) -> dict[str, Any]:
        """Return the dotted settings in which this differs from what it began with: what makes it from `base`."""
        preset = self.base(cohort=self.cohort).model_dump(mode="json")
        return _differing(preset, self.model_dump(mode="json"), "")

    def to_yaml(self) -> str:
        """Return the settings as YAML that `load_config` reads back unchanged."""
        return dump_yaml(self.model_dump(mode="json"))


def as_config(config: RunConfig | str | None) -> RunConfig:
    """Return settings, or those of the preset that is named; of quick if none is.

    Raises
    ------
    ConfigError
        If there is no such preset, or it is something else.
    """
    if config is None or isinstance(config, str):
        return RunConfig.from_preset(config or "quick")
    if not isinstance(config, RunConfig):
        raise ConfigError(f"Settings of type {type(config).__name__} were given; use RunConfig, or a preset's name.")
    return config


def parse(raw: object) -> RunConfig:
    """Validate plain data as a `RunConfig`; raises `ConfigError` with the first problem in one sentence."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(told(error, RunConfig)) from None


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """Split ``key=value`` texts into what `RunConfig.with_settings` takes.

    Raises
    ------
    ConfigError
        If one has no ``=``.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{pair!r} is not a setting; write key=value, for example training.iterations=500.")
        settings[key.strip()] = value
    return settings


def load_config(path: Path | str) -> RunConfig:
    """Read a YAML file written by `RunConfig.to_yaml` or by hand; what it leaves out comes from its preset.

    Raises
    ------
    ConfigError
        If it is not readable or not valid.
    """
    path = Path(path)
    raw = _read(path)
    with _named(path):
        preset = RunConfig.from_preset(str(raw.get("preset", "quick")))
        base = preset.base(cohort=raw.get("cohort") is True)
        return parse(_merged(base.model_dump(mode="json"), raw))


def load_complete_config(path: Path) -> RunConfig:
    """Read a YAML file written by `RunConfig.to_yaml`: what it leaves out did not exist yet, and has its default.

    Its preset may have it otherwise by now, which the run that wrote the file has not.

    Raises
    ------
    ConfigError
        If it is not readable or not valid.
    """
    raw = _read(path)
    with _named(path):
        return parse(raw)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the name of a file before what is wrong with the settings in it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = parse_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable YAML file ({str(error).splitlines()[0]}).") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a YAML file of settings is needed, found {type(raw).__name__}.")
    return raw


def _differing(base: dict[str, Any], other: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Collect the leaves of `other` that differ; of another union member all leaves."""
    replaced = any(other.get(key) != base.get(key) for key in ("method", "kind"))
    found: dict[str, Any] = {}
    for key, value in other.items():
        inner = base.get(key)
        if isinstance(value, dict):
            found |= _differing(inner if isinstance(inner, dict) else {}, value, f"{prefix}{key}.")
        elif replaced or value != inner:
            found[f"{prefix}{key}"] = value
    return found


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested groups."""
    tree: dict[str, Any] = {}
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"Setting {dotted}: {part!r} was set as a whole before; set one or the other.")
        node[last] = value
    return tree


def _read_in(dotted: str, value: object) -> object:
    """Return the value that YAML reads in a text; others are values already."""
    if not isinstance(value, str):
        return value
    try:
        found = parse_yaml(value)
    except ValueError:
        raise ConfigError(f"Setting {dotted}: {value!r} is not a value; write numbers, words or [lists].") from None
    return None if str(found).strip().lower() == "none" and _may_be_none(dotted) else found


def _may_be_none(dotted: str) -> bool:
    """Tell whether a setting, of any member of a union, can have no value; other settings have a choice called none."""
    *parents, last = dotted.split(".")
    groups: list[type[BaseModel]] = [RunConfig]
    for part in parents:
        fields = [group.model_fields[part] for group in groups if part in group.model_fields]
        groups = [inner for field in fields for inner in groups_in(field.annotation)]
    fields = [group.model_fields[last] for group in groups if last in group.model_fields]
    return any(NoneType in get_args(field.annotation) for field in fields)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Replace settings group by group; another member of a union replaces its group as a whole."""
    if any(key in changes and changes[key] != base.get(key) for key in ("method", "kind")):
        return changes
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
