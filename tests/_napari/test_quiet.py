"""Full garbage collections wait while something is computed."""

from __future__ import annotations

import gc

from napari_rada._napari.quiet import NEVER, no_full_collections


def test_full_collections_wait_until_the_last_block_ends():
    before = gc.get_threshold()
    first, second = no_full_collections(), no_full_collections()
    first.__enter__()
    second.__enter__()
    assert gc.get_threshold() == (*before[:2], NEVER)
    first.__exit__(None, None, None)
    assert gc.get_threshold()[2] == NEVER
    second.__exit__(None, None, None)
    assert gc.get_threshold() == before


def test_young_objects_are_still_collected():
    with no_full_collections():
        collected = gc.get_stats()[0]["collections"]
        kept = [[] for _ in range(100_000)]
        assert gc.get_stats()[0]["collections"] > collected
    assert len(kept) == 100_000
