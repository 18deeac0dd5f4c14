from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch

from napari_rada import cli, pipeline
from napari_rada.errors import RunFolderError
from napari_rada.evaluation.reliability import kills
from napari_rada.evaluation.reliability.__main__ import main
from napari_rada.evaluation.reliability.scene import make_case, tiny_config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal runs of two iterations."""
    config = tiny_config(training__iterations="2", training__validate_every="2")
    for name in ("one", "other"):
        pipeline.train([make_case()], tmp_path / name, config)
    return tmp_path / "one", tmp_path / "other"


def test_a_killed_run_goes_on_to_the_same_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One real process is killed, which takes the import of torch; the others run in this one."""
    monkeypatch.setattr(kills, "_finish", lambda command: cli.main(command[4:]))
    monkeypatch.setattr(kills, "STEP_S", 0.2)
    assert main(["kills", "--count", "1", "--iterations", "30"]) == 0
    assert re.search(r"Survived 1 of 1 kills; (\d) of \1 killed runs ended with the weights", capsys.readouterr().out)


def test_equal_runs_are_equal_and_others_are_told_apart(runs: tuple[Path, Path]) -> None:
    one, other = runs
    assert kills._compare(one, other) == ""
    losses = other / "losses.csv"
    whole = losses.read_text()
    losses.write_text(whole.replace("\n2,", "\n2,9"))
    assert "logged other losses" in kills._compare(one, other)
    losses.write_text(whole)
    path = other / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    content["model"]["networks.0.vnet.head.bias"] += 1
    torch.save(content, path)
    assert "ended with other weights" in kills._compare(one, other)
    content["state"]["iteration"] = 1
    torch.save(content, path)
    assert "ended at iteration 1 instead of 2" in kills._compare(one, other)


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "checkpoints/best.pt"])
def test_a_half_written_checkpoint_would_be_noticed(runs: tuple[Path, Path], name: str) -> None:
    path = runs[0] / name
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RunFolderError, match="damaged"):
        kills._check_run(runs[0])
    assert "damaged" in kills._compare(runs[1], runs[0])


def test_a_report_with_a_complaint_has_not_survived() -> None:
    good, bad = kills.Kill("step", 3, 0.1), kills.Kill("step", 3, 0.1, "half a file")
    assert kills.Report((good, bad), ("",)).survived == 1
    assert kills.Report((good, good), ("", "other weights")).survived == 0
