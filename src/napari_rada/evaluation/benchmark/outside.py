"""A program of another package in a process of its own: it can be stopped, and whatever it breaks is its own.

A worker is a module that is run as ``python -m MODULE FOLDER PARENT``. It finds its task in the folder and leaves its
result there; everything it prints goes to a file. It ends with the process of the number PARENT (`family.end_with`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.errors import MissingDependencyError, RadaError
from napari_rada.evaluation.family import kill, started_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case

LOG = "log.txt"
POLL_S = 0.2
LONGEST = 200
"""Characters of a reason that are shown."""


def check_installed(method: str, packages: Mapping[str, str]) -> None:
    """Check that modules can be found, without importing them.

    Parameters
    ----------
    packages
        Name of the package that brings each module.

    Raises
    ------
    MissingDependencyError
        If one cannot be found.
    """
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"The method {method} needs {', '.join(missing)}; install it with: pip install {' '.join(missing)} "
            "(what else these import, pyproject.toml lists under peers)"
        )


def run_worker(
    module: str, folder: Path, program: str, *, control: RunControl, environment: Mapping[str, str] | None = None
) -> None:
    """Run a worker to its end.

    Parameters
    ----------
    folder
        Its task, its result, and what it prints (``log.txt``).
    program
        What to call it in an error.
    environment
        Variables that it gets besides those of this process.

    Raises
    ------
    RadaError
        If it fails; the message ends with the last line that it printed.
    Stopped
        If a stop was requested: the worker and its own processes are killed.
    """
    command = [
        sys.executable,
        "-u",
        "-m",
        module,
        str(folder),
        str(os.getpid()),
    ]  # unbuffered, so that an error is the last line of the log
    variables = {**os.environ, **(environment or {})}
    with (folder / LOG).open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=variables
        )
        try:
            while _runs(child):
                control.check()
        finally:
            _kill(child)
    control.check()  # a stop from the keyboard reaches the worker, too: then it is no failure
    if child.returncode != 0:
        raise RadaError(f"{program} ended without a result: {_reason(folder / LOG, child.returncode)}")


def keep_annotated(case: Case, mask: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return a mask with the annotated voxels as they were annotated, as all methods do."""
    assert case.labels is not None
    return np.where(case.known, case.labels, mask).astype(mask.dtype)


def _runs(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    family = started_by(child.pid)
    child.kill()
    kill(family)
    child.wait()


def _reason(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if code < 0:
        return f"it was ended by signal {-code}."
    return lines[-1][:LONGEST] if lines else f"its exit code is {code}."
