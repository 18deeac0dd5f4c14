"""What the documents say can be done: commands that parse, links that lead somewhere, settings that there are."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from napari_rada.cli.parser import make_parser
from napari_rada.config import RunConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
METHODS = ("combined", "diffusion", "flow", "registration")


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> Path:
    assert isinstance(request.param, Path)
    return request.param


def test_commands_are_taken(page: Path) -> None:
    parser = make_parser()
    blocks = [block.replace("\\\n", " ") for language, block in FENCED.findall(page.read_text("utf-8")) if not language]
    for line in "\n".join(blocks).splitlines():
        _, of_ours, words = line.partition("-m napari_rada " if line.startswith("torchrun") else "napari-rada ")
        if of_ours and line.startswith(("torchrun", "napari-rada")):
            parser.parse_args(shlex.split(words, comments=True))


def test_links_lead_to_files_and_headings(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for name, _, anchor in (target.partition("#") for target in targets):
        path = page.parent / name if name else page
        assert path.exists(), name
        assert not anchor or anchor in headings(path), f"{name}#{anchor}"


def test_settings_exist(page: Path) -> None:
    known = {name for method in METHODS for name in dotted(settings(method))}
    groups = "|".join(sorted({name.partition(".")[0] for name in known if "." in name}))
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"(?<![\w./-])((?:{groups})\.[a-z_0-9.]*[a-z_0-9])(?![\w(])", text)
    no_settings = {"json", "npz", "md", "svg", "prompts"}  # files, and a prompt by the value of its class
    assert {name for name in named if name.split(".")[1] not in no_settings} <= known


def test_every_argument_of_a_command_is_explained() -> None:
    assert not list(unexplained(make_parser()))


def headings(path: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ +(.*)$", FENCED.sub("", path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line) for line in lines]
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in texts}


def settings(method: str) -> dict[str, Any]:
    found = yaml.safe_load(RunConfig().with_settings({"propagation.method": method}).to_yaml())
    assert isinstance(found, dict)
    return found


def dotted(group: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of all settings and of their groups."""
    names = [prefix + key for key in group]
    inner = [dotted(value, f"{prefix}{key}.") for key, value in group.items() if isinstance(value, dict)]
    return names + [name for some in inner for name in some]


def unexplained(parser: argparse.ArgumentParser) -> list[str]:
    """Arguments of a command, and of those under it, that have no line in its help."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [name for command in action.choices.values() for name in unexplained(command)]
        elif not action.help:
            found.append(f"{parser.prog}: {action.dest}")
    return found
