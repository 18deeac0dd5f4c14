"""Workers of other packages: told in one sentence when they fail, gone at once when they are stopped."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from tests.engine import CENTRE, ball_case

from napari_rada.control import RunControl
from napari_rada.errors import MissingDependencyError, RadaError, Stopped
from napari_rada.evaluation.benchmark.measure import measured
from napari_rada.evaluation.benchmark.outside import check_installed, keep_annotated, run_worker

if TYPE_CHECKING:
    from pathlib import Path

PARENT = """
import pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(folder / "pid.part").write_text(str(child.pid))
(folder / "pid.part").rename(folder / "pid.txt")
time.sleep(60)
"""


def work(folder: Path, code: str, control: RunControl | None = None) -> None:
    (folder / "made_up_worker.py").write_text(code)
    environment = {"PYTHONPATH": str(folder), "GREETING": "hello"}
    run_worker("made_up_worker", folder, "a: It", control=control or RunControl(), environment=environment)


def test_a_worker_finds_its_folder_and_its_environment(tmp_path: Path) -> None:
    greet = "(pathlib.Path(sys.argv[1]) / 'out').write_text(os.environ['GREETING'] + sys.argv[2])"
    work(tmp_path, f"import os, pathlib, sys; {greet}")
    assert (tmp_path / "out").read_text() == f"hello{os.getpid()}", "the number is that of whom it ends with"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "print('on my way'); raise RuntimeError('too dark')",
            r"a: It ended without a result: RuntimeError: too dark$",
        ),
        ("raise SystemExit(3)", r"without a result: its exit code is 3\.$"),
    ],
)
def test_a_worker_that_fails_is_told_in_one_sentence(tmp_path: Path, code: str, reason: str) -> None:
    with pytest.raises(RadaError, match=reason):
        work(tmp_path, code)


@pytest.mark.skipif(psutil.WINDOWS, reason="there are no signals on Windows")
def test_a_worker_that_was_killed_is_told(tmp_path: Path) -> None:
    with pytest.raises(RadaError, match=r"it was ended by signal 9\.$"):
        work(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_stop_ends_the_worker_and_what_it_started(tmp_path: Path) -> None:
    control, asked = RunControl(), [0.0]

    def stop_when_it_runs() -> None:
        while not (tmp_path / "pid.txt").exists():
            time.sleep(0.02)
        asked[0] = time.perf_counter()
        control.stop()

    thread = threading.Thread(target=stop_when_it_runs)
    thread.start()
    with pytest.raises(Stopped):
        work(tmp_path, PARENT, control)
    thread.join()
    assert time.perf_counter() - asked[0] < 5  # within a second, if the machine has nothing else to do
    pid = int((tmp_path / "pid.txt").read_text())
    deadline = time.perf_counter() + 5  # nobody may be there to reap it at once
    while alive(pid):
        assert time.perf_counter() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(psutil.WINDOWS, reason="Windows does not tell the computing time of processes that have ended")
def test_the_computing_time_of_a_worker_counts(tmp_path: Path) -> None:
    code = "import time\nwhile time.process_time() < 0.5: pass"
    with measured() as usage:
        work(tmp_path, code)
    assert usage.cpu_s > 0.4


def test_all_that_is_missing_is_named_at_once() -> None:
    check_installed("m", {"numpy": "numpy"})
    with pytest.raises(MissingDependencyError, match=r"m needs a-b, c; install it with: pip install a-b c \(.*peers"):
        check_installed("m", {"a_b_missing": "a-b", "numpy": "numpy", "c_missing": "c"})


def test_annotated_voxels_stay() -> None:
    case = ball_case()
    kept = keep_annotated(case, np.full(case.grid.shape, 1, dtype=np.uint8))
    assert case.labels is not None
    np.testing.assert_array_equal(kept[CENTRE[0]], case.labels[CENTRE[0]])
    assert (kept[~case.known] == 1).all()
    assert kept.dtype == np.uint8
