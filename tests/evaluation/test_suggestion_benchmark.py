"""The simulation of adding slices, on a tiny volume."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import yaml
from tests.engine import CENTRE, ball, ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.evaluation.suggestion_benchmark import (
    STRATEGIES,
    choose,
    follow,
    main,
    middle_of_widest_gap,
    table,
    training,
)
from napari_rada.io.formats import write_volume


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
