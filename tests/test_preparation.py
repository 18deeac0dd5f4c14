"""From a case to what propagation, networks and patches work on."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine import ball_case, tiny_config

from napari_rada.control import RunControl
from napari_rada.data.case import Case, check_trainable
from napari_rada.events import Event, Stage, StageProgress, ignore
from napari_rada.preparation import Work, network_inputs, own_grids, propagated, training_volume, working_grids
from napari_rada.propagation.regridding import regridded

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
    first, second = (made.pseudo.pools for made in propagated(work(), working_grids(work()), held_out=False))
    assert first[None] is second[None]


def test_networks_learn_on_the_first_alignment_and_predict_on_both() -> None:
    asked = work()
    grids = working_grids(asked)
    working, volume = training_volume(asked)
    assert working.padding == grids[0].padding
    assert volume.prior is not None
    inputs = network_inputs(asked, grids)
    for grid, (seen, pseudo) in zip(grids, inputs, strict=True):
        assert pseudo is not None
        np.testing.assert_array_equal(seen.image, grid.image)
        assert pseudo.probability.shape[1:] == grid.shape
    np.testing.assert_allclose(volume.prior[3], inputs[0][0].prior, atol=1e-3)  # float16


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
    for _, pseudo in network_inputs(asked, working_grids(asked)):
        assert pseudo is None
