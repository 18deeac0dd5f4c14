"""Disks that fill up, folders that vanish, clocks that jump: one clear error, and nothing that was saved is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.engine import ball_case, tiny_config

from napari_rada import durable, pipeline
from napari_rada.control import RunControl
from napari_rada.data.case import check_trainable
from napari_rada.errors import RadaError, RunFolderError, Stopped
from napari_rada.events import CheckpointSaved, Event, Notice, StepLogged
from napari_rada.io import load_case, save_labels, write_volume
from napari_rada.training import run_folder as run_folders
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import load_cases, save_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIG = tiny_config(training__iterations=6, training__checkpoint_seconds=0)


def train(path: Path, at_iteration: int, fault: Callable[[], Any]) -> RunFolderError:
    """Train until a fault happens at an iteration, and return the one error."""
    case = ball_case()
    before = None if case.labels is None else case.labels.copy()

    def listen(event: Event) -> None:
        if isinstance(event, StepLogged) and event.iteration == at_iteration:
            fault()

    with pytest.raises(RunFolderError) as caught:
        pipeline.train([case], path, CONFIG, listener=listen)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(case.labels, before)
    return caught.value


@pytest.fixture
def whole(tmp_path: Path) -> Any:
    """Weights of the run without any fault."""
    pipeline.train([ball_case()], tmp_path / "whole", CONFIG)
    return load_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pt").model


def check_resumes(path: Path, whole: Any) -> None:
    pipeline.resume(path)
    model = load_checkpoint(path / "checkpoints" / "last.pt").model
    assert all((model[name] == values).all() for name, values in whole.items())
    assert not list(path.rglob(".part-*"))


@pytest.mark.parametrize(("number", "reason"), [(28, "No space left on device"), (30, "Read-only file system")])
@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_refused_write_is_one_error_and_the_run_can_be_resumed(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, call: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, reason)

    with monkeypatch.context() as patch:
        owner: Any = os if call == "fsync" else Path
        error = train(tmp_path / "run", 3, lambda: patch.setattr(owner, call, refuse))
    assert f"({reason}); what the run saved is kept: free some space or restore the folder, then resume" in str(error)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state.iteration == 2
    check_resumes(tmp_path / "run", whole)


@pytest.mark.parametrize("for_good", [False, True])
def test_a_run_goes_on_while_a_spreadsheet_has_its_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_good: bool
) -> None:
    monkeypatch.setattr(run_folders, "READERS_LOCK", True)
    opened, held = Path.open, [False]

    def refuse(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if held[0] and path.name == "losses.csv" and "a" in mode:
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepLogged):
            held[0] = event.iteration >= 2 and (for_good or event.iteration < 4)

    assert pipeline.train([ball_case()], tmp_path / "run", CONFIG, listener=listen).iteration == 6
    lines = (tmp_path / "run" / "losses.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in lines] == list(range(1, 3 if for_good else 7))
    told = [event.message for event in events if isinstance(event, Notice)]
    wanted = ["losses.csv is open in another program, so that its last lines could not be written."]
    assert told == (wanted if for_good else [])


def test_lines_that_were_held_back_are_forgotten_with_their_iterations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the lines of iterations that are computed again would stand there twice."""
    monkeypatch.setattr(run_folders, "READERS_LOCK", True)
    folder = RunFolder.create(tmp_path / "run", CONFIG)

    def log(iteration: int) -> None:
        folder.log_step(StepLogged(iteration, 6, (1.0,) * 3, (1.0,) * 3, 0.1, 0.1, 1.0, 1.0))

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    log(1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        log(2)
        log(3)
        assert folder.settle() == ["losses.csv"]
    folder.forget_after(2)
    log(3)
    lines = folder.losses_file.read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["1", "2", "3"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file")
def test_a_disk_that_really_fills_up(tmp_path: Path, whole: Any) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        fault = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # noqa: E731
        error = train(tmp_path / "run", 3, fault)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "last.pt cannot be written (File too large); what the run saved is kept" in str(error)
    check_resumes(tmp_path / "run", whole)


def test_a_deleted_run_folder_is_one_error(tmp_path: Path) -> None:
    error = train(tmp_path / "run", 3, lambda: shutil.rmtree(tmp_path / "run"))
    assert "cannot be written (No such file or directory)" in str(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["config.yaml", "cases.json"])
def test_a_run_folder_that_was_deleted_but_for_its_checkpoints_is_one_error(tmp_path: Path, name: str) -> None:
    """Whoever deletes it can hardly delete the folder of a file that is being written."""
    error = train(tmp_path / "run", 3, (tmp_path / "run" / name).unlink)
    assert "was removed, or a part of it, while the run trained" in str(error)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state.iteration == 3


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    events: list[Event] = []
    now = time.time()

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepLogged) and event.iteration == 3:
            monkeypatch.setattr(time, "time", lambda: now + jump)

    pipeline.train([ball_case()], tmp_path / "run", CONFIG, listener=listen)
    steps = [event.elapsed_s for event in events if isinstance(event, StepLogged)]
    assert steps == sorted(steps)
    assert 0 < steps[-1] < 600
    assert len([event for event in events if isinstance(event, CheckpointSaved)]) >= 6
    model = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").model
    assert all((model[name] == values).all() for name, values in whole.items())


def test_a_disk_that_is_full_before_a_run_began_promises_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def refuse(path: Path, *args: Any, **options: Any) -> int:
        if path.name.endswith(".csv"):
            raise OSError(28, "No space left on device")
        return write(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(RunFolderError, match=r"losses.csv cannot be written .*; choose another place, or free some"):
        pipeline.train([ball_case()], tmp_path / "run", CONFIG)


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "000_ball_labels.nii.gz", "cases.json"])
@pytest.mark.parametrize("kept", [(), ("notes.txt", "annotations/mine.nii.gz")])
@pytest.mark.parametrize("continued", [False, True])
def test_a_run_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: Sequence[str], continued: bool
) -> None:
    put_in_place = durable.put_in_place
    if continued:
        pipeline.train([ball_case()], tmp_path / "parent", CONFIG)
    for each in kept:
        (tmp_path / "run" / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / each).write_text("mine")
    before = set(tmp_path.rglob("*"))

    def full(temporary: Path, path: Path) -> None:
        if path.name == name:
            raise OSError(28, "No space left on device")
        put_in_place(temporary, path)

    monkeypatch.setattr(durable, "put_in_place", full)
    begin = partial(pipeline.continue_training, tmp_path / "parent") if continued else pipeline.train
    with pytest.raises(RadaError, match=rf"{name} cannot be written \(No space left on device\)"):
        begin([ball_case()], tmp_path / "run", CONFIG)
    assert set(tmp_path.rglob("*")) - {tmp_path / "run" / "run.lock"} == before
    assert kept or os.name == "nt" or not (tmp_path / "run").exists()


