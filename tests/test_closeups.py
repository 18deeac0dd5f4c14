from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.engine import tiny_config

from napari_rada import closeups, pipeline
from napari_rada.closeups import propagated_closely, put_in, worth_it
from napari_rada.control import RunControl
from napari_rada.data.box import overlap
from napari_rada.data.case import Case, check_trainable
from napari_rada.errors import Stopped
from napari_rada.events import Event, Stage, StageProgress, ignore
from napari_rada.preparation import Work, own_grids, propagated
from napari_rada.propagation.regridding import in_box

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada.config import RunConfig
    from napari_rada.data.working import WorkingCase
    from napari_rada.events import Listener
    from napari_rada.propagation.regridding import Made

LARGE, SMALL = (30, 24, 24), (16, 38, 38)
SHAPE = (48, 56, 56)


@cache
def labels() -> np.ndarray:
    """A large ball, value 1, and a small one beside it, value 2."""
    z, y, x = np.indices(SHAPE)
    found = np.zeros(SHAPE, dtype=np.uint16)
    for value, centre, radius in ((1, LARGE, 16.0), (2, SMALL, 5.0)):
        far = sum((at - middle) ** 2 for at, middle in zip((z, y, x), centre, strict=True))
        found[far <= radius**2] = value
    return found


def two_balls(values: tuple[int, ...] = (1, 2)) -> Case:
    """Annotated in the middle slices of both."""
    kept = np.where(np.isin(labels(), values), labels(), 0).astype(np.uint16)
    image = (labels() > 0) + np.random.default_rng(0).normal(0, 0.4, SHAPE)
    slices = [(axis, index) for centre in (LARGE, SMALL) for axis, index in enumerate(centre)]
    return Case.create(image.astype(np.float32), kept, slices=slices, name="balls")


def config(**settings: object) -> RunConfig:
    coarse = {"data__max_voxels": 4096, "data__crop_margin": 0.25, "data__close_ups": True}
    return tiny_config(**coarse | {"propagation__method": "combined"} | settings)


def work(case: Case | None = None, listener: Listener = ignore, **settings: object) -> Work:
    case = case or two_balls()
    return Work(case, check_trainable([case]), config(**settings), RunControl(), listener)


def dice(mask: np.ndarray, value: int) -> float:
    found, true = mask == value, labels() == value
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


@pytest.mark.parametrize("method", ["combined", "diffusion"])
def test_a_small_structure_beside_a_large_one_gains(method: str) -> None:
    case = two_balls()
    together, closely = (
        pipeline.propagate(case, config(propagation__method=method, data__close_ups=on)) for on in (False, True)
    )
    assert dice(closely.mask, 2) > dice(together.mask, 2) + 0.02
    assert dice(closely.mask, 2) > 0.9
    assert dice(closely.mask, 1) == pytest.approx(dice(together.mask, 1), abs=0.005)
    np.testing.assert_allclose(closely.probability.sum(axis=0), 1, atol=1e-5)
    assert closely.probability.min() >= 0


def test_only_the_box_around_the_small_structure_changes() -> None:
    asked = work()
    made = propagated(asked, own_grids(asked), held_out=False)
    before = in_box(made, asked.control)
    found = propagated_closely(asked, made)
    (close,) = worth_it(asked, made[0].case)
    _, there = overlap(close.box, made[0].case.box)
    outside = np.ones(found.shape[1:], dtype=bool)
    outside[there] = False
    np.testing.assert_allclose(found[:, outside], before[:, outside], atol=1e-6)
    assert np.abs(found - before).max() > 0.1
    np.testing.assert_array_equal(in_box(made, asked.control), before)  # what was made is as it was


def test_a_close_up_is_finer_and_lies_around_its_structure() -> None:
    asked = work()
    common = own_grids(asked)[0]
    (close,) = worth_it(asked, common)
    assert close.class_index == 2
    # A ball of radius 5 takes 11 voxels, 35 % of which are 4; eight are the least that is left around.
    assert close.box == tuple(tuple(at + side for at in SMALL) for side in (-5 - 8, 6 + 8))
    grids = own_grids(asked, around=2)
    assert {grid.box for grid in grids} == {close.box}
    assert prod(grids[0].factors) * closeups.FINER <= prod(common.factors)


