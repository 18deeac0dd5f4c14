"""Temporary folders that do not pile up: what a killed process left in its own, the next one removes."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from napari_rada.durable import MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = f"napari-rada-{MACHINE}"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that is deleted when the block ends, after those of processes of this machine that are gone."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        found = re.match(rf"{PREFIX}-(\d+)-", left.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}-{os.getpid()}-") as name:
        yield Path(name)
