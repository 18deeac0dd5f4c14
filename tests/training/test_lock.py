from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine import ball_case, tiny_config

from napari_rada import lock, pipeline
from napari_rada.errors import RunFolderError
from napari_rada.events import Event, StepLogged
from napari_rada.training.lock import FILE, locked
from napari_rada.training.team import ALONE, Team

HOLD = """
import sys, time
from pathlib import Path
from napari_rada.training.lock import locked
from napari_rada.training.team import ALONE
with locked(Path(sys.argv[1]), ALONE):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_kept_to_one_and_free_again_afterwards(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with (
        locked(run, ALONE),
        pytest.raises(RunFolderError, match=rf"run is in use by process {os.getpid()} on .* since 2.*; stop that one"),
        locked(run, ALONE),
    ):
        pass
    with locked(run, ALONE):
        pass


def test_a_killed_process_leaves_no_stale_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=rf"in use by process {child.pid} on "), locked(tmp_path, ALONE):
            pass
        child.kill()
        child.wait()
    assert f"process {child.pid} on" in (tmp_path / FILE).read_text()
    with locked(tmp_path, ALONE):
        pass


def test_the_processes_of_one_job_share_it(tmp_path: Path) -> None:
    other = Team()
    other.rank = 1
    with locked(tmp_path, ALONE), locked(tmp_path, other):
        assert str(os.getpid()) in (tmp_path / FILE).read_text()


def test_a_run_that_trains_is_neither_resumed_nor_started_again(tmp_path: Path) -> None:
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepLogged) and event.iteration == 1:
            for again in (lambda: pipeline.resume(tmp_path), lambda: pipeline.train([ball_case()], tmp_path, config)):
                with pytest.raises(RunFolderError) as caught:
                    again()
                said.append(str(caught.value))

    config = tiny_config(training__iterations=2)
    assert pipeline.train([ball_case()], tmp_path, config, listener=listen).iteration == 2
    assert len(said) == 2
    assert all("is in use by process" in sentence for sentence in said)
    assert pipeline.resume(tmp_path).iteration == 2


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_a_disk_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock, "_lock_file", refuse)
    with locked(tmp_path, ALONE):
        pass


def test_a_disk_that_fails_at_locks_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock, "_lock_file", refuse)
    with pytest.raises(RunFolderError, match=r"cannot be locked \(Input/output error\)"), locked(tmp_path, ALONE):
        pass


def test_a_disk_that_is_full_to_the_last_byte_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(Path, "write_text", full)
        with pytest.raises(RunFolderError, match=r"config.yaml cannot be written \(No space left on device\)"):
            pipeline.train([ball_case()], tmp_path / "run", tiny_config())
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"The run folder .* cannot be written"), locked(tmp_path / "file", ALONE):
        pass
