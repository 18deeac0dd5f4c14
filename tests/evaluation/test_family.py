"""A process that is killed takes with it whatever it started for its own work."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
from tests.evaluation.growth.measured import TINY

from napari_rada.evaluation.family import kill, started_by
from napari_rada.evaluation.growth.point import Spec
from napari_rada.evaluation.growth.task import Point

if TYPE_CHECKING:
    from pathlib import Path

STARTS = """
import os, subprocess, sys, time
work = (
    "import subprocess, sys, time; from napari_rada.evaluation.family import end_with; end_with(int(sys.argv[1])); "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
)
subprocess.Popen([sys.executable, "-c", work, str(os.getpid())])
time.sleep(60)
"""
MEASURES = """
import sys
from napari_rada.control import RunControl
from napari_rada.evaluation.growth.measure import in_a_process
from napari_rada.evaluation.growth.point import Spec
in_a_process(Spec.from_json(sys.argv[1]), RunControl())
"""


def family_of_killed(code: str, members: int, *arguments: str) -> list[psutil.Process]:
    """Return what a process started, which is killed when it has started so much."""
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as parent:  # noqa: S603
        deadline = time.monotonic() + 60.0
        while len(family := started_by(parent.pid)) < members:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.kill()
    return family


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check_gone(family: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 30.0
    try:
        while any(alive(process) for process in family):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        kill(family)


def test_what_a_killed_process_started_ends_and_what_that_started() -> None:
    check_gone(family_of_killed(STARTS, 2))


def test_a_point_is_not_measured_on_when_the_benchmark_was_killed(tmp_path: Path) -> None:
    point = Point("quick", (16, 16, 16))
    config = TINY.config(point).with_settings({"training.iterations": 1_000_000})
    spec = Spec(point, config, 1, tmp_path / "run")
    check_gone(family_of_killed(MEASURES, 1, spec.to_json()))
