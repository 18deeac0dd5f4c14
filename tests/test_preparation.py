"""From a case to what propagation, networks and patches work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.engine import ball, ball_case, tiny_config

from napari_rada.control import RunControl
from napari_rada.data.case import Case, check_trainable
from napari_rada.events import Event, Stage, StageProgress, ignore
from napari_rada.preparation import Work, network_inputs, own_grids, propagated, training_volume, working_grids
from napari_rada.propagation.regridding import regridded

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_rada.data.working import WorkingCase

COARSE = {"propagation__method": "combined", "data__max_voxels": 4096}


def work(case: Case | None = None, **settings: object) -> Work:
    case = case or ball_case()
    return Work(case, check_trainable([ball_case()]), tiny_config(**{**COARSE, **settings}), RunControl(), ignore)


def test_a_labelled_case_has_its_working_grid_in_both_alignments() -> None:
    first, second = working_grids(work())
    assert first.padding != second.padding
    assert [len(working_grids(work(**one))) for one in ({"data__aligned": False}, {"data__max_voxels": None})] == [1, 1]
    assert len(working_grids(work(ball_case(labelled=False)))) == 1


def test_where_propagation_has_its_own_grids_those_are_aligned() -> None:
    asked = work(data__propagation_voxels=6000, data__max_voxels=20_000)
    (networks,) = working_grids(asked)
    first, second = own_grids(asked)
    assert networks.padding == (0, 0, 0)
    assert first.padding != second.padding
    assert np.prod(first.shape) < np.prod(networks.shape)
    assert [grid.padding for grid in own_grids(work())] == [grid.padding for grid in working_grids(work())]


@pytest.mark.parametrize("grids", [working_grids, own_grids])
def test_more_slices_that_show_something_get_a_finer_grid(grids: Callable[[Work], list[WorkingCase]]) -> None:
    settings: dict[str, object] = {"data__max_voxels": 5000, "data__crop_margin": None, "data__aligned": False}
    if grids is own_grids:
        settings |= {"data__propagation_voxels": 5000, "data__max_voxels": 10_000}
    three = ball_case()
    z, y, _ = (plane.index for plane in three.annotated)
    sizes = []
    for added in ([], [(0, z - 2), (0, z + 2), (1, y - 2)], [(0, 0), (1, 0), (2, 0)]):
        case = Case.create(three.image, ball(), slices=[*three.annotated, *added])
        sizes.append(grids(work(case, **settings))[0].image.size)
        assert grids(work(case, **settings | {"data__usual_slices": None}))[0].image.size == sizes[0]
    three_slices, six, three_and_empty = sizes
    assert three_and_empty == three_slices < six


def test_the_progress_of_both_alignments_is_one() -> None:
    told: list[Event] = []
    asked = work()._replace(listener=told.append)
    made = propagated(asked, working_grids(asked), held_out=False)
    assert len(made) == 2
    shares = [event.done / event.total for event in told if isinstance(event, StageProgress)]
    assert {event.stage for event in told if isinstance(event, StageProgress)} == {Stage.PROPAGATE}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any(0.5 < share < 1.0 for share in shares)


def test_opinions_weigh_the_same_in_both_alignments() -> None:
    first, second = (made.pseudo.shared for made in propagated(work(), working_grids(work()), held_out=False))
    assert first is not None
    assert second is not None
    assert first.pools[None] is second.pools[None]


def test_flow_carries_on_a_finer_grid_once_for_both_alignments() -> None:
    grids = working_grids(work(propagation__flow__max_voxels=10_000))
    assert [grid.finer.shape for grid in grids if grid.finer] == [grids[0].finer.shape] * 2
    assert np.prod(grids[0].shape) < np.prod(grids[0].finer.shape) <= 10_000
    first, second = (made.pseudo.opinions for made in propagated(work(), grids, held_out=False))
    assert first[2].case is grids[0].finer
    assert first[2] is second[2]
    without = (
        work(ball_case(labelled=False)),
        work(propagation__method="diffusion"),
        work(data__propagation_voxels=6000),
    )
    assert all(grid.finer is None for asked in without for grid in working_grids(asked))


def test_networks_learn_on_the_first_alignment_and_predict_on_both() -> None:
    asked = work()
    grids = working_grids(asked)
    working, volume = training_volume(asked)
    assert working.padding == grids[0].padding
    assert volume.prior is not None
    inputs, made = network_inputs(asked, grids)
    for grid, seen, (pseudo, made_on) in zip(grids, inputs, made, strict=True):
        assert made_on is grid
        np.testing.assert_array_equal(seen.image, grid.image)
        np.testing.assert_array_equal(seen.prior, pseudo.probability)
    np.testing.assert_allclose(volume.prior[3], inputs[0].prior, atol=1e-3)  # float16


def test_what_was_propagated_on_own_grids_comes_to_that_of_the_networks() -> None:
    asked = work(data__propagation_voxels=6000, data__max_voxels=20_000)
    working, volume = training_volume(asked)
    expected = regridded(propagated(asked, own_grids(asked), held_out=True), working, asked.control)
    assert volume.prior is not None
    np.testing.assert_allclose(volume.prior[3], expected.probability, atol=1e-3)


@pytest.mark.parametrize("labelled", [True, False])
def test_networks_that_need_no_propagation_get_none(labelled: bool) -> None:
    asked = work(
        ball_case(labelled=labelled), model__completion=False, model__architecture="vnet", inference__blend=1.0
    )
    inputs, made = network_inputs(asked, working_grids(asked))
    assert (len(inputs), made) == (len(working_grids(asked)), [])
