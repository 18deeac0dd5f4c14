from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.evaluation.growth.measured import POINTS, TINY, Measured, run

from napari_rada.control import RunControl
from napari_rada.errors import InputError, RadaError, Stopped
from napari_rada.evaluation.finished_lines import FinishedLog
from napari_rada.evaluation.growth import measure
from napari_rada.evaluation.growth.measure import GrowthRow, in_a_process
from napari_rada.evaluation.growth.point import Spec, Term
from napari_rada.evaluation.growth.report import write_growth
from napari_rada.evaluation.growth.task import Point
from napari_rada.events import Notice, StageProgress

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def test_every_point_is_measured_once_and_the_report_holds_it(tmp_path: Path) -> None:
    measured, told = Measured(), []
    rows = run(tmp_path, measured, listener=told.append)
    assert len(measured.specs) == len(rows) == POINTS
    assert not (tmp_path / "runs").exists()
    progress = [event for event in told if isinstance(event, StageProgress)]
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (0, POINTS, POINTS)
    text = write_growth(tmp_path, TINY, rows, {"sides": [16, 24]})
    assert "| propagation | 2.05 | 6.91 | 1.00 ± 0.00 | 1.00 ± 0.00 |" in text
    assert "| 16³ | 512 | 0.00 | 3 | 3 |" in text
    assert "Nothing grows faster than the voxels" in text
    assert "scan of 24 x 16 x 16 voxels in 6.1 s" in text
    data = json.loads((tmp_path / "growth.json").read_text())
    assert data["table"] == text == (tmp_path / "growth.md").read_text()
    lines = (tmp_path / "growth.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(row.terms) for row in rows.values())
    ET.fromstring((tmp_path / "growth.svg").read_text())  # noqa: S314 - our own file


def test_what_was_measured_with_the_same_settings_is_not_measured_again(tmp_path: Path) -> None:
    first = run(tmp_path, Measured())
    again = Measured()
    assert run(tmp_path, again) == first
    assert again.specs == []
    wider = Measured()
    run(tmp_path, wider, replace(TINY, sides=(16, 24, 32)))
    assert {spec.point.shape for spec in wider.specs} == {(32, 32, 32)}
    changed = Measured()
    run(tmp_path, changed, replace(TINY, patch=(8, 16, 16)))
    assert {spec.point.work for spec in changed.specs} == {"vnet"}


@pytest.mark.parametrize("stop_at", range(1, 5))
def test_a_stopped_benchmark_goes_on_where_it_ended(tmp_path: Path, stop_at: int) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, Measured(stop_at))
    for folder in (tmp_path / "runs").glob("*"):  # also if somebody cleans up
        folder.rmdir()
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"task": "cut o')
    rest = Measured()
    assert len(run(tmp_path, rest)) == POINTS
    again = stop_at == 3  # the run that the prediction needs is gone
    assert len(rest.specs) == POINTS - (stop_at - 1) + again


@pytest.mark.parametrize("killed", [True, False])
def test_a_run_that_was_cut_off_when_it_was_made_again_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    def cut_off(spec: Spec, control: RunControl) -> list[Term]:
        spec.run.mkdir(parents=True)
        raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path, Measured(stop_at=3))
    shutil.rmtree(tmp_path / "runs")
    with monkeypatch.context() as patch:
        if killed:  # who is killed tidies nothing
            patch.setattr(measure.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Stopped):
            run(tmp_path, cut_off)
    assert any((tmp_path / "runs").iterdir()) is killed
    rest = Measured()
    run(tmp_path, rest)
    assert [spec.point.work for spec in rest.specs[:2]] == ["quick", "prediction"]


def test_a_run_that_failed_is_not_taken_for_whole(tmp_path: Path) -> None:
    measured = Measured()

    def fail_at_first(spec: Spec, control: RunControl) -> list[Term]:
        terms = measured(spec, control)
        if len(measured.specs) == 2:
            raise RadaError("Memory ran out.")
        return terms

    run(tmp_path, fail_at_first)
    assert [spec.point.work for spec in measured.specs[1:4]] == ["quick", "quick", "prediction"]


def test_a_point_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    def failing(spec: Spec, control: RunControl) -> list[Term]:
        if spec.point.work == "cohort":
            raise RadaError("Memory ran out.")
        return Measured()(spec, control)

    told: list[Any] = []
    rows = run(tmp_path, failing, listener=told.append)
    assert [event.message for event in told if isinstance(event, Notice)] == [
        f"cohort, 16 x 16 x 16, 1 classes, {number} scans: Memory ran out." for number in (1, 2)
    ]
    text = write_growth(tmp_path, TINY, rows, {})
    assert "failed, Memory ran out." in text
    assert "Memory ran out." in (tmp_path / "growth.csv").read_text()
    again = Measured()
    run(tmp_path, again)
    assert {spec.point.work for spec in again.specs} == {"cohort"}


def test_results_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"dataset": "a"}\n{"dataset": "b"}\n')
    with pytest.raises(InputError, match="line 1 is no result of this benchmark"):
        FinishedLog(tmp_path / "results.jsonl", GrowthRow.from_json)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sides": (8,)}, "A side of 8 voxels is too small"),
        ({"whole": (40, 40, 2)}, "A side of 2 voxels is too small"),
        ({"patch": (4, 16, 16)}, "A patch of 4 voxels is too small"),
        ({"classes": (0,)}, "0 classes are not possible here"),
        ({"classes": (9,)}, "9 classes are not possible here"),
        ({"scans": (0,)}, "0 is not possible here"),
        ({"repeats": -1}, "-1 is not possible here"),
        ({"settings": {"nonsense": 1}}, "There is no setting nonsense"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    measured = Measured()
    with pytest.raises(RadaError, match=message):
        run(tmp_path, measured, replace(TINY, **change))
    assert measured.specs == []


def test_a_process_of_its_own_gives_what_it_measured(tmp_path: Path) -> None:
    point = Point("propagation", (16, 16, 16))
    spec = Spec(point, TINY.config(point), 1, tmp_path / "run")
    assert Spec.from_json(spec.to_json()) == spec
    terms = in_a_process(spec, RunControl())
    assert terms[-1].grid_voxels == 16**3
    assert terms[-1].libraries_mib > 100
    stopped = RunControl()
    stopped.stop()
    with pytest.raises(Stopped):
        in_a_process(spec, stopped)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit('No such luck')", "ended with status 1. No such luck"),
        ("import sys; open(sys.argv[2], 'w').write('{\"error\": \"Memory ran out.\"}')", "^Memory ran out.$"),
    ],
)
def test_a_process_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    start = subprocess.Popen
    monkeypatch.setattr(measure.subprocess, "Popen", lambda c, **k: start([sys.executable, "-c", script, *c[3:]], **k))
    point = Point("propagation", (16, 16, 16))
    with pytest.raises(RadaError, match=message):
        in_a_process(Spec(point, TINY.config(point), 1, tmp_path), RunControl())
