"""The argument that lets a command replace files. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_overwrite(parser: argparse.ArgumentParser, what: str = "output files that are there") -> None:
    """Add it; `what` says what is replaced."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}")
