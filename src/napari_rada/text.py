"""Small text files that may come from strangers: JSON and YAML that hold plain values, never objects or code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from napari_rada.memory import in_words

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 16 * 2**20
"""No settings, sidecar or table of cases comes near this."""


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
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """Read YAML that holds plain values.

    Raises
    ------
    ValueError
        If it is no YAML, names objects, or repeats parts by reference (a few lines could then stand for gigabytes).
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
