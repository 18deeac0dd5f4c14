"""What fills a volume around a scan makes no difference, from planning to the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.engine import CENTRE, ball, ball_case, ball_image, tiny_config

from napari_rada import pipeline
from napari_rada.config import RunConfig
from napari_rada.data.case import Case
from napari_rada.data.grid import Grid
from napari_rada.data.orientation import turn_of
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.plan import plan
from napari_rada.training.preflight import preflight
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = ((3, 0), (5, 14), (0, 9))
CONFIG = tiny_config(data__max_voxels=4096).for_cohort().with_settings({"data.propagation_voxels": None})


def padded(case: Case) -> Case:
    """Put the darkest value around a case."""
    image = np.pad(case.image, WIDTHS, constant_values=case.image.min())
    if case.labels is None:
        return Case.create(image, name=case.name)
    slices = [(plane.axis, plane.index + WIDTHS[plane.axis][0]) for plane in case.annotated]
    return Case.create(image, np.pad(case.labels, WIDTHS), slices=slices, name=case.name)


def cases(number: int = 3) -> list[Case]:
    return [ball_case("ball"), ball_case("other", 1), ball_case("unlabelled", 2, labelled=False)][:number]


def inside(values: np.ndarray) -> np.ndarray:
    """Return the part of (…, z, y, x) that is not padding."""
    shape = values.shape[-3:]
    return values[(..., *(slice(a, size - b) for (a, b), size in zip(WIDTHS, shape, strict=True)))]


def outside(values: np.ndarray) -> np.ndarray:
    """Return the values of (…, z, y, x) in the padding."""
    around = np.ones(values.shape[-3:], dtype=bool)
    inside(around)[...] = False
    return values[..., around]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.train(cases(), tmp_path_factory.mktemp("scanned") / "run", CONFIG).run_dir


@pytest.mark.parametrize("number", [1, 3])
def test_the_same_is_planned(number: int) -> None:
    config = RunConfig.from_preset("quick").with_settings({"data.max_voxels": 4096, "data.crop_margin": None})
    assert plan([padded(case) for case in cases(number)], config) == plan(cases(number), config)


def test_a_scan_that_is_turned_is_planned_as_it_will_lie() -> None:
    affine = np.eye(4)[[2, 0, 1, 3]]
    image, labels = padded(ball_case()).image, np.pad(ball(), WIDTHS)
    slices = [(axis, index + WIDTHS[axis][0]) for axis, index in enumerate(CENTRE)]
    case = Case.create(image, labels, slices=slices, grid=Grid(image.shape, affine))
    config = tiny_config(data__max_voxels=4096, data__orientation="RAS", training__patch_voxels=10**6)
    assert plan([case], config).training.patch == plan([turn_of(case, "RAS").case(case)], config).training.patch
    assert turn_of(case, "RAS")


def test_memory_of_the_working_grid_does_not_count_it() -> None:
    config = tiny_config(data__max_voxels=None, model__completion=False)
    image = np.pad(ball_image(ball()), 40, constant_values=-5)
    labels, slices = np.pad(ball(), 40), [(axis, index + 40) for axis, index in enumerate(CENTRE)]
    case = Case.create(image, labels, slices=slices)
    speck = image.copy()
    speck[0, 0, 0] = speck[-1, -1, -1] = 1
    found, whole = (preflight([one], config).memory.volumes for one in (case, replace(case, image=speck)))
    assert found < 0.6 * whole


def test_networks_learn_the_same(run: Path, tmp_path: Path) -> None:
    other = pipeline.train([padded(case) for case in cases()], tmp_path / "run", CONFIG).run_dir
    first, second = (load_checkpoint(RunFolder.open(path).last_checkpoint).model for path in (run, other))
    assert all((second[name] == values).all() for name, values in first.items())


@pytest.mark.parametrize("labelled", [False, True])
def test_the_mask_is_the_same_and_all_around_it_is_background(run: Path, labelled: bool) -> None:
    case = ball_case("third", 3, labelled=labelled)
    own, found = (pipeline.predict(run, one, device="cpu") for one in (case, padded(case)))
    assert own.disagreement is not None
    assert found.disagreement is not None
    for one, other in (
        (own.mask, found.mask),
        (own.probability, found.probability),
        (own.disagreement, found.disagreement),
    ):
        np.testing.assert_array_equal(inside(other), one)
    assert 0 < own.mask.mean() < 1
    assert not outside(found.mask).any()
    assert (outside(found.probability) == [[1], [0]]).all()
    assert not outside(found.disagreement).any()
    assert not outside(found.doubt).any()
    heats = [pipeline.explain(run, one, "label 1", device="cpu").heat for one in (case, padded(case))]
    np.testing.assert_array_equal(inside(heats[1]), heats[0])
    assert not outside(heats[1]).any()


def test_propagation_and_preview_are_the_same(run: Path) -> None:
    case = ball_case()
    masks = [pipeline.propagate(one, CONFIG).mask for one in (case, padded(case))]
    np.testing.assert_array_equal(inside(masks[1]), masks[0])
    shown = [pipeline.preview(run, one, device="cpu").mask for one in (case, padded(case))]
    np.testing.assert_array_equal(inside(shown[1]), shown[0])
    assert shown[0].any()


def test_a_propagation_whose_own_grid_reaches_beyond_it_comes_to_the_working_grid(tmp_path: Path) -> None:
    config = tiny_config(data__max_voxels=None, data__propagation_voxels=5000)
    labelled = [padded(one) for one in cases(2)]
    found = pipeline.train(labelled, tmp_path / "run", config).run_dir
    prediction = pipeline.predict(found, labelled[0], device="cpu")
    assert prediction.mask.any()
    assert not outside(prediction.mask).any()
