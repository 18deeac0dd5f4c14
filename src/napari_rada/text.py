"""Small text files that may come from strangers: JSON and YAML that hold plain values, never objects or code."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from napari_rada.memory import in_words

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 16 * 2**20
"""No settings, sidecar or table of cases comes near this."""
MAX_DIGITS = 1000
"""Of a whole number: long ones take Python before 3.10.7 minutes to read, and later ones refuse them, too."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is too large or not UTF-8.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {in_words(size)}, far more than such a file needs")
    return path.read_text(encoding="utf-8-sig")


def read_json(path: Path) -> Any:
    """Read a JSON file; errors are those of `read_text`, ValueError also for what is no JSON."""
    try:
        return json.loads(read_text(path), parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits)} digits")
    return int(digits)


def parse_yaml(text: str) -> Any:
    """Read YAML that holds plain values. Numbers are decimal: 010 is ten, and 1:30 is text, unlike in YAML 1.1.

    Raises
    ------
    ValueError
        If it is no YAML, has a key twice, names objects, or repeats parts by reference (a few lines could then stand
        for gigabytes).
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a child of SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it repeats a part by reference (*name); write the part out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
        if twice is not None:
            raise yaml.YAMLError(f"it has the key {twice!r} twice; keep one of them")
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        try:
            return _whole(node.value)
        except ValueError as error:
            raise yaml.YAMLError(str(error)) from None


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?[0-9]+(_[0-9]+)*",
    "tag:yaml.org,2002:float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
"""What is taken for a number, in place of YAML 1.1's forms, some of which are octal or count in sixties."""
_PlainLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in _NUMBERS]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in _NUMBERS.items():
    _PlainLoader.add_implicit_resolver(_tag, re.compile(f"({_form})$"), list("-+.0123456789"))
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_decimal)


class _PlainDumper(yaml.SafeDumper):
    """Quotes text that either YAML 1.1 or `_PlainLoader` would take for something else."""


_PlainDumper.yaml_implicit_resolvers = {
    first: list(pairs) for first, pairs in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _tag, _form in _NUMBERS.items():
    _PlainDumper.add_implicit_resolver(_tag, re.compile(f"({_form})$"), list("-+.0123456789"))


def dump_yaml(values: Any) -> str:
    """Write plain values so that `parse_yaml` reads them as they are."""
    return str(yaml.dump(values, Dumper=_PlainDumper, sort_keys=False))
