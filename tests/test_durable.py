import errno
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from napari_rada import durable, io
from napari_rada.data.grid import Grid
from napari_rada.durable import FORGOTTEN_S, MACHINE, PREFIX, remove_leftovers, write_text, written_whole
from napari_rada.errors import InputError, RunFolderError

REFUSALS = {
    "disk full": (OSError(28, "No space left on device"), "No space left on device"),
    "read-only": (PermissionError(30, "Read-only file system"), "Read-only file system"),
    "unplugged": (OSError(5, "Input/output error"), "Input/output error"),
}


@pytest.fixture
def order(monkeypatch):
    """Record what is asked of the operating system, in order."""
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("flush"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, target: (calls.append("rename"), replace(self, target))[1])
    return calls


def test_a_file_is_flushed_then_renamed_then_its_folder_is_flushed(tmp_path, order):
    write_text(tmp_path / "a.txt", "new")
    assert order == (["flush", "rename"] if os.name == "nt" else ["flush", "rename", "flush"])
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with written_whole(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")


def test_threads_that_write_one_file_each_write_a_whole_one(tmp_path):
    path = tmp_path / "a.txt"
    with ThreadPoolExecutor(1) as other, written_whole(path) as mine:
        mine.write_text("mine")
        other.submit(write_text, path, "other").result()
        assert path.read_text() == "other"
    assert path.read_text() == "mine"


@pytest.mark.parametrize("stage", ["write", "flush", "rename"])
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_one_sentence_and_keeps_the_old_file(tmp_path, monkeypatch, kind, stage):
    problem, reason = REFUSALS[kind]

    def refuse(*args, **kwargs):
        raise problem

    path = tmp_path / "a.txt"
    path.write_text("old")
    with monkeypatch.context() as patch:
        if stage == "flush":
            patch.setattr(os, "fsync", refuse)
        if stage == "rename":
            patch.setattr(Path, "replace", refuse)
        with pytest.raises(RunFolderError, match=rf"a\.txt cannot be written \({reason}\); free it\."):  # noqa: PT012
            with written_whole(path, RunFolderError, "free it") as temporary:
                temporary.write_text("half")
                if stage == "write":
                    refuse()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit to the size of files")
def test_a_stack_for_which_there_is_no_room_is_told_in_words(tmp_path):
    """What numpy says of it are two numbers."""
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from napari_rada import io\n"
        "from napari_rada.data.grid import Grid\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    io.write_volume(sys.argv[1], np.ones((50, 60, 70)), Grid.from_spacing((50, 60, 70), (1, 1, 1)))\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(tmp_path / "stack.tif")], check=True, capture_output=True, text=True
    )
    assert "stack.tif cannot be written (there is no room for a file of this size); choose another" in told.stdout
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_deleted_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be written \\(No such file or directory\\)"):
        write_text(tmp_path / "gone" / "a.txt", "new")


def test_another_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), written_whole(tmp_path / "a.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot tell whether a process is gone")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    below = tmp_path / "below"
    below.mkdir()
    dead = [folder / f"{PREFIX}-{MACHINE}-{child.pid}-a.txt" for folder in (tmp_path, below)]
    alive, other = tmp_path / f"{PREFIX}-{MACHINE}-{os.getppid()}-a.txt", tmp_path / f"{PREFIX}-mine.txt"
    for path in (*dead, alive, other):
        path.write_text("half")
    write_text(tmp_path / "a.txt", "new")
    assert [path.exists() for path in (*dead, alive, other)] == [False, True, True, True]
    remove_leftovers(tmp_path)
    assert [path.exists() for path in (*dead, alive, other)] == [False, False, True, True]
    assert durable.PREFIX == ".part"


def test_what_another_machine_writes_is_left_alone_until_it_is_forgotten(tmp_path, monkeypatch):
    """It may run on a disk that both share; whether its process is gone cannot be asked here."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(durable, "MACHINE", "00000000")
        elsewhere.setattr(os, "getpid", lambda: child.pid)
        with written_whole(tmp_path / "a.txt") as theirs:
            theirs.write_text("theirs")
            elsewhere.undo()
            write_text(tmp_path / "a.txt", "mine")
            assert theirs.exists()
    assert (tmp_path / "a.txt").read_text() == "theirs"
    theirs.write_text("half")
    then = theirs.stat().st_mtime - FORGOTTEN_S - 60.0
    os.utime(theirs, (then, then))
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "mask.tif"])
def test_an_old_result_stays_whole_when_the_disk_is_full(tmp_path, monkeypatch, name):
    grid, path = Grid.from_spacing((4, 5, 6)), tmp_path / name
    io.write_volume(path, np.ones(grid.shape, np.uint8), grid)

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); choose another place"):
            io.write_volume(path, np.zeros(grid.shape, np.uint8), grid)
    assert io.read_volume(path).array.all()
    assert [found.name for found in tmp_path.iterdir()] == [name]


class Held:
    """Another program has a file: what is asked of the system fails so many times."""

    def __init__(self, monkeypatch, times):
        self.left, self.waited = times, []
        replace = Path.replace

        def refuse(path, target):
            if self.left:
                self.left -= 1
                raise PermissionError(13, "Permission denied")
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", refuse)
        monkeypatch.setattr(durable, "PAUSES_S", (0.1, 0.2))
        monkeypatch.setattr(durable.time, "sleep", self.waited.append)


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_somebody_holds_for_a_moment_is_waited_for(tmp_path, monkeypatch, times):
    held = Held(monkeypatch, times)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert held.waited == [0.1, 0.2][:times]


def test_a_file_that_is_held_for_long_is_one_sentence(tmp_path, monkeypatch):
    held = Held(monkeypatch, 3)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        write_text(tmp_path / "a.txt", "new")
    assert held.waited == [0.1, 0.2]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not flush folders")
@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.ENOSPC, True)])
def test_a_disk_that_cannot_flush_folders_is_used_without(tmp_path, monkeypatch, number, fails):
    fsync = os.fsync

    def on_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", on_files_only)
    with pytest.raises(InputError) if fails else nullcontext():
        write_text(tmp_path / "a.txt", "new")


def test_a_path_that_is_too_long_for_windows_says_so(tmp_path, monkeypatch):
    def refuse(path, target):
        raise FileNotFoundError(2, "No such file or directory")

    path = tmp_path / "a.txt"
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(durable, "LONGEST", len(str(path)))
    more = len(f"{PREFIX}-{MACHINE}-{os.getpid()}-{threading.get_native_id()}-")
    with pytest.raises(InputError, match=rf"its path is too long by {more} characters for Windows\); choose another"):
        write_text(path, "new")
