"""How the commands of this package end. Imports nothing heavy."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130
"""Exit status after Ctrl+C, as shells give it."""


def status_of(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; Ctrl+C ends it in a word."""
    try:
        return command()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        return INTERRUPTED
