"""The simulation of adding slices, on a tiny volume."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine import CENTRE, ball, ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.evaluation.suggestion_benchmark import STRATEGIES, choose, follow, main, middle_of_widest_gap, table


@pytest.mark.parametrize(
    ("taken", "expected"), [([], 5), ([5], 2), ([2, 5], 8), ([0, 10], 5), ([50], 5), ([0, 3, 6, 9], 1)]
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


def test_all_courses_start_alike_and_count_the_added_slices():
    courses = follow(ball_case(), ball(), tiny_config(training__iterations=2), rounds=2)
    assert [course.strategy for course in courses] == list(STRATEGIES)
    assert len({course.dice[0] for course in courses}) == 1
    for course in courses:
        assert len(course.dice) == 3
        assert len(set(course.added)) == 2
        assert not {f"{axis}:{index}" for axis, index in enumerate(CENTRE)} & set(course.added)
        assert all(0.7 < dice <= 1 for dice in course.dice)
    lines = table(courses).splitlines()
    assert lines[0].count("|") == 7
    assert sum("**mean**" in line for line in lines) == 3


def test_one_strategy_can_be_followed_alone():
    (course,) = follow(ball_case(), ball(), tiny_config(training__iterations=2), rounds=1, strategies=["even"])
    assert course.strategy == "even"
    lines = table([course]).splitlines()
    assert sum("**mean**" in line for line in lines) == 1


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "is not a folder" in capsys.readouterr().err
