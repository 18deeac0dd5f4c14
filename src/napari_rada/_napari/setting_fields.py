"""The settings of a run as a flat list of fields, read off the configuration's own types: a form is drawn from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from napari_rada.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

    from napari_rada.config import RunConfig

UNSET = "unset"
"""How no value is written; some settings have a choice called none."""
UNION_KEYS = ("method", "kind")
"""Fields that choose the member of a union; with them the fields beside them change."""


@dataclass(frozen=True)
class SettingField:
    """One setting.

    Parameters
    ----------
    name
        Dotted, as `RunConfig.with_settings` takes it.
    group
        The dotted name of what it belongs to; empty for the run itself.
    text
        Its value as a person types it.
    choices
        The values it can have, if they can be listed.
    tip
        What it means.
    """

    name: str
    group: str
    text: str
    choices: tuple[str, ...]
    tip: str

    @property
    def label(self) -> str:
        """The name within its group, for people."""
        return self.name.rpartition(".")[2].replace("_", " ").capitalize()


def setting_fields(config: RunConfig, without: frozenset[str] = frozenset()) -> tuple[SettingField, ...]:
    """List all settings of a configuration in the order of their declaration, but those in `without`."""
    return tuple(field for field in _fields_of(config, "", {}) if field.name not in without)


def check_settings(base: RunConfig, texts: Mapping[str, str]) -> tuple[RunConfig | None, str, str]:
    """Apply typed settings to a configuration.

    Returns
    -------
    config, name, problem
        The configuration, None if a setting cannot be used; then the setting's name (empty if several are at odds)
        and what is wrong in one sentence.
    """
    try:
        return base.with_settings(dict(texts)), "", ""
    except ConfigError as error:
        problem = str(error)
    for name, text in texts.items():
        try:
            base.with_settings({name: text})
        except ConfigError as error:
            return None, name, str(error)
    return None, "", problem


def as_text(value: object) -> str:
    """Write a value as a person types it."""
    if value is None:
        return UNSET
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inner_text(part) for part in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inner_text(key)}: {_inner_text(part)}" for key, part in value.items()) + "}"
    return repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)


def _inner_text(value: object) -> str:
    """Write a value inside a list, with quotes where it would be taken apart otherwise."""
    text = as_text(value)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) and not text.isalnum() else text


def as_yaml(text: str) -> str:
    """Turn what a person typed into what `RunConfig.with_settings` reads."""
    return {UNSET: "null", "yes": "true", "no": "false", "": "null"}.get(text.strip().lower(), text)


def _fields_of(model: BaseModel, prefix: str, unions: dict[str, tuple[str, ...]]) -> Iterator[SettingField]:
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _fields_of(value, f"{prefix}{name}.", _members(info))
            continue
        choices = unions.get(name) or _choices(info.annotation)
        tip = info.description or ""
        yield SettingField(f"{prefix}{name}", prefix.rstrip("."), as_text(value), choices, tip)


def _members(info: FieldInfo) -> dict[str, tuple[str, ...]]:
    """Return, per union key, the names of all members, if the field is a union of models."""
    found: dict[str, list[str]] = {}
    for member in _models_in(info.annotation):
        for key in UNION_KEYS:
            if key in member.model_fields:
                found.setdefault(key, []).append(str(member.model_fields[key].default))
    return {key: tuple(names) for key, names in found.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _choices(annotation: Any) -> tuple[str, ...]:
    origin = get_origin(annotation)
    if annotation is bool:
        return ("yes", "no")
    if origin is Literal:
        return tuple(as_text(value) for value in get_args(annotation))
    if origin is Annotated:
        return _choices(get_args(annotation)[0])
    if origin is Union:
        parts = [part for part in get_args(annotation) if part is not NoneType]
        inner = _choices(parts[0]) if len(parts) == 1 else ()
        return (*inner, UNSET) if inner else ()
    return ()
