"""Annotated slices: finding them, naming them, merging paintings."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_rada.data.slices import (
    AnnotatedSlice,
    PaintedSlice,
    annotated_mask,
    crossings,
    detect_slices,
    looks_sparse,
    merge_slices,
)
from napari_rada.errors import InputError

SHAPE = (24, 28, 32)


def ball(radius: float = 9.0, centre: tuple[float, float, float] = (12, 14, 16)) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return ((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2).astype(np.uint8)


def painted(dense: np.ndarray, planes: list[AnnotatedSlice]) -> np.ndarray:
    return np.where(annotated_mask(dense.shape, planes), dense, 0)


@st.composite
def planes_through_ball(draw: st.DrawFn) -> list[AnnotatedSlice]:
    """Up to three planes per axis through the ball, none next to another, at least one in all."""
    planes: list[AnnotatedSlice] = []
    for axis, centre in enumerate((12, 14, 16)):
        offsets = draw(st.lists(st.integers(-3, 3), max_size=3, unique=True))
        planes += [AnnotatedSlice(axis, centre + 2 * offset) for offset in offsets]
    return planes or [AnnotatedSlice(0, 12)]


@settings(deadline=None, max_examples=50)
@given(planes_through_ball())
def test_detection_finds_exactly_the_painted_planes(planes: list[AnnotatedSlice]) -> None:
    assert list(detect_slices(painted(ball(), planes))) == sorted(planes)


def test_detection_at_the_border_of_the_volume() -> None:
    planes = [AnnotatedSlice(0, 0), AnnotatedSlice(1, 27), AnnotatedSlice(2, 31)]
    labels = painted(np.ones(SHAPE, dtype=np.uint8), planes)
    assert list(detect_slices(labels)) == planes


def test_neighbouring_slices_are_not_mistaken_for_crossing_ones() -> None:
    planes = [AnnotatedSlice(0, 11), AnnotatedSlice(0, 12), AnnotatedSlice(2, 16)]
    assert list(detect_slices(painted(ball(), planes))) == planes


def test_detection_misses_what_is_one_voxel_thin() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[5, 6, :] = 1
    assert detect_slices(labels) == ()
    assert detect_slices(np.zeros(SHAPE)) == ()


@pytest.mark.parametrize(("tall", "found"), [(3, 1), (2, 0)])
def test_four_voxels_that_no_other_slice_shows_are_enough(tall: int, found: int) -> None:
    """Of a slice of 3x2 voxels the one that crosses it shows two already."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[12, 10:18, 12:20] = 1
    labels[12 : 12 + tall, 14, 12:14] = 1
    planes = [AnnotatedSlice(0, 12), AnnotatedSlice(1, 14)][: 1 + found]
    assert list(detect_slices(labels)) == planes


@pytest.mark.parametrize("axis", [1, 2])
def test_a_structure_of_three_thick_slices_is_found_from_the_side(axis: int) -> None:
    """The middle one was painted, too, and leaves a line on either side of it."""
    labels = np.zeros((9, 24, 24), dtype=np.uint8)
    labels[4, 6:18, 6:18] = 1
    side = AnnotatedSlice(axis, 12)
    labels[side.selector()][3:6, 7:17] = 1
    assert detect_slices(labels) == (AnnotatedSlice(0, 4), side)


def test_more_planes_than_a_byte_counts_are_counted() -> None:
    labels = np.zeros((300, 8, 9), dtype=np.uint8)
    labels[:, 4, :] = 1
    labels[:, :, 5] = 1
    assert detect_slices(labels) == (AnnotatedSlice(1, 4), AnnotatedSlice(2, 5))


def test_detection_takes_little_more_memory_than_the_labels() -> None:
    """It is done after every stroke, in the thread of the window: new memory takes longer there than counting."""
    labels = np.ones((64, 128, 128), dtype=np.uint8)
    tracemalloc.start()
    found = detect_slices(labels)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 64
    assert peak < 1.5 * labels.nbytes


