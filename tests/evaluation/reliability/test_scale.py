from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from tests.engine import ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.errors import RadaError
from napari_rada.evaluation.reliability import scale
from napari_rada.evaluation.reliability.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


def tiny_networks(run_dir: Path) -> Path:
    config = tiny_config(model__completion=False, model__filters=2, data__max_voxels=None, training__iterations=1)
    settings = {"inference.tiles_per_batch": 1, "device": "cpu"}
    return pipeline.train([ball_case()], run_dir, config.with_settings(settings)).run_dir


def test_nothing_is_lost_with_a_process_and_with_a_worker_of_a_cluster(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three real processes import torch here, and two of them are killed: half a minute or more."""
    monkeypatch.setattr(scale, "train_networks", tiny_networks)
    monkeypatch.setattr(scale, "measure_peak", lambda run, volume, out, side, settings: scale.Peak(side, 1, 1, 1.0))
    flags = ["--sides", "32", "--compared", "32", "--chunk", "16", "--memory", "0.0001", "--json"]
    assert main(["scale", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    (seams,), (killed, lost) = report["seams"], report["interruptions"]
    assert seams["units"] > 1
    assert (seams["probability"], seams["voxels"]) == (0, 0)
    assert 0 < killed["there"] < killed["units"]
    assert killed["computed"] == killed["units"] - killed["there"]
    assert lost["there"] >= lost["units"] // 9
    assert killed["complaint"] == lost["complaint"] == ""


@pytest.mark.skipif(not scale.PROCESSES.is_dir(), reason="the system does not tell the peak of a process's memory")
def test_the_peak_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import time; held = b'x' * 300_000_000; del held; time.sleep(0.5)"
    monkeypatch.setattr(scale, "_command", lambda *_: [sys.executable, "-c", script])
    peak = scale.measure_peak(tmp_path, tmp_path, tmp_path, 8, scale.Settings())
    assert 300_000_000 < peak.peak < 400_000_000
    monkeypatch.setattr(scale, "_command", lambda *_: [sys.executable, "-c", "raise SystemExit(2)"])
    with pytest.raises(RadaError, match="ended with status 2"):
        scale.measure_peak(tmp_path, tmp_path, tmp_path, 8, scale.Settings())


def test_results_that_differ_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "0").mkdir(parents=True)
        (tmp_path / name / "0" / "7").write_bytes(b"a")
    assert scale.compare(tmp_path / "one", tmp_path / "other") == ""
    (tmp_path / "other" / "0" / "7").write_bytes(b"b")
    assert scale.compare(tmp_path / "one", tmp_path / "other") == "1 of 1 chunk files differ"
    (tmp_path / "one" / "0" / "8").write_bytes(b"a")
    assert scale.compare(tmp_path / "one", tmp_path / "other") == "2 chunk files in one, 1 in the other"


def test_a_seam_or_a_loss_is_no_sound_report() -> None:
    settings, good = scale.Settings(), scale.Interruption("killed", 3, 1, 2, "")
    assert scale.ScaleReport(settings, (), (scale.Seams(8, 2, 1e-7, 0),), (good,)).is_sound
    assert not scale.ScaleReport(settings, (), (scale.Seams(8, 2, 0.5, 1),), (good,)).is_sound
    lost = scale.Interruption("killed", 3, 1, 2, "1 of 3 chunk files differ")
    assert not scale.ScaleReport(settings, (), (), (lost,)).is_sound
