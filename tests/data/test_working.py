"""The working grid: cropping, coarsening, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_rada.data.box import box_shape, foreground_box
from napari_rada.data.case import Case
from napari_rada.data.classes import UNKNOWN, ClassTable
from napari_rada.data.intensity import normalise
from napari_rada.data.resampling import block_mean
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.data.working import (
    EMPTY,
    coarsen,
    coarsening_factors,
    grid_factors,
    make_working_case,
    make_working_cases,
    regrid,
)

SHAPE = (20, 30, 40)
THREE = [(0, 10), (1, 15), (2, 20)]
CLASSES = ClassTable.from_values([1])


def make_case(*, labelled: bool = True, slices: list[tuple[int, int]] = THREE) -> Case:
    image = np.random.default_rng(0).normal(100, 20, SHAPE)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[6:14, 10:20, 12:28] = 1
    return Case.create(image, labels if labelled else None, slices=slices if labelled else None, spacing=(2, 1, 1))


def test_the_full_grid_keeps_the_annotation() -> None:
    case = make_case()
    working = make_working_case(case, CLASSES)
    assert case.labels is not None
    np.testing.assert_array_equal(working.truth, np.where(case.known, case.labels.astype(int), UNKNOWN))
    assert (working.shape, working.factors, working.spacing) == (SHAPE, (1, 1, 1), (2.0, 1.0, 1.0))
    assert working.slices == tuple((AnnotatedSlice(axis, index),) for axis, index in THREE)


def test_views_mark_their_planes() -> None:
    working = make_working_case(make_case(), CLASSES)
    for view, (axis, index) in enumerate(THREE):
        marked = (working.views >> view) & 1
        assert np.take(marked, index, axis).all()
        assert marked.sum() == np.prod(SHAPE) // SHAPE[axis]


def test_empty_slices_are_known_to_everybody_and_are_no_view() -> None:
    """Beside parallel slices an empty one of another direction does not make one view of them."""
    parallel = [(0, 7), (0, 10), (0, 13)]
    empty = [(0, 2), (1, 0)]
    working = make_working_case(make_case(slices=[*parallel, *empty]), CLASSES)
    assert working.slices == tuple((AnnotatedSlice(*plane),) for plane in parallel)
    assert working.empty == tuple(AnnotatedSlice(*plane) for plane in empty)
    assert (working.views[2] == 1 << EMPTY).all()
    assert (working.views[7, 0] == 1 << EMPTY | 1).all()
    assert (working.truth[2] == 0).all()
    coarse = coarsen(working, (2, 2, 2))
    assert coarse.empty == (AnnotatedSlice(0, 1), AnnotatedSlice(1, 0))
    assert (coarse.views[1] == 1 << EMPTY).all()


def test_if_all_slices_are_empty_they_are_the_views() -> None:
    working = make_working_case(make_case(slices=[(0, 2), (1, 0)]), CLASSES)
    assert working.slices == ((AnnotatedSlice(0, 2),), (AnnotatedSlice(1, 0),), ())
    assert working.empty == ()


def test_the_grid_keeps_empty_slices_apart_from_others() -> None:
    """In one block they would vote together, and the structure would end there."""
    for working in make_working_cases(make_case(slices=[(0, 6), (0, 5)]), CLASSES, max_voxels=4096, aligned=True):
        assert working.factors[0] > 1
        assert working.slices[0][0].index - 1 == working.empty[0].index


def test_an_empty_slice_in_the_plane_of_another_votes_there_and_is_of_its_view() -> None:
    """Else the view would have no voxels of its own by which networks can be judged, and all would be taught them."""
    coarse = coarsen(make_working_case(make_case(slices=[(0, 13), (0, 14), (1, 15)]), CLASSES), (4, 1, 1))
    assert (coarse.slices[0], coarse.empty) == ((AnnotatedSlice(0, 3),), ())
    assert (coarse.views == 1).any()
    assert not (coarse.views & (1 << EMPTY)).any()


def test_unlabelled_cases_have_no_truth() -> None:
    working = make_working_case(make_case(labelled=False), CLASSES, crop_margin=0.5)
    assert not working.is_labelled
    assert (working.truth == UNKNOWN).all()
    assert not working.views.any()
    assert working.shape == SHAPE


@given(st.tuples(*[st.tuples(st.integers(0, 9), st.integers(0, 9))] * 3), st.sampled_from([None, 4096]))
def test_filling_around_a_scan_that_nobody_annotated_changes_nothing(
    widths: tuple[tuple[int, int], ...], max_voxels: int | None
) -> None:
    case = make_case(labelled=False)
    padded = Case.create(np.pad(case.image, widths, constant_values=case.image.min()), spacing=(2, 1, 1))
    own, other = (make_working_case(one, CLASSES, max_voxels=max_voxels) for one in (case, padded))
    np.testing.assert_array_equal(other.image, own.image)
    assert (other.factors, other.spacing) == (own.factors, own.spacing)
    assert make_working_case(padded, CLASSES, whole=True).shape == padded.grid.shape
    probability = np.stack([own.image, 1 - own.image])
    full = np.pad(own.to_full(probability), ((0, 0), *widths))
    outside = np.pad(np.zeros(SHAPE, dtype=bool), widths, constant_values=True)
    full[0, outside] = 1
    np.testing.assert_array_equal(other.to_full(probability), full)


def test_a_slice_outside_the_crop_is_dropped() -> None:
    working = make_working_case(make_case(slices=[*THREE, (2, 39)]), CLASSES, crop_margin=0.0)
    assert [len(group) for group in working.slices] == [1, 1, 1]
    assert working.box == ((2, 2, 4), (18, 28, 36))


def test_crop_leaves_a_margin_of_the_finest_spacing() -> None:
    start, end = foreground_box(make_case(), 0.0)
    assert start == (6 - 4, 10 - 8, 12 - 8)
    assert end == (14 + 4, 20 + 8, 28 + 8)
    assert foreground_box(make_case(), None) == ((0, 0, 0), SHAPE)
    assert foreground_box(make_case(), 10.0) == ((0, 0, 0), SHAPE)


def test_empty_annotation_is_not_cropped() -> None:
    assert foreground_box(make_case(slices=[(0, 0)]), 0.0) == ((0, 0, 0), SHAPE)


@given(
    st.tuples(*[st.integers(2, 300)] * 3),
    st.tuples(*[st.floats(0.1, 10)] * 3),
    st.integers(4096, 1_000_000),
)
def test_coarsening_stops_as_soon_as_it_fits(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], most: int
) -> None:
    factors = coarsening_factors(shape, spacing, most)
    size = [-(-n // f) for n, f in zip(shape, factors, strict=True)]
    assert np.prod(size) <= most or max(size) < 16
    assert all(n >= 8 or f == 1 for n, f in zip(size, factors, strict=True))
    # The last of the halvings was needed: without it the volume would have been too large.
    before = [[f // 2 if a == axis else f for a, f in enumerate(factors)] for axis in range(3) if factors[axis] > 1]
    sizes = [np.prod([-(-n // f) for n, f in zip(shape, undone, strict=True)]) for undone in before]
    assert not sizes or max(sizes) > most


@pytest.mark.parametrize(
    ("shape", "target", "factors"),
    [((64, 64, 64), (6.0, 2.0, 0.5), (8, 2, 1)), ((40, 16, 15), (100.0, 8.0, 8.0), (4, 2, 1))],
)
def test_a_spacing_is_met_as_far_as_eight_voxels_are_left(
    shape: tuple[int, int, int], target: tuple[float, float, float], factors: tuple[int, int, int]
) -> None:
    assert grid_factors(shape, (1.0, 1.0, 1.0), 10, target) == factors


def test_the_finest_axis_is_coarsened_first() -> None:
    assert coarsening_factors((64, 128, 128), (4.0, 1.0, 1.0), 64 * 64 * 64) == (1, 2, 2)
    assert coarsening_factors((64, 64, 64), (1.0, 1.0, 1.0), None) == (1, 1, 1)


def test_cropped_and_coarse_probabilities_come_back() -> None:
    case = make_case()
    working = make_working_case(case, CLASSES, max_voxels=4096, crop_margin=0.1)
    assert working.factors != (1, 1, 1)
    assert box_shape(working.box) != SHAPE
    probability = np.stack([np.zeros(working.shape), np.ones(working.shape)]).astype(np.float32)
    full = working.to_full(probability)
    assert full.shape == (2, *SHAPE)
    np.testing.assert_allclose(full.sum(axis=0), 1.0, atol=1e-6)
    inside = np.zeros(SHAPE, dtype=bool)
    inside[tuple(slice(a, b) for a, b in zip(*working.box, strict=True))] = True
    np.testing.assert_allclose(full[1], inside, atol=1e-6)


def test_coarse_annotation_follows_the_majority() -> None:
    case = make_case()
    working = make_working_case(case, CLASSES, max_voxels=4096)
    assert [group[0] for group in working.slices] == [
        AnnotatedSlice(axis, index // working.factors[axis]) for axis, index in THREE
    ]
    axis, index = THREE[2]
    assert case.labels is not None
    fine = (np.take(case.labels, index, axis) == 1).mean()
    coarse = (np.take(working.truth, index // working.factors[axis], axis) == 1).mean()
    assert coarse == pytest.approx(fine, abs=0.05)


def test_neighbouring_slices_become_one_coarse_slice() -> None:
    working = make_working_case(make_case(slices=[(1, 14), (1, 15), (0, 10)]), CLASSES, max_voxels=4096)
    assert working.factors[1] == 2
    assert working.slices[1] == (AnnotatedSlice(1, 7),)


FINE = (40, 60, 80)
OFF_CENTRE = [(0, 20), (1, 31), (2, 42)]


def fine_case(slices: list[tuple[int, int]] = OFF_CENTRE) -> Case:
    z, y, x = np.indices(FINE)
    labels = (((z - 20) / 10) ** 2 + ((y - 31) / 14) ** 2 + ((x - 42) / 20) ** 2 <= 1).astype(np.uint8)
    return Case.create(labels * 100 + z, labels, slices=slices)


def test_annotated_slices_lie_on_both_sides_of_the_middle_of_their_blocks() -> None:
    first, second = make_working_cases(fine_case(), CLASSES, aligned=True, max_voxels=6000, crop_margin=0.25)
    for after, working in enumerate((first, second)):
        assert working.factors == (2, 4, 4)
        for (axis, index), (plane,) in zip(OFF_CENTRE, working.slices, strict=True):
            factor, inside = working.factors[axis], index - working.box[0][axis] + working.padding[axis]
            assert (inside % factor, inside // factor) == (factor // 2 - 1 + after, plane.index)


def test_several_slices_of_an_axis_come_as_close_to_the_middle_as_they_can() -> None:
    slices = [*OFF_CENTRE, (2, 45), (2, 46)]  # 2, 1 and 2 of 4 with a padding of 0
    first, second = make_working_cases(fine_case(slices), CLASSES, aligned=True, max_voxels=3000)
    assert (first.factors[2], first.padding[2], second.padding[2]) == (4, 3, 0)


def test_an_axis_without_slices_is_shifted_by_half_a_block() -> None:
    first, second = make_working_cases(fine_case([(0, 20), (1, 31)]), CLASSES, aligned=True, max_voxels=3000)
    assert (first.padding[2], second.padding[2]) == (0, first.factors[2] // 2)


def test_a_grid_that_is_not_coarsened_has_one_alignment() -> None:
    (only,) = make_working_cases(fine_case(), CLASSES, aligned=True)
    assert (only.factors, only.padding) == ((1, 1, 1), (0, 0, 0))


def test_what_is_padded_comes_back_in_place() -> None:
    """A ramp along each axis is the same ramp after it was averaged and brought back."""
    case = Case.create(np.indices(FINE).sum(axis=0).astype(np.float32), fine_case().labels, slices=OFF_CENTRE)
    for working in make_working_cases(case, CLASSES, aligned=True, max_voxels=6000, crop_margin=0.25):
        assert any(working.padding)
        ramp = np.stack([working.image, 1 - working.image])
        inside = tuple(slice(first + 5, end - 5) for first, end in zip(*working.box, strict=True))
        expected = normalise(case.image, (1, 99), None, "scan")[inside]
        np.testing.assert_allclose(working.to_full(ramp)[0][inside], expected, atol=1e-4)
        np.testing.assert_allclose(working.map_to_full(working.image)[inside], expected, atol=1e-4)


def test_a_padded_annotation_follows_the_majority_of_its_own_plane() -> None:
    case = fine_case()
    assert case.labels is not None
    for working in make_working_cases(case, CLASSES, aligned=True, max_voxels=6000, crop_margin=0.25):
        for (plane,) in working.slices:
            share = (working.truth[plane.selector()] == 1).sum() / (
                case.labels.take(*reversed(OFF_CENTRE[plane.axis])) == 1
            ).sum()
            block = np.prod([factor for axis, factor in enumerate(working.factors) if axis != plane.axis])
            assert share * block == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("made_on", "wanted"), [(0, 1), (1, 0), (0, 2), (2, 0), (2, 1)])
def test_values_come_to_another_grid_of_the_box_as_by_way_of_the_full_one(made_on: int, wanted: int) -> None:
    first, second = make_working_cases(fine_case(), CLASSES, aligned=True, max_voxels=3000, finer_voxels=12_000)
    assert first.finer is not None
    assert first.finer is second.finer
    assert first.finer.padding == (0, 0, 0)
    assert np.prod(first.shape) < np.prod(first.finer.shape) <= 12_000
    here, there = ((first, second, first.finer)[number] for number in (made_on, wanted))
    values = np.random.default_rng(0).random((2, *here.shape), dtype=np.float32)
    expected = [block_mean(full, there.factors, there.padding) for full in here.to_box(values)]
    np.testing.assert_allclose(regrid(values, here, there), expected, atol=1e-6)


def test_slices_that_fall_into_one_plane_vote_together() -> None:
    """A structure that ends between two annotated slices does not vanish."""
    labels = np.zeros((40, 16, 16), dtype=np.uint8)
    labels[10:21, 4:12, 4:12] = 1
    image = np.random.default_rng(0).normal(labels, 0.1)
    case = Case.create(image, labels, slices=[(0, 12), (0, 13), (0, 20), (0, 21), (1, 8)])
    (whole,) = make_working_cases(case, CLASSES)
    coarse = coarsen(whole, (2, 1, 1))
    assert [plane.index for plane in coarse.slices[0]] == [6, 10]
    for plane, fine in ((10, 20), (6, 12)):
        np.testing.assert_array_equal(coarse.truth[plane, :8], labels[fine, :8])


def test_the_grid_is_put_so_that_slices_stay_apart() -> None:
    case = fine_case([(0, 20), (0, 21), (1, 30), (2, 40)])
    for part in make_working_cases(case, CLASSES, aligned=True, max_voxels=3000):
        assert part.factors[0] > 1
        assert len(part.slices[0]) == 2


def test_equal_spacings_of_an_oblique_scan_are_equal() -> None:
    """Rounding noise must not decide which axis is halved."""
    noise = np.nextafter(0.5, 1.0)
    for spacing in ((0.5, noise, 0.5), (noise, 0.5, 0.5), (0.5, 0.5, noise)):
        assert coarsening_factors((40, 50, 60), spacing, 60_000) == (1, 1, 2)
