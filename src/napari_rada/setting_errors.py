"""What is wrong with a setting, in one sentence: what was found, and what may stand there."""

from __future__ import annotations

from difflib import get_close_matches
from textwrap import shorten
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import ValidationError

WHOLE, NUMBER, TRUTH, LIST = "be a whole number", "be a number", "be true or false", "be a list such as [1, 2]"
MUST = {
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_from_float": WHOLE,
    "int_parsing_size": "be smaller",
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": "be finite",
    "bool_type": TRUTH,
    "bool_parsing": TRUTH,
    "string_type": "be text",
    "tuple_type": LIST,
    "model_type": "be a mapping of names to values",
    "model_attributes_type": "be a mapping of names to values",
    "greater_than": "be more than {gt:.10g}",
    "greater_than_equal": "be at least {ge:.10g}",
    "less_than": "be less than {lt:.10g}",
    "less_than_equal": "be at most {le:.10g}",
    "literal_error": "be one of {expected}",
    "union_tag_invalid": "be one of {expected_tags}",
    "too_short": "be longer",
    "too_long": "have {max_length} values",
    "missing": "be longer",
}
"""What a value must do, by the type of pydantic's error; in braces what that holds."""
LIKE = 0.7
"""How alike two names are of which one may be meant for the other, at most 1."""


def told(error: ValidationError, settings: type[BaseModel]) -> str:
    """Return what is wrong with the first setting that is.

    Parameters
    ----------
    error
        What `settings` was refused with.
    settings
        The whole configuration.
    """
    first = error.errors()[0]
    kind, found, details = first["type"], first.get("input"), first.get("ctx", {})
    names = _names(first["loc"], settings)
    if kind == "extra_forbidden":
        return f"There is no setting {'.'.join(names)}{_meant(names, settings)}."
    if kind == "missing":  # of a list, at the first place that is empty
        names.pop()
    if kind == "union_tag_invalid":
        names, found = [*names, details["discriminator"].strip("'")], details["tag"]
    where = f"Setting {'.'.join(names)}" if names else "Settings"
    if kind == "value_error":
        return f"{where}: {first['msg'].removeprefix('Value error, ')}."
    if kind not in MUST:
        return f"{where}: {first['msg']} (found {_shown(found)})."
    return f"{where} must {MUST[kind].format_map(details)}, found {_shown(found)}."


def _names(place: Sequence[int | str], settings: type[BaseModel]) -> list[str]:
    """Return the names that lead to a place in the settings, without the member of a union that was chosen there."""
    names: list[str] = []
    members: Mapping[str, type[BaseModel]] = {}
    group: type[BaseModel] | None = settings
    for part in map(str, place):
        if part in members:
            group, members = members[part], {}
            continue
        names.append(part)
        field = None if group is None else group.model_fields.get(part)
        groups = list(groups_in(field.annotation)) if field is not None else []
        members = {_tag(one, field.discriminator): one for one in groups} if field and field.discriminator else {}
        group = groups[0] if len(groups) == 1 else None
    return names


def _meant(names: Sequence[str], settings: type[BaseModel]) -> str:
    """Ask for the setting that is most likely meant by a name that there is not, if one is likely."""
    known = list(dict.fromkeys(_dotted(settings)))
    group, name = ".".join(names[:-1]), names[-1]
    beside = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == group]
    elsewhere = [one for one in known if one.endswith(f".{name}")]
    close = [".".join([*names[:-1], one]) for one in get_close_matches(name, beside, n=1, cutoff=LIKE)]
    found = close or (elsewhere if len(elsewhere) == 1 else [])
    return f"; {found[0]} may be meant" if found else ""


def _dotted(group: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Name all settings and groups of them, those of every member of a union among them."""
    for name, field in group.model_fields.items():
        yield f"{prefix}{name}"
        for inner in groups_in(field.annotation):
            yield from _dotted(inner, f"{prefix}{name}.")


def groups_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the groups of settings that may stand in a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from groups_in(inner)


def _tag(group: type[BaseModel], discriminator: Any) -> str:
    return str(group.model_fields[discriminator].default)


def _shown(value: object) -> str:
    return "nothing" if value is None else shorten(repr(value), 80, placeholder="…")
