from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_rada.control import RunControl
from napari_rada.errors import InputError, RadaError, Stopped
from napari_rada.evaluation import growth, growth_point
from napari_rada.evaluation.growth import GrowthLog, GrowthRow, in_a_process, run_growth
from napari_rada.evaluation.growth_fit import Exponent, fit_exponent
from napari_rada.evaluation.growth_plot import log_plot
from napari_rada.evaluation.growth_point import Spec, Term
from napari_rada.evaluation.growth_points import GrowthTask, Point
from napari_rada.evaluation.growth_report import Curve, write_growth
from napari_rada.evaluation.growth_scans import MOST_CLASSES, make_scan
from napari_rada.evaluation.reliability.scene import inside_balls
from napari_rada.events import Notice, StageProgress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

TINY = GrowthTask(
    sides=(16, 24),
    uncapped=16,
    classes=(1, 2),
    classes_side=16,
    scans=(1, 2),
    scans_side=16,
    whole=(24, 16, 16),
    patch=(16, 16, 16),
    repeats=1,
    settings={"training.iterations": 1, "model.filters": 2, "model.blocks": [1, 1]},
)
SIZES = 2 * 4 + 1
POINTS = SIZES + 2 + 4 + 2
"""Those with the voxels, the whole scan and its run, those with more classes, and the cohorts."""


class Measured:
    """Stands in for the process of a point: time and memory grow with the voxels of all scans, linearly."""

    def __init__(self, stop_at: int = 0) -> None:
        self.specs: list[Spec] = []
        self.stop_at = stop_at

    def __call__(self, spec: Spec, control: RunControl) -> list[Term]:
        self.specs.append(spec)
        if len(self.specs) == self.stop_at:
            control.stop()
            control.check()
        point = spec.point
        if point.needs is None:
            spec.run.mkdir(parents=True)
        else:
            assert spec.run.is_dir()
        size = point.size("voxels") * point.scans
        names = {"quick", "vnet", "cohort", "finished"}
        kinds = ("preparation", "step") if point.work in names else ("",)
        terms = [self._term(f"{point.work} {kind}".strip(), size) for kind in kinds]
        if point.work == "propagation":
            coarse = replace(terms[0], peak_mib=terms[0].before_mib + 3 * 512 * 4 / 2**20, grid_voxels=512)
            terms = [replace(coarse, name="walk"), replace(coarse, name="all three opinions"), *terms]
        return terms

    @staticmethod
    def _term(name: str, size: int) -> Term:
        return Term(name, size / 1e3, size / 2e3, 600.0 + size / 1e4, 600.0, 600.0)


def run(folder: Path, measure: Callable[..., Any], task: GrowthTask = TINY, **more: Any) -> dict[Point, GrowthRow]:
    log = GrowthLog(folder / "results.jsonl")
    more.setdefault("control", RunControl())
    return run_growth(task, folder / "runs", log, measure=measure, **more)


def test_exponents_of_known_powers() -> None:
    x = [10, 20, 40, 80]
    for power in (0, 0.5, 1, 2):
        found = fit_exponent(x, [3 * value**power for value in x])
        assert found is not None
        assert found.slope == pytest.approx(power)
        assert found.error == pytest.approx(0, abs=1e-6)
        assert found.is_above_one is (power == 2)
    noisy = fit_exponent(x, [10, 35, 30, 110])
    assert noisy is not None
    assert noisy.error > 0.1
    assert not noisy.is_above_one
    assert fit_exponent(x, [None, -1.0, 0.0, 5.0]) is None
    assert fit_exponent([4, 4], [1.0, 2.0]) is None
    assert str(Exponent(1.234, 0.05)) == "1.23 ± 0.05"


