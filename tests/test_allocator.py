"""Whether freed memory is kept while something computes, and given back afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from napari_rada import allocator

PROGRAM = """
import resource
from napari_rada.allocator import freed_memory_kept, give_back

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"1" * (48 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

faults()
print(faults())
with freed_memory_kept():
    faults()
    with freed_memory_kept():
        print(faults())
    print(faults())
    held = resident()
    give_back()
    print(held - resident())
    faults()
    held = resident()
print(held - resident())
print(faults())
"""
PAGES = 48 * 2**20 // 4096

glibc = pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to keep memory")


@pytest.fixture
def fresh():
    allocator._glibc.cache_clear()
    yield
    allocator._glibc.cache_clear()


@glibc
def test_arrays_take_over_freed_memory_while_it_is_kept_and_it_is_given_back_in_the_end():
    command = [sys.executable, "-c", PROGRAM]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603

    usual, nested, kept, between, returned, afterwards = map(int, found.stdout.split())

    assert usual > PAGES / 2  # the system clears the pages of every new array
    assert max(nested, kept) < PAGES / 10
    assert min(between, returned) > PAGES / 2
    assert afterwards > PAGES / 2


@pytest.mark.parametrize("name", ["MALLOC_MMAP_MAX_", "MALLOC_ARENA_MAX"])
def test_what_the_environment_asks_of_the_allocator_stands(monkeypatch, fresh, name):
    monkeypatch.setenv(name, "2")

    assert allocator._glibc() is None


@glibc
def test_nothing_happens_in_a_thread_of_its_own(fresh):
    depths = []

    def compute():
        with allocator.freed_memory_kept():
            depths.append(allocator._depth)

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()

    assert depths == [0]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nothing_happens_without_glibc(monkeypatch, fresh, platform):
    monkeypatch.setattr(sys, "platform", platform)

    with allocator.freed_memory_kept():
        assert allocator._depth == 0


@glibc
def test_an_error_ends_the_keeping_too(fresh):
    def fail():
        with allocator.freed_memory_kept():
            assert allocator._depth == 1
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()

    assert allocator._depth == 0
