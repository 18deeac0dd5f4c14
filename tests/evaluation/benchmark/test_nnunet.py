"""nnU-Net as a peer; its process is imitated, except where nnU-Net is installed."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.engine import ball, ball_case

from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.errors import InputError, MissingDependencyError, RadaError, Stopped
from napari_rada.evaluation.benchmark import nnunet, outside
from napari_rada.evaluation.benchmark import nnunet_worker as worker
from napari_rada.evaluation.benchmark.methods import Conditions
from napari_rada.evaluation.benchmark.nnunet import NnUNet, make_nnunet
from napari_rada.evaluation.benchmark.single import make_method
from napari_rada.events import Event, Notice
from napari_rada.io import read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass
class Imitation:
    """Stands in for the process: looks at the task and predicts the second class everywhere."""

    job: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    labels: NDArray[np.integer] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, module: str, folder: Path, program: str, *, control: RunControl, environment: Mapping[str, str]
    ) -> None:
        assert module == worker.__name__
        raw = folder / worker.RAW / worker.DATASET
        self.job = json.loads((folder / worker.JOB).read_text())
        self.dataset = json.loads((raw / "dataset.json").read_text())
        (image,), (labels,) = (list((raw / part).iterdir()) for part in ("imagesTr", "labelsTr"))
        read = read_volume(labels)
        self.labels, self.environment = read.array, environment
        write_volume(folder / worker.MASK, np.ones(read.array.shape, np.uint8), read_volume(image).grid)
        (folder / worker.SUMMARY).write_text("3 iterations")


@pytest.fixture
def imitation(monkeypatch: pytest.MonkeyPatch) -> Imitation:
    found = Imitation()
    monkeypatch.setattr(nnunet, "run_worker", found)
    return found


def sevens() -> Case:
    """Make the ball with the label value 7."""
    return Case.create(ball_case().image, ball() * 7, slices=[(0, 10), (1, 13), (2, 12)], name="labeled/a")


def test_the_task_is_the_scan_with_unknown_voxels_ignored(imitation: Imitation) -> None:
    case, told = sevens(), list[Event]()
    found = NnUNet(2.0).segment(case, Conditions(seed=5), control=RunControl(), listener=told.append)
    assert imitation.job == {"seconds": 120.0, "seed": 5}
    assert imitation.dataset["labels"]["ignore"] == 2
    assert imitation.dataset["numTraining"] == 1
    assert imitation.labels is not None
    assert (imitation.labels[~case.known] == 2).all()
    assert case.labels is not None
    np.testing.assert_array_equal(imitation.labels[case.known], case.labels[case.known] > 0)
    folders = [imitation.environment[f"nnUNet_{name}"] for name in ("raw", "preprocessed", "results")]
    assert len(set(folders)) == 3
    assert (found.mask[~case.known] == 7).all()
    np.testing.assert_array_equal(found.mask[case.known], case.labels[case.known])
    assert told == [Notice("3 iterations")]


def test_a_stop_before_it_starts(imitation: Imitation) -> None:
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        NnUNet().segment(ball_case(), Conditions(), control=control)
    assert not imitation.job


def test_a_process_that_fails_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(nnunet.worker, "__name__", "no_such_worker")
    with pytest.raises(RadaError, match=r"^ball: nnU-Net ended without a result: .*no_such_worker[^\n]*$"):
        NnUNet().segment(ball_case(), Conditions(), control=RunControl())


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs nnunetv2; install it with: pip install nnunetv2"):
        NnUNet(1, "nnunet/1min").check()


def test_minutes_are_a_stage() -> None:
    assert make_method("nnunet", {}) == NnUNet(5.0, "nnunet")
    assert make_nnunet("nnunet/0.5min") == NnUNet(0.5, "nnunet/0.5min")
    assert NnUNet(2.0, "nnunet/2min").describe() != NnUNet().describe()
    assert make_nnunet("nnunet/5min").describe() == NnUNet().describe()


@pytest.mark.parametrize("name", ["nnunet/0min", "nnunet/fast", "nnunet/1min/2min", "nnunet/-1min"])
def test_other_stages_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="takes minutes of training and nothing else"):
        make_method(name, {})


@pytest.mark.parametrize("name", ["biomedisa/5min", "random-walker/views"])
def test_other_peers_have_no_stages(name: str) -> None:
    with pytest.raises(InputError, match=r"has no stage .*; name it alone"):
        make_method(name, {})


class FakeTrainer:
    """Takes ten seconds a step by a clock of its own."""

    num_epochs = 1000

    def __init__(self) -> None:
        self.now, self.decay = 0.0, list[float]()
        self.network = self.lr_scheduler = self
        self.dataloader_train: Iterator[dict[str, Any]] = itertools.repeat({})

    def on_train_start(self) -> None:
        self.now += 100

    def train(self) -> None:
        pass

    def step(self, epoch: float) -> None:
        self.decay.append(epoch)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.now += 10
        return batch


@pytest.mark.parametrize(("seconds", "steps"), [(45, 4), (40, 4), (3, 1)])
def test_training_keeps_to_its_time(monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int) -> None:
    trainer = FakeTrainer()
    monkeypatch.setattr(worker.time, "perf_counter", lambda: trainer.now)
    assert worker.train(trainer, seconds) == steps
    np.testing.assert_allclose(trainer.decay, [1000 * 10 * step / seconds for step in range(steps)])


@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="nnunetv2 is not installed")
def test_nnunet_itself_trains_and_predicts() -> None:
    told = list[Event]()
    method = make_nnunet("nnunet/0.05min")
    method.check()
    case = ball_case()
    found = method.segment(case, Conditions(), control=RunControl(), listener=told.append)
    assert found.mask.shape == case.grid.shape
    assert set(np.unique(found.mask)) <= {0, 1}
    assert isinstance(told[0], Notice)
    assert "iterations of 2 patches of" in told[0].message


def test_the_planner_does_not_see_how_many_processes_augment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    planner = SimpleNamespace(
        extract_fingerprints=lambda *_, **__: seen.append(os.environ.get(worker.AUGMENTING)),
        plan_experiments=lambda *_: "plans",
        preprocess=lambda *_, **__: seen.append(os.environ.get(worker.AUGMENTING)),
    )
    monkeypatch.setitem(sys.modules, "nnunetv2", SimpleNamespace())
    package = SimpleNamespace(plan_and_preprocess_api=planner)
    monkeypatch.setitem(sys.modules, "nnunetv2.experiment_planning", package)
    monkeypatch.setenv(worker.AUGMENTING, "0")
    worker.prepare()
    assert seen == [None, None]
