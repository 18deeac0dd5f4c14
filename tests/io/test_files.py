"""What libraries log about files."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from napari_rada.io.files import log_caught

if TYPE_CHECKING:
    import pytest

LIBRARY = logging.getLogger("a library")


def test_each_thread_hears_of_its_own_file(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other, ExitStack() as first, ExitStack() as second:
        early = one.submit(first.enter_context, log_caught(LIBRARY.name)).result()
        late = other.submit(second.enter_context, log_caught(LIBRARY.name)).result()
        one.submit(LIBRARY.warning, "cut off").result()
        one.submit(first.close).result()
        other.submit(LIBRARY.warning, "rare kind").result()
        other.submit(second.close).result()
    assert (early, late) == (["cut off"], ["rare kind"])
    assert not caplog.records
    LIBRARY.warning("shown again")
    assert caplog.messages == ["shown again"]
