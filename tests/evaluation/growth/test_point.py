from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.evaluation.growth.measured import TINY

from napari_rada.errors import InputError
from napari_rada.evaluation.growth import point as measuring
from napari_rada.evaluation.growth.point import Spec, Term
from napari_rada.evaluation.growth.task import Point

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_real_work_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "warm_up", lambda spec: None)
    cube, found = (16, 16, 16), {}
    for point in (
        *(Point(work, cube) for work in ("propagation", "quick", "prediction", "vnet", "uncapped")),
        Point("cohort", cube, scans=2),
    ):
        run_dir = tmp_path / (point.needs or point).work
        for term in measuring.measure(Spec(point, TINY.config(point), 1, run_dir)):
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
        monkeypatch.setattr(measuring.pipeline, name, lambda *_, name=name, **more: done.append(name))
    for work in ("propagation", "uncapped", "quick", "vnet", "cohort", "prediction", "whole"):
        point = Point(work, (16, 16, 16))
        measuring.warm_up(Spec(point, TINY.config(point), 1, tmp_path))
    assert done == ["propagate"] * 2 + ["train"] * 3 + ["predict"] * 2


def test_the_module_writes_errors_as_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: Spec) -> list[Term]:
        raise InputError("This scan is too strange.")

    point = Point("propagation", (16, 16, 16))
    (tmp_path / "spec").write_text(Spec(point, TINY.config(point), 1, tmp_path).to_json())
    monkeypatch.setattr(measuring, "measure", refuse)
    assert measuring.main([str(tmp_path / "spec"), str(tmp_path / "result")]) == 0
    assert json.loads((tmp_path / "result").read_text()) == {"error": "This scan is too strange."}