def test_a_run_that_was_cut_off_before_it_began_can_be_started_again(tmp_path: Path) -> None:
    pipeline.train([ball_case()], tmp_path / "run", CONFIG)
    (tmp_path / "run" / "cases.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(RunFolderError, match="cut off before its cases were written; start it again, in the same"):
        pipeline.resume(tmp_path / "run")
    assert pipeline.train([ball_case()], tmp_path / "run", CONFIG).iteration == 6


def test_lines_that_a_power_cut_left_unreadable_are_dropped(tmp_path: Path, whole: Any) -> None:
    path = tmp_path / "run"
    pipeline.train([ball_case()], path, CONFIG)
    losses = (path / "losses.csv").read_bytes()
    (path / "losses.csv").write_bytes(losses[:-9] + b"\0\0\0\xff\xfe")
    (path / "validation.csv").unlink()
    check_resumes(path, whole)
    assert (path / "validation.csv").read_text() == "iteration,dice,propagation_dice\n"
    iterations = [line.split(",")[0] for line in (path / "losses.csv").read_text().splitlines()]
    assert iterations == ["iteration", "1", "2", "3", "4", "5"]


def test_many_cases_are_read_and_kept_with_progress_until_a_stop(tmp_path: Path) -> None:
    cases, told, control = [ball_case("a"), ball_case("b", seed=1)], [], RunControl()
    folder = RunFolder.create(tmp_path / "run", tiny_config())
    save_snapshot(folder, cases, check_trainable(cases), control, told.append)
    read = load_cases(folder, folder.config(), control, told.append)
    assert [case.name for case in read] == ["a", "b"]
    progress = [(event.done, event.total, event.message) for event in told]
    assert progress == [(0, 2, "a"), (1, 2, "b"), (2, 2, "")] * 2
    control.stop()
    with pytest.raises(Stopped):
        load_cases(folder, folder.config(), control)
    cut_off = RunFolder.create(tmp_path / "cut off", tiny_config())
    with pytest.raises(Stopped):
        save_snapshot(cut_off, cases, check_trainable(cases), control)
    assert folder.is_run
    assert not cut_off.is_run


def saved(folder: Path) -> Path:
    """Write a scan and its labels."""
    case = ball_case()
    folder.mkdir(parents=True)
    write_volume(folder / "scan.nii.gz", case.image, case.grid)
    save_labels(case, folder / "labels.nii.gz")
    return folder / "scan.nii.gz"


def test_a_project_that_was_moved_as_a_whole_is_resumed(tmp_path: Path) -> None:
    scan = saved(tmp_path / "old" / "data")
    pipeline.train([load_case(scan, scan.parent / "labels.nii.gz")], tmp_path / "old" / "run", CONFIG)
    (tmp_path / "old").rename(tmp_path / "new")
    folder = RunFolder.open(tmp_path / "new" / "run")
    (case,) = load_cases(folder, folder.config())
    assert case.source == tmp_path / "new" / "data" / "scan.nii.gz"
    assert pipeline.resume(folder.path).iteration == 6
    content = json.loads(folder.cases_file.read_text(encoding="utf-8"))
    del content["cases"][0]["image_from_here"]  # as runs of earlier versions
    folder.cases_file.write_text(json.dumps(content), encoding="utf-8")
    told = re.escape(f"was at {scan} when the run began and is not there; put it back, or write its place into ")
    with pytest.raises(RunFolderError, match=told):
        load_cases(folder, folder.config())
    (tmp_path / "new").rename(tmp_path / "old")
    assert load_cases(RunFolder.open(tmp_path / "old" / "run"), CONFIG)[0].source == scan


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_a_name_that_is_not_utf_8_is_kept(tmp_path: Path) -> None:
    scan = saved(tmp_path / os.fsdecode(b"h\xf6chst"))
    pipeline.train([load_case(scan, scan.parent / "labels.nii.gz", name=scan.parent.name)], scan.parent / "run", CONFIG)
    folder = RunFolder.open(scan.parent / "run")
    (case,) = load_cases(folder, folder.config())
    assert (case.source, case.name) == (scan, scan.parent.name)
    folder.log(f"read {scan}")
    assert "h\\udcf6chst" in folder.log_file.read_text(encoding="utf-8")
    assert pipeline.resume(folder.path).iteration == 6
