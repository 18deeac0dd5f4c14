"""How much memory is free where a container or a scheduler limits it."""

from __future__ import annotations

import errno
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest
import torch

from napari_rada import memory
from napari_rada.errors import NotEnoughMemoryError
from napari_rada.memory import free_memory, is_out_of_memory, keep_within_card, shortage_explained

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = 1000


class Limits:
    """Control groups as files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.files = folder / "cgroup", folder / "files"
        monkeypatch.setattr(memory, "CONTROL_GROUPS", self.own)
        monkeypatch.setattr(memory, "CONTROL_GROUP_FILES", self.files)

    def write(self, path: str, values: dict[str, object]) -> None:
        folder = self.files / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (folder / name).write_text(f"{value}\n")

    def second(self, path: str, limit: object, used: int, cache: int = 0) -> None:
        """Write a group of version 2."""
        stat = f"anon 5\ninactive_file {cache}\nactive_file 7"
        self.write(path, {"memory.max": limit, "memory.current": used, "memory.stat": stat})

    def first(self, path: str, limit: object, used: int, cache: int = 0) -> None:
        """Write a group of version 1."""
        stat = f"cache 5\ntotal_inactive_file {cache}"
        values = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}
        self.write(f"memory/{path}", values)


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Limits:
    class Free(NamedTuple):
        available: int

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Free(MACHINE))
    return Limits(tmp_path, monkeypatch)


def test_without_control_groups_it_is_what_the_machine_has(limits: Limits) -> None:
    assert free_memory() == MACHINE


def test_a_limit_of_version_2_counts_and_cached_files_are_free(limits: Limits) -> None:
    limits.own.write_text("0::/user/job\n")
    limits.second("user/job", 500, 300, cache=40)
    assert free_memory() == 240


def test_the_tightest_of_the_groups_above_counts(limits: Limits) -> None:
    limits.own.write_text("0::/user/job\n")
    limits.second("user/job", "max", 300)
    limits.second("user", 400, 310)
    assert free_memory() == 90


def test_a_container_that_mounts_its_own_group_at_the_root(limits: Limits) -> None:
    limits.own.write_text("0::/docker/0123/job\n")
    limits.second("", 700, 100)
    assert free_memory() == 600


def test_a_limit_of_version_1_counts(limits: Limits) -> None:
    limits.own.write_text("12:cpu,cpuacct:/slurm/job\n7:memory:/slurm/job\n0::/\n")
    limits.first("slurm/job", 450, 250, cache=30)
    limits.first("", 9223372036854771712, 5000)
    assert free_memory() == 230


def test_a_group_that_uses_more_than_it_may_leaves_nothing(limits: Limits) -> None:
    limits.own.write_text("0::/\n")
    limits.second("", 100, 130)
    assert free_memory() == 0


@pytest.mark.parametrize("text", ["", "nonsense\n", "0::/a\n"])
def test_files_that_say_nothing_change_nothing(limits: Limits, text: str) -> None:
    limits.own.write_text(text)
    limits.write("a", {"memory.max": "many", "memory.current": ""})
    assert free_memory() == MACHINE


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no addresses of a process")
def test_a_limit_of_addresses_counts(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    resource, used = pytest.importorskip("resource"), psutil.Process().memory_info().vms
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**50))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (used + 2**40, 2**50))
    assert free_memory() == pytest.approx(2**40, abs=2**30)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (used // 2, 2**50))
    assert free_memory() == 0


class Card:
    """What torch.cuda tells of a card, and is asked to keep to."""

    def __init__(self, free: int, total: int, reserved: int) -> None:
        self.mem_get_info = lambda index: (free, total)
        self.memory_reserved = lambda index: reserved
        self.current_device = lambda: 1
        self.kept: list[tuple[float, int]] = []
        self.set_per_process_memory_fraction = lambda share, index: self.kept.append((share, index))


@pytest.mark.parametrize(
    ("free", "reserved", "share"), [(6, 0, 0.57), (6, 2, 0.77), (10, 0, 0.97), (0, 0, 0.03), (10, 9, 1.0)]
)
def test_on_windows_a_process_keeps_within_what_is_free_on_the_card(
    monkeypatch: pytest.MonkeyPatch, free: int, reserved: int, share: float
) -> None:
    card = Card(free, 10, reserved)
    monkeypatch.setattr(torch, "cuda", card)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    keep_within_card(torch.device("cuda", 0))
    assert card.kept == []
    monkeypatch.setattr(memory.sys, "platform", "win32")
    keep_within_card(torch.device("cpu"))
    assert card.kept == []
    keep_within_card(torch.device("cuda", 0))
    keep_within_card(torch.device("cuda"))
    assert card.kept == [(pytest.approx(share), 0), (pytest.approx(share), 1)]


@pytest.mark.parametrize(
    "message",
    [
        "GET was unable to find an engine to execute this computation",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "Invalid buffer size: 58.92 GB",
        "could not create a primitive",
        "could not execute a primitive",
        "std::bad_alloc",
        "can't start new thread",
    ],
)
def test_shortages_that_do_not_say_so_are_recognised(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))


def test_a_shortage_that_the_system_tells_is_recognised() -> None:
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))


def test_a_library_for_which_there_is_no_room_is_a_shortage_and_one_that_is_missing_is_none() -> None:
    found = ImportError("libtorch_cpu.so: failed to map segment from shared object")

    @shortage_explained
    def load(error: Exception) -> None:
        raise error

    assert is_out_of_memory(found)
    with pytest.raises(NotEnoughMemoryError, match="Memory ran out"):
        load(found)
    with pytest.raises(ImportError, match="No module named 'torch'"):
        load(ImportError("No module named 'torch'"))


def test_what_onednn_cannot_do_at_all_is_no_shortage() -> None:
    unsupported = "could not create a primitive descriptor for the matmul primitive. Run workload with environment"
    assert not is_out_of_memory(RuntimeError(unsupported))