def test_a_curve_that_bends_up_at_its_end_grows_too_fast() -> None:
    x = (1, 2, 4, 8, 16, 32)
    assert not Curve("voxels", "a", "cpu_s", x, (5.0, 5.0, 5.0, 10.0, 20.0, 40.0)).grows_too_fast
    assert Curve("voxels", "a", "cpu_s", x, (5.0, 5.0, 5.0, 5.0, 15.0, 45.0)).grows_too_fast
    assert not Curve("voxels", "a", "cpu_s", x, (None,) * 6).grows_too_fast


def test_scans_show_every_class_in_an_annotated_slice() -> None:
    for classes in range(1, MOST_CLASSES + 1):
        case = make_scan((24, 20, 16), classes)
        assert case.classes is not None
        assert list(case.classes.values) == list(range(classes + 1))
        assert [plane.axis for plane in case.annotated] == [0, 1, 2]
    share = [inside_balls(((0, 0, 0), (side,) * 3), (side / 4,) * 3).mean() for side in (32, 64)]
    assert share[1] == pytest.approx(np.pi / 48, rel=0.05)
    assert share[0] == pytest.approx(share[1], rel=0.1)


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
            patch.setattr(growth.shutil, "rmtree", lambda *_, **__: None)
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
        GrowthLog(tmp_path / "results.jsonl")


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


def test_the_real_work_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_point, "warm_up", lambda spec: None)
    cube, found = (16, 16, 16), {}
    for point in (
        *(Point(work, cube) for work in ("propagation", "quick", "prediction", "vnet", "uncapped")),
        Point("cohort", cube, scans=2),
    ):
        run_dir = tmp_path / (point.needs or point).work
        for term in growth_point.measure(Spec(point, TINY.config(point), 1, run_dir)):
            found[term.name] = term
    trained = [f"{work} {part}" for work in ("quick", "vnet", "cohort") for part in ("preparation", "step")]
    assert set(found) == {"walk", "all three opinions", "propagation", "uncapped", "prediction", *trained}
    for term in found.values():
        assert term.seconds > 0
        assert term.cpu_s > 0
        assert term.peak_mib is None or term.peak_mib >= 0.9 * term.libraries_mib
        assert term.grid_voxels == (16**3 if term.name in ("walk", "all three opinions", "propagation") else 0)


def test_a_warm_up_does_everything_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("propagate", "train", "predict"):
        monkeypatch.setattr(growth_point.pipeline, name, lambda *_, name=name, **more: done.append(name))
    for work in ("propagation", "uncapped", "quick", "vnet", "cohort", "prediction", "whole"):
        point = Point(work, (16, 16, 16))
        growth_point.warm_up(Spec(point, TINY.config(point), 1, tmp_path))
    assert done == ["propagate"] * 2 + ["train"] * 3 + ["predict"] * 2


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
    monkeypatch.setattr(growth.subprocess, "Popen", lambda c, **k: start([sys.executable, "-c", script, *c[3:]], **k))
    point = Point("propagation", (16, 16, 16))
    with pytest.raises(RadaError, match=message):
        in_a_process(Spec(point, TINY.config(point), 1, tmp_path), RunControl())


def test_the_module_writes_errors_as_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: Spec) -> list[Term]:
        raise InputError("This scan is too strange.")

    point = Point("propagation", (16, 16, 16))
    (tmp_path / "spec").write_text(Spec(point, TINY.config(point), 1, tmp_path).to_json())
    monkeypatch.setattr(growth_point, "measure", refuse)
    assert growth_point.main([str(tmp_path / "spec"), str(tmp_path / "result")]) == 0
    assert json.loads((tmp_path / "result").read_text()) == {"error": "This scan is too strange."}


def test_panels_hold_what_can_be_drawn() -> None:
    drawn = log_plot([("voxels", "s", "a", (1, 10), (1.0, None)), ("voxels", "s", "b", (1, 1000), (None, None))])
    ET.fromstring(drawn)  # noqa: S314 - our own
    assert drawn.count('r="3"') == 1
    ET.fromstring(log_plot([]))  # noqa: S314 - our own
