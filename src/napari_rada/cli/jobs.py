"""A command that several processes run together, as torchrun starts them. Imports nothing heavy."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_rada.errors import ConfigError
from napari_rada.training.team import ALONE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from napari_rada.control import RunControl
    from napari_rada.training.team import Team


def processes() -> int:
    """Return how many processes the job has."""
    return _number("WORLD_SIZE", 1)


def leads() -> bool:
    """Tell whether this process is the one that shows and prints."""
    return processes() < 2 or _number("RANK", 0) == 0


@contextmanager
def team_for(args: argparse.Namespace, control: RunControl) -> Iterator[Team]:
    """Meet the other processes of the job, if there are any.

    Raises
    ------
    ConfigError
        If there are, and the command is one that a single process runs; or if they do not come.
    Stopped
        If a stop is requested while they are waited for.
    """
    if processes() < 2:
        yield ALONE
        return
    if not getattr(args, "in_a_team", False):
        raise ConfigError(
            f"{processes()} processes were started (WORLD_SIZE), but only training runs in several; start this command "
            "without torchrun."
        )
    from napari_rada.training.crew import joined

    with joined(control) as team:
        yield team


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