def test_selector_and_mask_agree() -> None:
    plane = AnnotatedSlice(1, 3)
    mask = annotated_mask(SHAPE, [plane])
    assert mask.sum() == SHAPE[0] * SHAPE[2]
    assert mask[plane.selector()].all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_crossings_are_what_other_slices_share(axis: int) -> None:
    plane = AnnotatedSlice(axis, 3)
    others = [AnnotatedSlice(0, 5), AnnotatedSlice(1, 7), AnnotatedSlice(2, 9)]
    shared = annotated_mask(SHAPE, [other for other in others if other.axis != axis])
    assert np.array_equal(crossings(SHAPE, plane, others), shared[plane.selector()])


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (AnnotatedSlice(3, 0), "axis 3 does not exist"),
        (AnnotatedSlice(0, 24), "Slice 24 on axis 0 lies outside the volume; this axis has the slices 0 to 23"),
        (AnnotatedSlice(2, -1), "Slice -1 on axis 2 lies outside"),
    ],
)
def test_slices_outside_are_refused(plane: AnnotatedSlice, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plane.check(SHAPE)


def crossing_paintings() -> list[PaintedSlice]:
    axial = np.zeros((28, 32), dtype=np.uint8)
    axial[10:20, 10:20] = 1
    coronal = np.zeros((24, 32), dtype=np.uint8)
    coronal[8:16, 12:20] = 1
    coronal[12, 10] = 2
    return [PaintedSlice(AnnotatedSlice(0, 12), axial), PaintedSlice(AnnotatedSlice(1, 14), coronal)]


def test_the_later_slice_wins_and_the_conflict_is_told() -> None:
    labels, conflicts = merge_slices(SHAPE, crossing_paintings())
    assert [str(c) for c in conflicts] == ["slice 1:14 and slice 0:12 disagree in 2 voxels; 1:14 was kept"]
    assert labels[12, 14, 10] == 2
    assert labels[12, 14, 11] == 0


def test_the_earlier_slice_wins_if_asked() -> None:
    labels, conflicts = merge_slices(SHAPE, crossing_paintings(), winner="earlier")
    assert [str(c) for c in conflicts] == ["slice 0:12 and slice 1:14 disagree in 2 voxels; 0:12 was kept"]
    assert labels[12, 14, 10] == 1


def test_agreeing_slices_have_no_conflict() -> None:
    planes = [AnnotatedSlice(0, 12), AnnotatedSlice(1, 14), AnnotatedSlice(2, 16)]
    dense = ball()
    labels, conflicts = merge_slices(SHAPE, [PaintedSlice(p, dense[p.selector()]) for p in planes])
    assert conflicts == ()
    np.testing.assert_array_equal(labels, painted(dense, planes))


def test_one_voxel_is_singular() -> None:
    first, second = crossing_paintings()
    second.labels[12, 11] = 1
    _, conflicts = merge_slices(SHAPE, [first, second])
    assert "disagree in 1 voxel;" in str(conflicts[0])


def test_the_same_plane_painted_twice_is_compared_everywhere() -> None:
    plane = AnnotatedSlice(0, 12)
    one, two = np.zeros((28, 32), dtype=np.uint8), np.ones((28, 32), dtype=np.uint8)
    labels, conflicts = merge_slices(SHAPE, [PaintedSlice(plane, one), PaintedSlice(plane, two)])
    assert conflicts[0].voxels == 28 * 32
    assert labels[12].all()


def test_merging_refuses_a_plane_outside() -> None:
    with pytest.raises(InputError, match="outside the volume"):
        merge_slices(SHAPE, [PaintedSlice(AnnotatedSlice(0, 99), np.zeros((28, 32), dtype=np.uint8))])


@settings(deadline=None, max_examples=20)
@given(planes_through_ball())
def test_planes_are_sparse_and_a_ball_is_not(planes: list[AnnotatedSlice]) -> None:
    assert looks_sparse(painted(ball(), planes) != 0)
    assert not looks_sparse(ball() != 0)
