"""The simulation of adding slices, on a tiny volume."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import yaml
from tests.engine import CENTRE, ball, ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassTable
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.evaluation.suggestion_benchmark import (
    STRATEGIES,
    Course,
    choose,
    follow,
    main,
    middle_of_widest_gap,
    propagation,
    table,
    training,
)
from napari_rada.io.formats import write_volume
from napari_rada.prediction import Prediction


@pytest.mark.parametrize(
    ("taken", "expected"),
    [([], 5), ([5], 2), ([2, 5], 8), ([0, 10], 5), ([50], 5), ([0, 3, 6, 9], 1), (range(11), None)],
)
def test_the_middle_of_the_widest_gap(taken, expected):
    assert middle_of_widest_gap(0, 10, taken) == expected


def test_every_strategy_names_a_new_slice(tmp_path):
    case = ball_case()
    pipeline.train([case], tmp_path / "run", tiny_config())
    prediction = pipeline.predict(tmp_path / "run", case)
    for strategy in STRATEGIES:
        annotated = list(case.annotated)
        for turn in range(4):
            plane = choose(strategy, prediction, annotated, np.random.default_rng(turn), turn)
            assert isinstance(plane, AnnotatedSlice)
            plane.check(prediction.mask.shape)
            assert plane not in annotated, strategy
            annotated.append(plane)
            if strategy == "even":
                assert plane.axis == turn % 3
            if strategy == "random":
                assert prediction.mask[plane.selector()].any()


def masked(*where):
    """Make a prediction of 6 voxels a side that is 1 there and 0 elsewhere."""
    mask = np.zeros((6, 6, 6), np.uint8)
    for voxels in where:
        mask[voxels] = 1
    probability = np.moveaxis(np.eye(2, dtype=np.float32)[mask], -1, 0)
    return Prediction("thin", mask, probability, None, Grid.from_spacing(mask.shape), ClassTable.from_values([1]))


def test_an_axis_without_a_free_slice_is_passed_over():
    prediction, rng = masked(np.s_[0, 2:4, 1:3]), np.random.default_rng(0)
    annotated = [AnnotatedSlice(0, 0), AnnotatedSlice(1, 2)]
    assert choose("even", prediction, annotated, rng, 0) == AnnotatedSlice(1, 3)
    assert choose("even", prediction, annotated, rng, 2) == AnnotatedSlice(2, 1)


@pytest.mark.parametrize("strategy", ["even", "random"])
@pytest.mark.parametrize("prediction", [masked(np.s_[0, 0, 0]), masked()])
def test_nothing_is_chosen_where_no_slice_is_left(strategy, prediction):
    annotated = [AnnotatedSlice(axis, 0) for axis in range(3)]
    assert choose(strategy, prediction, annotated, np.random.default_rng(0), 0) is None


def test_a_course_ends_where_no_slice_is_left_and_keeps_its_dice():
    dense = np.zeros((6, 6, 6), np.uint16)
    dense[1, 1, 1] = 1
    case = Case.create(dense.astype(np.float32), dense, slices=[(0, 1), (1, 1)], name="speck")
    seen = []

    def segment(grown, before, after):
        seen.append(grown.annotated)
        return masked(np.s_[1, 1, 1])

    (course,) = follow(case, dense, segment, rounds=3, strategies=["even"])
    assert course.added == ("2:1",)
    assert course.dice == (1.0, 1.0, 1.0, 1.0)
    assert len(seen) == 2


def test_dice_is_the_mean_over_the_same_classes_before_and_after_slices_that_show_more():
    dense = np.zeros((12, 12, 12), np.uint16)
    dense[2:6, 2:6, 2:6] = 1
    dense[8:10, 8:10, 8:10] = 2
    classes = ClassTable.from_values([1, 2])
    case = Case.create(dense.astype(np.float32), dense, slices=[(0, 3), (1, 3)], classes=classes, name="two")
    found = []

    def segment(grown, before, after):
        found.append(grown.classes)
        return propagation(tiny_config())(grown, before, after)

    follow(case, dense, segment, rounds=1, strategies=["even"])
    assert found == [classes, classes]


def test_all_courses_start_alike_and_count_the_added_slices():
    courses = follow(ball_case(), ball(), training(tiny_config(training__iterations=2)), rounds=2)
    assert [course.strategy for course in courses] == list(STRATEGIES)
    assert len({course.dice[0] for course in courses}) == 1
    for course in courses:
        assert len(course.dice) == 3
        assert len(set(course.added)) == 2
        assert not {f"{axis}:{index}" for axis, index in enumerate(CENTRE)} & set(course.added)
        assert all(0.7 < dice <= 1 for dice in course.dice)
    lines = table(courses).splitlines()
    assert lines[0].count("|") == 8
    assert sum("**mean of 1**" in line for line in lines) == 3
    assert "macro" not in table(courses)


def test_a_bar_in_a_name_ends_no_cell():
    lines = table([Course("a|b", "c|d", "even", (0.5,), ())]).splitlines()
    assert lines[2:] == [r"| a\|b | c\|d | even | 0.5000 |  |", r"| a\|b | **mean of 1** | even | **0.5000** | |"]


def test_one_strategy_can_be_followed_alone():
    segment = training(tiny_config(training__iterations=2))
    (course,) = follow(ball_case(), ball(), segment, rounds=1, strategies=["even"])
    assert course.strategy == "even"
    lines = table([course]).splitlines()
    assert sum("**mean of 1**" in line for line in lines) == 1


def test_slices_can_be_propagated_alone(tmp_path, capsys):
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii.gz", ball_case().image, ball_case().grid)
        write_volume(tmp_path / f"{name}_label.nii.gz", ball().astype(np.uint8), ball_case().grid)
    one = {"image": "{scan}.nii.gz", "labels": "{scan}_label.nii.gz", "structures": {"ball": [1]}, "modality": "MRI"}
    one |= {"settings": [], "reported": ["a", "b"]}
    described = {"datasets": [{"name": name, **deepcopy(one)} for name in ("first", "second")]}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(described))
    asked = ["--datasets", str(tmp_path / "sets.yaml"), "--propagation", "--rounds", "1", "--strategy", "suggested"]
    assert main([*asked, "--limit", "1", "--json"]) == 0
    courses = json.loads(capsys.readouterr().out)
    assert [(course["dataset"], course["scan"]) for course in courses] == [("first", "a"), ("second", "a")]
    assert all(0.7 < dice <= 1 for course in courses for dice in course["dice"])
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert told.count("**mean of 2**") == 2
    assert told.count("**macro mean**") == 1


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main(["--datasets", str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--limit", "0"), ("--rounds", "-1"), ("--seed", "-1"), ("--seed", "x")])
def test_numbers_that_cannot_be_are_refused(capsys, flags):
    with pytest.raises(SystemExit, match="2"):
        main(["--datasets", "sets.yaml", *flags])
    assert f"argument {flags[0]}: {flags[1]} is not possible here; give a whole number from" in capsys.readouterr().err