def test_the_grid_of_a_close_up_is_as_fine_as_the_slices_that_show_its_structure_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z, y, x = SMALL
    slices = [*enumerate(LARGE), *enumerate(SMALL), (0, z + 1), (1, y + 1), (2, x + 1), (0, z - 1)]
    asked = work(Case.create(two_balls().image, labels(), slices=slices), data__usual_slices=5)
    common, asked_for = own_grids(asked)[0], []
    monkeypatch.setattr(closeups, "grid_factors", lambda *found: asked_for.append(found[2]) or (9, 9, 9))
    assert worth_it(asked, common) == []
    assert asked_for == [4096 * 10 // 5, 4096 * 7 // 5]  # all ten show the large one


@pytest.mark.parametrize(("factors", "closely"), [((2, 2, 1), [1, 2]), ((2, 2, 2), [])])
def test_a_close_up_is_worth_it_from_half_the_volume_of_a_voxel(
    monkeypatch: pytest.MonkeyPatch, factors: tuple[int, int, int], closely: list[int]
) -> None:
    asked = work()
    common = replace(own_grids(asked)[0], factors=(2, 2, 2))
    monkeypatch.setattr(closeups, "grid_factors", lambda *_: factors)
    assert [close.class_index for close in worth_it(asked, common)] == closely


def test_the_smallest_structure_is_looked_at_last() -> None:
    dense = labels().copy()
    dense[40:46, 4:10, 4:10] = 3
    slices = [(axis, index) for centre in (LARGE, SMALL, (42, 6, 6)) for axis, index in enumerate(centre)]
    for smallest, order in ((dense, [2, 3]), (np.array([0, 1, 3, 2], dtype=np.uint16)[dense], [3, 2])):
        asked = work(Case.create(two_balls().image, smallest, slices=slices))
        assert [close.class_index for close in worth_it(asked, own_grids(asked)[0])] == order


@pytest.mark.parametrize(
    ("values", "settings"), [((2,), {}), ((1, 2), {"data__max_voxels": 300_000}), ((1, 2), {"data__close_ups": False})]
)
def test_where_there_is_nothing_to_gain_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, values: tuple[int, ...], settings: dict[str, object]
) -> None:
    asked = work(two_balls(values), propagation__method="diffusion", **settings)
    made = propagated(asked, own_grids(asked), held_out=False)
    monkeypatch.setattr(closeups, "propagated", lambda *_, **__: pytest.fail("propagated again"))
    np.testing.assert_array_equal(propagated_closely(asked, made), in_box(made, asked.control))


def test_a_structure_too_thin_for_its_own_grid_stays_as_it_was_found_with_the_others() -> None:
    dense = np.where(labels() == 1, 1, 0).astype(np.uint16)
    dense[30, 38, 38] = dense[40, 46, 46] = 2
    slices = [*enumerate(LARGE), (0, 40)]
    case = Case.create(dense + np.random.default_rng(0).normal(0, 0.4, SHAPE), dense, slices=slices)
    asked = work(case, propagation__method="diffusion")
    made = propagated(asked, own_grids(asked), held_out=False)
    assert [close.class_index for close in worth_it(asked, made[0].case)] == [2]
    assert not any((grid.truth == 2).any() for grid in own_grids(asked, around=2))
    np.testing.assert_array_equal(propagated_closely(asked, made), in_box(made, asked.control))


