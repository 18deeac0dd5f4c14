"""Scans of one cohort that are stored in different orientations, from training to result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.engine import CENTRE, SHAPE, ball, ball_image, tiny_config

from napari_rada import pipeline
from napari_rada.data.case import Case
from napari_rada.data.grid import Grid
from napari_rada.data.orientation import Turn
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.events import Notice
from napari_rada.io.lazy import from_array
from napari_rada.outofcore import predict_volume
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.guiding import load_features
from napari_rada.training.preflight import preflight
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada.guidance.weights import GuidanceWeights
    from napari_rada.prediction import Prediction

ANOTHER = "SAL"
"""Other axes, one of them backwards."""


def scan(seed: int, *, labelled: bool = True, lying: str | None = "RAS") -> Case:
    """Make a ball off the middle; the scan lies as RAS, or is stored otherwise."""
    straight = Grid.from_spacing(SHAPE, (1.0, 1.5, 0.5))
    labels = ball() if labelled else None
    slices = [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)] if labelled else None
    grid = straight if lying is None else replace(straight, oriented=True)
    case = Case.create(ball_image(ball(), seed), labels, slices=slices, grid=grid, name=f"scan{seed}")
    return Turn.between("RAS", lying).case(case)


def straightened(found: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """Mask and probability in the axes of RAS."""
    turn = Turn.between(found.grid.orientation, "RAS")
    return turn.array(found.mask), turn.array(found.probability)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    pipeline.train([scan(0), scan(1)], folder, tiny_config())
    return folder


def test_a_scan_is_predicted_alike_however_it_is_stored(run: Path) -> None:
    assert RunFolder.open(run).config().data.orientation == "RAS"
    told: list[object] = []
    straight, turned = (
        pipeline.predict(run, scan(2, labelled=False, lying=lying), device="cpu", listener=told.append)
        for lying in ("RAS", ANOTHER)
    )
    assert turned.grid.orientation == ANOTHER
    assert turned.mask.shape == turned.grid.shape != straight.mask.shape
    for one, other in zip(straightened(straight), straightened(turned), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [event.message for event in told if isinstance(event, Notice)] == [
        f"scan2 lies as {ANOTHER}; it is turned to RAS, as the networks know scans, and results back."
    ]
    assert 0 < straight.mask.mean() < 1


def test_a_cohort_that_is_stored_in_two_ways_learns_the_same(run: Path, tmp_path: Path) -> None:
    mixed = [scan(0), scan(1, lying=ANOTHER)]
    told: list[object] = []
    pipeline.train(mixed, tmp_path / "run", tiny_config(), listener=told.append)
    assert any("scan1 lies as SAL" in str(event) for event in told)
    learned, wanted = (load_checkpoint(RunFolder.open(path).last_checkpoint).model for path in (tmp_path / "run", run))
    assert all((learned[name] == values).all() for name, values in wanted.items())
    shown = [pipeline.preview(tmp_path / "run", case, device="cpu") for case in (scan(1), mixed[1])]
    np.testing.assert_array_equal(*(straightened(found)[0] for found in shown))
    assert shown[0].mask.any()
    needed = [preflight(cases, tiny_config()).memory.volumes for cases in (mixed, [scan(0), scan(1)])]
    assert needed[0] == needed[1]


def test_heat_lies_where_the_scan_lies(run: Path) -> None:
    config = RunFolder.open(run).config()
    heats = []
    for lying in ("RAS", ANOTHER):
        case = scan(0, lying=lying)
        found = pipeline.explain(run, case, "label 1", device="cpu")
        assert found.heat.shape == case.grid.shape
        heats.append(Turn.between(lying, config.data.orientation).array(found.heat))
    np.testing.assert_array_equal(*heats)


def test_prompts_are_taken_from_the_turned_slices(tiny_clip: GuidanceWeights, tmp_path: Path) -> None:
    """Each network is shown the slices of its own two views, whichever axis of the file they lie on."""
    weights = {"guidance__clip_weights": str(tiny_clip.clip), "guidance__alpha_weights": str(tiny_clip.alpha)}
    small = {"guidance__source": "region", "guidance__width": 16, "guidance__controller": [12, 8]}
    config = tiny_config(training__iterations=1, data__orientation="RAS", **weights, **small)
    vectors = []
    for lying in ("RAS", ANOTHER):
        pipeline.train([scan(0, lying=lying)], tmp_path / lying, config)
        features = load_features(RunFolder.open(tmp_path / lying))
        assert features is not None
        vectors.append(features.vectors)
    np.testing.assert_array_equal(*vectors)


def test_a_run_that_is_continued_keeps_its_orientation(run: Path, tmp_path: Path) -> None:
    pipeline.continue_training(run, [scan(3, lying="LPS"), scan(4, lying="LPS")], tmp_path / "next", tiny_config())
    assert RunFolder.open(tmp_path / "next").config().data.orientation == "RAS"


def test_of_scans_that_do_not_say_how_they_lie_none_is_turned(run: Path, tmp_path: Path) -> None:
    pipeline.train([scan(0, lying=None), scan(1, lying=None)], tmp_path / "run", tiny_config())
    assert RunFolder.open(tmp_path / "run").config().data.orientation is None
    told: list[object] = []
    plain = pipeline.predict(run, scan(2, labelled=False, lying=None), device="cpu", listener=told.append)
    np.testing.assert_array_equal(plain.mask, pipeline.predict(run, scan(2, labelled=False), device="cpu").mask)
    assert any("does not say how it lies" in str(event) for event in told)


def test_chunk_by_chunk_another_orientation_is_refused(run: Path, tmp_path: Path) -> None:
    case = scan(2, labelled=False, lying=ANOTHER)
    with pytest.raises(InputError, match="lies as SAL, and the networks know scans that lie as RAS"):
        predict_volume(run, from_array(case.image, grid=case.grid, name="scan"), tmp_path / "out.ome.zarr")
    assert not (tmp_path / "out.ome.zarr").exists()
