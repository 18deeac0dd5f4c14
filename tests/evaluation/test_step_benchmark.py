"""The comparison with the lineage's loop, on a tiny volume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.engine import ball, ball_case, ball_image, tiny_config

from napari_rada import io
from napari_rada.control import RunControl
from napari_rada.data.grid import Grid
from napari_rada.evaluation.step_benchmark import (
    LINEAGE_PASSES,
    LOOPS,
    LineageTrainer,
    _prepared,
    compare,
    main,
    table,
)
from napari_rada.events import ignore
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.objective import Knobs
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.volumes import make_volume


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the patches that go through any network."""
    seen: list[int] = []
    forward = TripleViewModel.__init__

    def init(self: TripleViewModel, *args: object) -> None:
        forward(self, *args)  # type: ignore[arg-type]
        for network in self.networks:
            network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))

    monkeypatch.setattr(TripleViewModel, "__init__", init)
    return seen


def test_all_loops_train_and_are_timed():
    timings = compare(ball_case(), ball(), tiny_config(training__iterations=3, training__validate_every=100))
    assert [timing.loop for timing in timings] == list(LOOPS)
    for timing in timings:
        assert timing.iterations == 3
        assert timing.seconds > 0
        assert timing.dice > 0.8
    assert table(timings).count("\n") == 2 + len(LOOPS)
    assert timings[0].dice == pytest.approx(timings[1].dice, abs=1e-3)


def test_the_lineage_s_loop_runs_the_networks_as_often_as_published(monkeypatch):
    seen = counted(monkeypatch)
    config = tiny_config(
        training__iterations=2,
        training__validate_every=100,
        training__labelled_patches=2,
        training__unlabelled_patches=2,
    )
    monkeypatch.setattr("napari_rada.evaluation.step_benchmark.predicted_softmax", _predicted)
    monkeypatch.setattr("napari_rada.training.trainer.score_held_out", lambda *_: None)
    compare(ball_case(), ball(), config)
    student, clean, noisy = 4, 2, 4 * LINEAGE_PASSES // 2
    lineage = 2 * 3 * (student + 2 * (clean + noisy))
    ours = 2 * 3 * student
    assert sum(seen) == 2 * lineage + ours


def _predicted(model: TripleViewModel, inputs: object, *_: object) -> np.ndarray:
    return np.full((3, 2, *inputs.image.shape), 0.5, np.float32)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("loop", "last"), [("lineage", False), ("lineage, our format", True), ("ours", True)])
def test_the_lineage_s_loop_runs_in_the_usual_memory_format_and_in_ours(tmp_path, loop, last):
    config = tiny_config()
    volume = make_volume(*_prepared(ball_case(), config), config.training.view_pairs, model=config.model)
    run = RunFolder.create(tmp_path, config)
    trainer = LOOPS[loop].trainer([volume], 2, config, run, torch.device("cpu"), RunControl(), ignore)
    weights = [weight for weight in trainer.model.parameters() if weight.dim() == 5 and min(weight.shape) > 1]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) is last for weight in weights)


def test_a_student_s_gradient_reaches_no_teacher(tmp_path):
    trainers: list[LineageTrainer] = []
    init = LineageTrainer.__init__

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LineageTrainer, "__init__", lambda self, *args: (init(self, *args), trainers.append(self))[0])
        compare(ball_case(), ball(), tiny_config(training__iterations=1, training__validate_every=100))
    trainer = trainers[0]
    for parameter in trainer.model.parameters():
        parameter.grad = None
    batch = trainer.sampler.batch(1, 1)
    loss = trainer._student_loss(1, batch, Knobs(alpha=0.97, beta=0.1, threshold=1.0, pseudo_weight=1.0))
    torch.autograd.backward(loss.total(0.1))
    reached = [any(p.grad is not None for p in network.parameters()) for network in trainer.model.networks]
    assert reached == [False, True, False]


def test_the_command_prints_json_and_refuses_a_wrong_folder(tmp_path, capsys):
    grid = Grid.from_spacing(ball().shape)
    io.write_volume(tmp_path / "a_image.nii.gz", ball_image(ball()), grid)
    io.write_volume(tmp_path / "a_label.nii.gz", ball().astype(np.uint8), grid)
    tiny = tiny_config().model_dump(mode="json")
    settings = {
        "model.filters": tiny["model"]["filters"],
        "model.blocks": tiny["model"]["blocks"],
        "training.patch": tiny["training"]["patch"],
    }
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    assert main([str(tmp_path), "--iterations", "1", "--json", *changes]) == 0
    assert {entry["loop"] for entry in json.loads(capsys.readouterr().out)} == set(LOOPS)
    assert main([str(tmp_path / "nothing")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert main([str(tmp_path), "--device", "abacus"]) == 2
    assert "Device 'abacus' is unknown" in capsys.readouterr().err
