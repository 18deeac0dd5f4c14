"""Annotated slices as views: what each of the three networks is, or is not, taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.data.case import Case
    from napari_rada.data.slices import AnnotatedSlice

NEIGHBOURS = (4, 2, 1)
"""So many slices along an axis go together as neighbours, the first number that leaves enough for every view."""


def split_slices(case: Case) -> tuple[tuple[tuple[AnnotatedSlice, ...], ...], tuple[AnnotatedSlice, ...]]:
    """Split the annotated slices of a case into the three views, and those that show nothing.

    An empty slice says where no structure is, which everybody may know: nothing in it can be carried on, and what was
    propagated without it cannot be judged by it. Were it a view, it would say "nothing" wherever it is carried to, and
    slices of one direction beside it would be one view, without which nothing is left. Where all slices are empty, they
    are the views.
    """
    shown = [case.labels is None or bool(case.labels[plane.selector()].any()) for plane in case.annotated]
    if not any(shown):
        return view_of_slices(case.annotated), ()
    telling = tuple(plane for plane, shows in zip(case.annotated, shown, strict=True) if shows)
    empty = tuple(plane for plane, shows in zip(case.annotated, shown, strict=True) if not shows)
    return view_of_slices(telling), empty


def view_of_slices(slices: tuple[AnnotatedSlice, ...], views: int = 3) -> tuple[tuple[AnnotatedSlice, ...], ...]:
    """Split annotated slices into the three views.

    With slices on two or three axes a view is an axis. With all slices on one axis they are dealt out in turn, so
    that each network still has slices that it was not taught; neighbours, which fall into one plane of a coarser grid,
    go together where enough others are left.
    """
    axes = {plane.axis for plane in slices}
    groups: list[list[AnnotatedSlice]] = [[] for _ in range(views)]
    ordered = sorted(slices)
    turns = [plane.axis for plane in ordered] if len(axes) > 1 else _turns([plane.index for plane in ordered], views)
    for turn, plane in zip(turns, ordered, strict=True):
        groups[turn % views].append(plane)
    return tuple(tuple(group) for group in groups)


def _turns(indices: Sequence[int], views: int) -> list[int]:
    """Return the number of the run of neighbours that each of some sorted slices is in; `views` runs, if it can be."""
    runs: list[int] = []
    for length in NEIGHBOURS:
        blocks = [index // length for index in indices]
        runs = [sorted(set(blocks)).index(block) for block in blocks]
        if len(set(blocks)) >= views:
            break
    return runs