def test_of_a_structure_that_one_direction_shows_a_close_up_has_only_its_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slices = [*enumerate(LARGE), (0, SMALL[0] - 2), (0, SMALL[0] + 2)]
    case = Case.create(two_balls().image, labels(), slices=slices)
    asked, seen = work(case), []
    made = propagated(asked, own_grids(asked), held_out=False)

    def watched(close: Work, grids: list[WorkingCase], **settings: object) -> list[Made]:
        seen.append(close.case)
        return propagated(close, grids, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(closeups, "propagated", watched)
    propagated_closely(asked, made)
    (close,) = seen
    assert {plane.axis for plane in close.annotated} == {0}
    assert np.unique(close.labels.nonzero()[0]).tolist() == [SMALL[0] - 2, SMALL[0] + 2, LARGE[0]]


def test_with_grids_of_its_own_for_the_propagation_they_are_made_too() -> None:
    asked = work(data__max_voxels=50_000, data__propagation_voxels=4096)
    assert [close.class_index for close in worth_it(asked, own_grids(asked)[0])] == [2]


def test_the_other_classes_share_what_a_close_up_leaves() -> None:
    left, nothing, trace = [0.2, 0.5, 0.1, 0.2], [0.0, 0.0, 0.0, 1.0], [1e-8, 3e-6, 1e-6, 1.0]
    together = np.array([left, left, nothing, trace], dtype=np.float32).T[..., None, None]
    close = np.array([[0.1, 0.5, 0.4], [0.0, 1.0, 0.0], [0.2, 0.4, 0.4], [0.2, 0.4, 0.4]], dtype=np.float32)
    put_in(together, close.T[..., None, None], 3)
    shared, alone = [0.1 + 0.025, 0.25 + 0.0625, 0.05 + 0.0125, 0.5], [0.0, 0.0, 0.0, 1.0]
    expected = np.array([shared, alone, [0.2, 0.2, 0.2, 0.4], [0.2, 0.3, 0.1, 0.4]])
    np.testing.assert_allclose(together[..., 0, 0].T, expected, atol=1e-5)


def touching() -> Case:
    """A large ball, value 7, and a small one within it, value 3."""
    z, y, x = np.indices(SHAPE)
    dense = np.zeros(SHAPE, dtype=np.uint16)
    for value, centre, radius in ((7, LARGE, 16.0), (3, (26, 30, 18), 4.0)):
        dense[sum((at - middle) ** 2 for at, middle in zip((z, y, x), centre, strict=True)) <= radius**2] = value
    image = (dense == 3) - 1.0 * (dense == 0) + np.random.default_rng(0).normal(0, 0.3, SHAPE)
    slices = [*enumerate(LARGE), *enumerate((26, 30, 18)), (0, 22)]
    return Case.create(image.astype(np.float32), dense, slices=slices)


def test_no_background_comes_between_a_structure_and_one_within_it() -> None:
    case = touching()
    mask = pipeline.propagate(case, config()).mask
    z, y, x = np.indices(SHAPE)
    near = sum((at - middle) ** 2 for at, middle in zip((z, y, x), (26, 30, 18), strict=True)) <= 7.0**2
    inside = sum((at - middle) ** 2 for at, middle in zip((z, y, x), LARGE, strict=True)) <= 13.0**2
    assert (mask[near & inside] == 0).sum() == 0
    assert (mask == 3).sum() == pytest.approx(257, rel=0.15)


def test_the_completer_corrects_only_what_is_wanted() -> None:
    asked = work()
    grids = own_grids(asked, around=2)
    whole, focused = (propagated(asked, grids, held_out=False, focus=focus)[0].pseudo for focus in (None, 2))
    walks, corrected = zip(*(one.opinions[:2] for one in (whole, focused)), strict=True)
    np.testing.assert_array_equal(walks[0].probability, walks[1].probability)
    walked, (both, one) = walks[0].probability, (opinion.probability for opinion in corrected)

    inside = walked.min(axis=0) > 0.01

    def odds(values: np.ndarray, of: int) -> np.ndarray:
        return np.log(values[of][inside] / values[0][inside])

    np.testing.assert_allclose(odds(one, 2), odds(both, 2), atol=1e-3)
    np.testing.assert_allclose(odds(one, 1), odds(walked, 1), atol=1e-3)
    assert np.abs(odds(both, 1) - odds(walked, 1)).max() > 0.05


def test_progress_says_of_what_and_a_stop_is_heard() -> None:
    heard: list[str] = []
    control = RunControl()

    def listener(event: Event) -> None:
        if isinstance(event, StageProgress) and event.stage is Stage.PROPAGATE:
            heard.append(event.message)
            if event.message == "balls, label 2":
                control.stop()

    with pytest.raises(Stopped):
        pipeline.propagate(two_balls(), config(), control=control, listener=listener)
    assert set(heard) == {"balls", "balls, label 2"}


def test_a_trained_run_predicts_with_close_ups(tmp_path: Path) -> None:
    case = two_balls()
    settings = {
        "model__architecture": "completer",
        "model__completion": True,
        "training__iterations": 1,
        "training__learning_rate": 1e-12,
        "training__unlabelled_patches": 0,
        "inference__corrections": True,
    }
    pipeline.train([case], tmp_path / "run", config(**settings))
    predicted = pipeline.predict(tmp_path / "run", case, device="cpu")
    propagated_alone = pipeline.propagate(case, config(**settings))
    assert (predicted.mask != propagated_alone.mask).mean() < 1e-3
    assert dice(predicted.mask, 2) > 0.9
