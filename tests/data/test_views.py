"""Annotated slices as views."""

from __future__ import annotations

import pytest

from napari_rada.data.slices import AnnotatedSlice
from napari_rada.data.views import view_of_slices


@pytest.mark.parametrize(
    ("slices", "groups"),
    [
        ([(0, 1), (1, 2), (2, 3)], [[(0, 1)], [(1, 2)], [(2, 3)]]),
        ([(2, 9), (2, 3), (0, 1)], [[(0, 1)], [], [(2, 3), (2, 9)]]),
        ([(1, 8), (1, 2), (1, 14), (1, 20)], [[(1, 2), (1, 20)], [(1, 8)], [(1, 14)]]),
        ([(0, 3), (0, 5), (0, 4)], [[(0, 3)], [(0, 4)], [(0, 5)]]),
        ([(0, 20), (0, 21)], [[(0, 20)], [(0, 21)], []]),
        ([(0, i) for i in (4, 5, 6, 7, 8)], [[(0, 4), (0, 5)], [(0, 6), (0, 7)], [(0, 8)]]),
        ([(0, i) for i in (4, 5, 8, 9, 16, 20)], [[(0, 4), (0, 5), (0, 20)], [(0, 8), (0, 9)], [(0, 16)]]),
        ([], [[], [], []]),
    ],
)
def test_slices_are_split_into_views(slices: list[tuple[int, int]], groups: list[list[tuple[int, int]]]) -> None:
    found = view_of_slices(tuple(AnnotatedSlice(*s) for s in slices))
    assert [[(s.axis, s.index) for s in group] for group in found] == groups
