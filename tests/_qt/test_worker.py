"""Threads that docks start."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QThreadPool

from napari_rada._qt import worker


@pytest.mark.parametrize(("platform", "stack"), [("darwin", worker.STACK_BYTES), ("linux", 0)])
def test_threads_have_room_on_a_mac(qapp, monkeypatch, platform, stack):
    pool = QThreadPool.globalInstance()
    before = pool.stackSize()
    try:
        pool.setStackSize(0)
        monkeypatch.setattr(worker.sys, "platform", platform)
        worker.prepare_threads()
        assert pool.stackSize() == stack
    finally:
        pool.setStackSize(before)


@pytest.mark.parametrize(("before", "after"), [(1, worker.THREADS), (64, 64)])
def test_a_preview_does_not_wait_for_training_on_one_processor(qapp, before, after):
    pool = QThreadPool.globalInstance()
    found = pool.maxThreadCount()
    try:
        pool.setMaxThreadCount(before)
        worker.prepare_threads()
        assert pool.maxThreadCount() == after
    finally:
        pool.setMaxThreadCount(found)
