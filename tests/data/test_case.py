"""Cases: what is accepted, and in which words the rest is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_rada.data.case import Case, check_trainable
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError

SHAPE = (8, 10, 12)
THREE = [(0, 4), (1, 5), (2, 6)]


def image(dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)


def labels(dtype: Any = np.uint8) -> np.ndarray:
    dense = np.zeros(SHAPE, dtype=dtype)
    dense[2:6, 3:8, 4:10] = 1
    return dense


@pytest.mark.parametrize("dtype", [bool, "u1", "i2", ">i2", ">u4", "f2", ">f4", ">f8", "i8"])
def test_any_real_image_becomes_native_float32(dtype: str) -> None:
    case = Case.create(image(dtype))
    assert case.image.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(case.image, image(dtype).astype(np.float32))
    assert case.image.flags.c_contiguous


def test_unlabelled_case() -> None:
    case = Case.create(image(), spacing=(3.0, 2.0, 1.0), name="scan")
    assert not case.is_labelled
    assert (case.labels, case.annotated, case.classes) == (None, (), None)
    assert case.grid.spacing == pytest.approx((3.0, 2.0, 1.0))
    assert not case.known.any()


def test_labels_outside_the_annotated_slices_are_forgotten() -> None:
    case = Case.create(image(), labels(), slices=[(0, 4)])
    assert case.labels is not None
    assert case.labels[4].any()
    assert not np.delete(case.labels, 4, axis=0).any()
    assert case.known.sum() == SHAPE[1] * SHAPE[2]


def test_slices_are_sorted_and_unique() -> None:
    case = Case.create(image(), labels(), slices=[(2, 6), AnnotatedSlice(0, 4), (2, 6)])
    assert case.annotated == (AnnotatedSlice(0, 4), AnnotatedSlice(2, 6))


def test_slices_are_detected() -> None:
    sparse = Case.create(image(), labels(), slices=THREE).labels
    assert sparse is not None
    assert [(s.axis, s.index) for s in Case.create(image(), sparse).annotated] == THREE


def test_empty_annotated_slices_are_possible() -> None:
    case = Case.create(image(), labels(), slices=[(0, 0), (0, 4)])
    assert case.known[0].all()
    assert case.labels is not None
    assert not case.labels[0].any()


@pytest.mark.parametrize("dtype", [bool, "u2", ">i4", "f8"])
def test_whole_labels_of_any_dtype(dtype: str) -> None:
    case = Case.create(image(), labels(dtype), slices=THREE)
    assert case.labels is not None
    assert case.labels.dtype == np.uint16
    assert case.classes is not None
    assert case.classes.values == (0, 1)


def test_non_finite_voxels_are_replaced_if_asked() -> None:
    bad = image()
    bad[0, 0, :3] = [np.nan, np.inf, -np.inf]
    case = Case.create(bad, non_finite="replace")
    np.testing.assert_array_equal(case.image[0, 0, :3], np.nanmin(bad[np.isfinite(bad)]))
    np.testing.assert_array_equal(case.image[1:], bad[1:])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((5, 5)), r"scan: the image has 2 dimensions \(5, 5\); a single 3D volume is needed"),
        (np.zeros((2, 5, 5, 5)), r"has 4 dimensions .* Choose one channel or time point first"),
        (image().astype(complex), r"values of type complex128; real numbers are needed"),
        (np.array([[["a"] * 2] * 2] * 2), r"values of type <U1; real numbers"),
        (image()[:1], r"shape \(1, 10, 12\); at least 2 voxels along every axis"),
        (np.full(SHAPE, 7), r"every voxel of the image is 7; a constant image cannot be segmented"),
        (labels(np.float64) + 1e8, r"from 100000000\.0 to 10000000\d\.0, lie too close .* subtract the smallest value"),
        (np.full(SHAPE, np.nan), r"every voxel of the image is NaN or infinite"),
        (np.where(image() == image().max(), np.nan, image()), r"set data\.non_finite to replace"),
        (image(np.float64) * 1e300, r"NaN or infinite"),
    ],
)
def test_bad_images_are_refused(bad: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Case.create(bad, name="scan")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("scan.nii.gz", r"scan: a path was given as the {what}, 'scan\.nii\.gz'; read files with load_case\."),
        (Path("scan.nii.gz"), r"a path was given as the {what}, 'scan\.nii\.gz'"),
        ([[1, 2], [3]], r"scan: the {what} cannot be read as an array \(.*inhomogeneous.*\); give one of NumPy\."),
        (torch.zeros(SHAPE, dtype=torch.bfloat16), r"the {what} cannot be read as an array \(.*BFloat16\)"),
        (torch.zeros(SHAPE, requires_grad=True), r"the {what} cannot be read as an array \(.*detach\(\)"),
        (np.ma.masked_less(np.arange(np.prod(SHAPE)).reshape(SHAPE), 5), r"some voxels of the {what} are masked; fill"),
    ],
)
def test_what_is_no_array_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.format(what="image")):
        Case.create(given, name="scan")
    with pytest.raises(InputError, match=message.format(what="labels")):
        Case.create(image(), given, name="scan")


def test_an_array_that_masks_nothing_is_one() -> None:
    np.testing.assert_array_equal(Case.create(np.ma.masked_array(image())).image, image())


@pytest.mark.parametrize("classes", [{1: "organ"}, ["organ"], ClassInfo(1, "organ")])
def test_classes_that_are_no_table_are_refused(classes: Any) -> None:
    with pytest.raises(InputError, match=r"^scan: the classes are given as a \w+; give a ClassTable, as of"):
        Case.create(image(), classes=classes, name="scan")


def test_slices_without_labels_are_refused() -> None:
    with pytest.raises(InputError, match=r"^scan: slices are named but there are no labels; give those too\.$"):
        Case.create(image(), slices=THREE, name="scan")


def with_value(value: float, dtype: str = "f8") -> np.ndarray:
    bad = labels(dtype)
    bad[4, 5, 6] = value
    return bad


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (labels()[1:], r"scan: the labels have shape \(7, 10, 12\) but the image has \(8, 10, 12\)"),
        (labels(complex), r"values of type complex128; whole numbers"),
        (with_value(0.5), r"hold fractions or NaN"),
        (with_value(np.nan), r"hold fractions or NaN"),
        (with_value(-1, "i2"), r"values from -1 to 1; they must lie in 0\.\.65535: give every structure"),
        (with_value(5e9), r"values from 0 to 5000000000; they must lie in 0\.\.65535: give every structure"),
        (with_value(1e30), r"from 0 to 1e\+30"),
        (with_value(2**63, "u8"), r"they must lie in 0\.\.65535"),
        (np.arange(960).reshape(SHAPE), r"960 different values and look like an image; name the image first"),
        (np.zeros(SHAPE, np.uint8), r"the labels are empty; paint three slices, or name the annotated slices"),
        (np.eye(8, 10, dtype=np.uint8)[..., None] * np.eye(1, 12, dtype=np.uint8)[0], r"one voxel thin"),
    ],
)
def test_bad_labels_are_refused(bad: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Case.create(image(), bad, name="scan")


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ("0:4", "'0:4' names no slices; write pairs"),
        (7, "7 names no slices; write pairs"),
        ([0, 4, 5], "Slice 0 is no pair of whole numbers"),
        ([(0, 4, 1)], r"Slice \(0, 4, 1\) is no pair"),
        ([("0", "4")], "pair of whole numbers"),
        ([], "list of annotated slices is empty"),
        ([(0, 8)], "Slice 8 on axis 0"),
        ([(3, 0)], "axis 3 does not exist"),
    ],
)
def test_bad_slices_are_refused(slices: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Case.create(image(), labels(), slices=slices)


def test_one_slice_needs_no_list() -> None:
    for one in ((2, 6), [2, 6], AnnotatedSlice(2, 6), iter([(2, 6)])):
        assert Case.create(image(), labels(), slices=one).annotated == (AnnotatedSlice(2, 6),)  # type: ignore[arg-type]


@pytest.mark.parametrize("spacing", [1.0, (1.0, 1.0), (-1.0, 1.0, 1.0), ("a", 1.0, 1.0)])
def test_a_spacing_has_three_positive_numbers(spacing: Any) -> None:
    with pytest.raises(InputError, match="is not three positive numbers; write mm along"):
        Case.create(image(), spacing=spacing)


def test_what_to_do_with_nan_is_one_of_two_words() -> None:
    with pytest.raises(InputError, match="no choice 'Replace' for non_finite; use 'refuse' or 'replace'"):
        Case.create(image(), non_finite="Replace")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, -1.0, 0.5, 1e9])
def test_what_lies_outside_named_slices_is_not_looked_at(value: float) -> None:
    painted = labels("f4")
    painted[0, 0, 0] = value
    assert Case.create(image(), painted, slices=THREE).annotated == tuple(AnnotatedSlice(*plane) for plane in THREE)
    with pytest.raises(InputError, match="the labels hold"):
        Case.create(image(), painted)
    with pytest.raises(InputError, match="the labels hold"):
        Case.create(image(), painted, slices=[(0, 0)])


def test_values_that_a_header_scales_are_whole_to_rounding() -> None:
    scaled = (labels("f4") * 255) * np.float32(1 / 255 + 1e-9)
    case = Case.create(image(), scaled + np.float32(1e-7), slices=THREE)
    assert case.classes is not None
    assert case.classes.values == (0, 1)


def test_the_grid_must_fit() -> None:
    with pytest.raises(InputError, match=r"has shape \(8, 10, 12\) but its geometry is for \(8, 10, 13\)"):
        Case.create(image(), grid=Grid.from_spacing((8, 10, 13)))


def test_labels_must_be_in_the_given_classes() -> None:
    with pytest.raises(InputError, match=r"values \[1\], but the classes are \[0, 2\]"):
        Case.create(image(), labels(), slices=THREE, classes=ClassTable.from_values([2]))


def test_nothing_labelled_cannot_be_trained() -> None:
    with pytest.raises(InputError, match="No case has annotated slices; paint at least one slice"):
        check_trainable([Case.create(image())])


@pytest.mark.parametrize(
    ("painted", "only"), [(labels() * 0, r"background \(0\)"), (np.ones(SHAPE, dtype=np.uint8), "label 1")]
)
def test_one_class_cannot_be_trained(painted: np.ndarray, only: str) -> None:
    with pytest.raises(InputError, match=f"The annotated slices hold only {only}"):
        check_trainable([Case.create(image(), painted, slices=[(0, 4)])])


def test_one_labelled_case_gives_its_classes() -> None:
    classes = ClassTable((ClassInfo(0, "background"), ClassInfo(1, "liver"), ClassInfo(2, "spleen")))
    case = Case.create(image(), labels(), slices=THREE, classes=classes)
    assert check_trainable([case, Case.create(image())]) == classes


def test_cohorts_get_the_classes_of_all_cases() -> None:
    liver = ClassTable((ClassInfo(0, "background"), ClassInfo(1, "liver")))
    first = Case.create(image(), labels(), slices=THREE, classes=liver)
    second = Case.create(image(), labels() * 4, slices=THREE)
    merged = check_trainable([first, second])
    assert [(info.value, info.name) for info in merged.classes] == [(0, "background"), (1, "liver"), (4, "label 4")]


def test_the_widest_table_of_a_cohort_is_kept() -> None:
    wide = ClassTable((ClassInfo(0, "background"), ClassInfo(4, "spleen", "a spleen"), ClassInfo(1, "liver")))
    first = Case.create(image(), labels(), slices=THREE)
    second = Case.create(image(), labels() * 4, slices=THREE, classes=wide)
    assert check_trainable([first, second]) == wide


def named(case: str, *infos: ClassInfo) -> Case:
    painted = np.where(np.indices(SHAPE)[2] > 6, labels() * infos[-1].value, labels() * infos[0].value)
    table = ClassTable((ClassInfo(0, "background"), *infos))
    return Case.create(image(), painted, slices=THREE, classes=table, name=case)


def test_a_class_keeps_the_name_and_the_prompt_that_any_case_gives_it() -> None:
    bare = named("bare", ClassInfo(1, "label 1"), ClassInfo(2, "label 2"))
    told = named("told", ClassInfo(1, "liver", "a scan of the liver"), ClassInfo(2, "Spleen"))
    more = named("more", ClassInfo(1, "LIVER"), ClassInfo(3, "label 3"))
    liver, spleen = told.classes.classes[1:] if told.classes else ()
    for cases in ([bare, told], [told, bare]):
        assert check_trainable(cases).classes[1:] == (liver, spleen)
    assert check_trainable([told, more]).classes[1:] == (liver, spleen, ClassInfo(3, "label 3"))


def test_one_value_must_mean_one_structure_in_all_cases() -> None:
    first = named("a", ClassInfo(1, "liver"), ClassInfo(2, "spleen"))
    other = named("d", ClassInfo(1, "spleen"), ClassInfo(2, "liver"))
    with pytest.raises(InputError, match="a calls the label value 1 'liver' and d calls it 'spleen'; one value must"):
        check_trainable([first, other])


def test_names_that_are_told_apart_by_their_values_are_alike() -> None:
    twins = named("a", ClassInfo(1, "kidney"), ClassInfo(2, "kidney"))
    one = named("b", ClassInfo(2, "Kidney"))
    assert [info.name for info in check_trainable([twins, one]).classes[1:]] == ["kidney", "kidney (2)"]


def test_numbers_of_numpy_name_slices_and_spacing() -> None:
    found = Case.create(
        image(),
        labels(),
        slices=[(np.int64(0), np.argmax(labels().sum(axis=(1, 2))))],
        spacing=np.array([2.0, 1.0, 1.0]),
    )
    (plane,) = found.annotated
    assert plane == AnnotatedSlice(0, 2)
    assert [type(number) for number in (plane.axis, plane.index)] == [int, int]
    assert found.grid.spacing == (2.0, 1.0, 1.0)


@pytest.mark.parametrize("plane", [(0, 4.0), (0, "4"), (None, 4)])
def test_slices_that_no_whole_numbers_name_are_refused(plane: Any) -> None:
    with pytest.raises(InputError, match="pair of whole numbers"):
        Case.create(image(), labels(), slices=[plane])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_many_classes_are_no_image(axis: int) -> None:
    many = np.repeat(np.arange(1, 41), 24).reshape(SHAPE)
    case = Case.create(image(), many, slices=[(axis, 4)])
    assert case.classes is not None
    assert len(case.classes) > 5
    whole = Case.create(image(), many, slices=[(0, index) for index in range(SHAPE[0])])
    assert whole.classes is not None
    assert len(whole.classes) == 41


def test_an_image_given_as_labels_is_refused_with_slices_named_too() -> None:
    """What lies outside the slices is all 0, and alike; it says nothing."""
    values = np.random.default_rng(0).integers(1, 200, (20, 21, 22))
    with pytest.raises(InputError, match="look like an image"):
        Case.create(values, values, slices=[(0, 3), (1, 4), (2, 5)])
