"""What networks are given beside the image, and that what is held out is not in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.propagation.scenes import CENTRE, ellipsoids, redrawn, run, scan, working

from napari_rada.models.completer import CUES, LOGIT_LIMIT
from napari_rada.models.networks import count_cues
from napari_rada.propagation import make_propagator
from napari_rada.propagation.cues import propagation_logit
from napari_rada.settings import CombinedConfig, DiffusionConfig, FlowConfig, ModelConfig, TrainingConfig
from napari_rada.training.volumes import NEARNESS_SCALE, cues_without, make_volume

if TYPE_CHECKING:
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import PseudoLabels
    from napari_rada.settings import Architecture

PAIRS = ((2, 1), (0, 2), (1, 0))
WAYS: dict[str, Any] = {
    "diffusion": DiffusionConfig(),
    "combined": CombinedConfig(caution=None),
    "combined on a coarser grid": CombinedConfig(caution=None, diffusion=DiffusionConfig(max_voxels=4096)),
}


def propagated(way: str, changed_view: int | None = None, held_out: bool = True) -> tuple[WorkingCase, PseudoLabels]:
    """Return the scene and its propagation; in the slice of one view another annotation can be drawn."""
    labels = ellipsoids()
    drawn = labels if changed_view is None else redrawn(labels, changed_view)
    case = working(scan(labels), drawn)
    return case, run(make_propagator(WAYS[way]), case, held_out=held_out)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", ["vnet", "completer"])
@pytest.mark.parametrize("view", range(3))
def test_cues_without_a_view_know_nothing_of_its_labels(view: int, architecture: Architecture, way: str) -> None:
    honest, changed = (cues_without(*propagated(way, other), view, architecture) for other in (None, view))
    np.testing.assert_array_equal(honest, changed)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("view", range(3))
def test_cues_of_all_slices_know_the_labels_of_every_view(view: int, way: str) -> None:
    honest, changed = (cues_without(*propagated(way, other), None, "completer") for other in (None, view))
    assert not np.array_equal(honest, changed)


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
def test_there_are_as_many_cues_as_networks_are_made_for(architecture: Architecture) -> None:
    case, pseudo = propagated("combined")
    cues = cues_without(case, pseudo, 1, architecture)
    assert cues.shape == (count_cues(architecture, 3), *case.shape)
    assert cues.dtype == np.float16
    assert np.abs(cues).max() <= 1.0


@pytest.mark.parametrize("view", [None, 0, 2])
def test_a_completer_is_told_of_the_propagation_that_it_is_to_correct(view: int | None) -> None:
    case, pseudo = propagated("combined")
    propagated_there = pseudo.probability if view is None else pseudo.held_out[view]
    assert propagated_there is not None
    cues = cues_without(case, pseudo, view, "completer")
    for index in (1, 2):
        told = cues[(index - 1) * len(CUES) + CUES.index("propagation")]
        np.testing.assert_allclose(told, propagation_logit(propagated_there[index]) / LOGIT_LIMIT, atol=1e-3)


def test_a_v_net_is_told_the_nearness_to_the_other_slices() -> None:
    case, pseudo = propagated("diffusion")
    (nearness,) = cues_without(case, pseudo, 0, "vnet")
    _, y, x = np.indices(case.shape)
    nearest = np.minimum(abs(y - CENTRE[1]), abs(x - CENTRE[2]))
    np.testing.assert_allclose(nearness, np.exp(-nearest / NEARNESS_SCALE), atol=1e-3)


def test_where_nothing_else_was_annotated_the_cues_are_those_of_all_slices() -> None:
    labels = ellipsoids()
    case = working(scan(labels), labels, slices=[(0, CENTRE[0])])
    pseudo = run(make_propagator(CombinedConfig()), case, held_out=True)
    assert pseudo.held_out == (None, None, None)
    every = cues_without(case, pseudo, None, "completer")
    for view in range(3):
        np.testing.assert_array_equal(cues_without(case, pseudo, view, "completer"), every)


def test_a_propagation_without_folds_gives_the_cues_of_all_slices() -> None:
    folded, alone = (propagated("combined", held_out=held_out) for held_out in (True, False))
    assert alone[1].held_out == (None, None, None)
    found = [cues_without(*made, None, "completer") for made in (folded, alone)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
def test_a_volume_holds_the_propagation_and_the_cues_of_every_fold(architecture: Architecture) -> None:
    case, pseudo = propagated("combined")
    volume = make_volume(case, pseudo, PAIRS, model=ModelConfig(architecture=architecture, completion=True))
    assert volume.cues is not None
    assert volume.prior is not None
    assert len(volume.cues) == len(volume.prior) == 4
    for fold, view in enumerate((0, 1, 2, None)):
        np.testing.assert_array_equal(volume.cues[fold], cues_without(case, pseudo, view, architecture))
        without = pseudo.probability if view is None else pseudo.held_out[view]
        assert without is not None
        np.testing.assert_array_equal(volume.prior[fold], without.astype(np.float16))


def test_networks_that_work_from_the_image_alone_are_given_none() -> None:
    case, pseudo = propagated("diffusion")
    volume = make_volume(case, pseudo, PAIRS, model=ModelConfig())
    assert volume.prior is None
    assert volume.cues is None
    assert volume.is_labelled


def test_where_views_are_told_apart_every_network_learns_the_dense_labels_of_another() -> None:
    labels = ellipsoids()
    case = working(scan(labels), labels)
    pseudo = run(make_propagator(FlowConfig()), case, held_out=True)
    volume = make_volume(case, pseudo, TrainingConfig().view_pairs, model=ModelConfig())
    assert volume.pseudo is not None
    assert volume.pseudo_distance is not None
    own = (2, 0, 1)
    np.testing.assert_array_equal(volume.pseudo, pseudo.labels[list(own)])
    np.testing.assert_array_equal(volume.pseudo_distance, pseudo.distance[list(own)])


def test_dense_labels_without_a_view_are_as_far_from_the_slices_of_the_other_two() -> None:
    case, pseudo = propagated("diffusion")
    volume = make_volume(case, pseudo, PAIRS, model=ModelConfig())
    assert volume.pseudo_distance is not None
    for found, pair in zip(volume.pseudo_distance, PAIRS, strict=True):
        np.testing.assert_array_equal(found, np.minimum(*(pseudo.distance[view] for view in pair)))
