"""Slice-by-slice registration: it follows what moves and deforms, and knows how far it has come."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.propagation.scenes import dice, run, working

from napari_rada.config import RegistrationConfig
from napari_rada.control import RunControl
from napari_rada.data.classes import UNKNOWN
from napari_rada.errors import MissingDependencyError, Stopped
from napari_rada.propagation import make_propagator
from napari_rada.propagation.registration import fuse, tidied

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import PseudoLabels

needs_ants = pytest.mark.skipif(
    find_spec("ants") is None, reason='antspyx is not installed: pip install "napari-rada[registration]"'
)


def tube(shape: tuple[int, int, int] = (9, 48, 48)) -> NDArray[np.uint16]:
    """Dense labels of a tube along z that moves by 1.5 pixels a slice and changes from a circle to an ellipse."""
    z, y, x = np.indices(shape)
    along = z - shape[0] // 2
    wide, high = 9 + 0.4 * along, 9 - 0.4 * along
    return (((x - 24 - 1.5 * along) / wide) ** 2 + ((y - 24 - along) / high) ** 2 <= 1).astype(np.uint16)


THREE = [(0, 4), (1, 24), (2, 24)]


def tube_case(
    slices: list[tuple[int, int]],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    labels: NDArray[np.uint16] | None = None,
) -> WorkingCase:
    """Make a scan of the tube, annotated with the tube itself or with other labels."""
    image = tube() + np.random.default_rng(0).normal(0, 0.05, tube().shape)
    return working(image.astype(np.float32), tube() if labels is None else labels, slices, spacing)


def register(case: WorkingCase, *, held_out: bool = False) -> PseudoLabels:
    return run(make_propagator(RegistrationConfig()), case, held_out=held_out)


@pytest.fixture(scope="module")
def three_views() -> tuple[WorkingCase, PseudoLabels]:
    """Propagate slices of all three views once."""
    case = tube_case(THREE, spacing=(2.0, 1.0, 1.0))
    return case, register(case, held_out=True)


@needs_ants
def test_a_tube_that_moves_and_deforms_is_followed() -> None:
    case, truth = tube_case([(0, 4)]), tube() > 0
    pseudo = register(case, held_out=True)
    carried, kept_in_place = pseudo.labels[0] > 0, np.broadcast_to(truth[4], truth.shape)
    for index in (0, 8):
        assert dice(carried[index], truth[index]) > 0.9
        assert dice(kept_in_place[index], truth[index]) < 0.75
    assert pseudo.held_out == (None, None, None)
    assert not pseudo.labels[1:].any()
    np.testing.assert_array_equal(pseudo.probability.argmax(axis=0), pseudo.labels[0])


@needs_ants
def test_views_are_fused_by_distance_and_the_annotation_is_exact(
    three_views: tuple[WorkingCase, PseudoLabels],
) -> None:
    case, pseudo = three_views
    known = case.truth != UNKNOWN
    np.testing.assert_array_equal(pseudo.probability[:, known], np.eye(2, dtype=np.float32)[case.truth[known]].T)
    np.testing.assert_allclose(pseudo.probability.sum(axis=0), 1.0, atol=1e-5)
    np.testing.assert_array_equal(pseudo.distance[0, :, 0, 0], 2.0 * np.abs(np.arange(9) - 4))
    for view, planes in enumerate(case.slices):
        for plane in planes:
            np.testing.assert_array_equal(pseudo.labels[view][plane.selector()], case.truth[plane.selector()])
    expected = fuse(pseudo.labels, pseudo.distance, 2, 0.97)
    np.testing.assert_array_equal(pseudo.probability[:, ~known], expected[:, ~known])


@needs_ants
def test_a_held_out_view_has_no_say(three_views: tuple[WorkingCase, PseudoLabels]) -> None:
    case, pseudo = three_views
    changed = np.where(case.views == 1, 1 - tube(), tube()).astype(np.uint16)
    other = tube_case(THREE, case.spacing, changed)
    after = register(other, held_out=True)
    np.testing.assert_array_equal(pseudo.held_out[0], after.held_out[0])
    assert not np.array_equal(pseudo.probability, after.probability)


@needs_ants
def test_the_result_is_the_same_every_time_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ANTS_RANDOM_SEED", "77")
    before = dict(os.environ)
    first, second = register(tube_case([(0, 4)])), register(tube_case([(0, 4)]))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


@needs_ants
def test_a_stop_is_seen_after_the_slice_at_work() -> None:
    control = RunControl()
    told: list[tuple[int, int]] = []

    def stop_after_two(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            control.stop()

    with pytest.raises(Stopped):
        make_propagator(RegistrationConfig()).propagate(
            tube_case([(0, 4)]), held_out=False, control=control, on_progress=stop_after_two
        )
    assert told == [(0, 8), (1, 8), (2, 8)]


@needs_ants
def test_slices_without_structure_neither_fail_nor_move_anything() -> None:
    case = tube_case([(0, 4)])
    case.image[6:] = 0.0
    labels = register(case).labels[0]
    np.testing.assert_array_equal(labels[7], labels[6])


@needs_ants
def test_an_empty_annotated_slice_spreads_nothing_and_costs_nothing() -> None:
    told: list[tuple[int, int]] = []
    case = tube_case([(0, 4), (1, 0)])
    pseudo = make_propagator(RegistrationConfig()).propagate(
        case, held_out=False, control=RunControl(), on_progress=lambda *step: told.append(step)
    )
    assert not pseudo.labels[1].any()
    assert told[-1] == (8 + 47, 8 + 47)
    assert len(told) == 1 + 8 + 1


def test_opening_and_closing_remove_specks_fill_holes_and_keep_neighbours_apart() -> None:
    labels = np.zeros((20, 20), dtype=np.int16)
    labels[0:12, 0:10] = 1
    labels[0:12, 10:20] = 2
    labels[5, 5] = 0
    labels[17, 17] = 1
    clean = tidied(labels, 3)
    assert clean[5, 5] == 1
    assert clean[17, 17] == 0
    assert clean[0, 0] == 1  # the border of the slice is no border of the structure
    assert clean[0, 19] == 2
    assert (clean[1:11, 11:19] == 2).all()


def test_views_vote_with_their_weights() -> None:
    labels = np.array([1, 0], dtype=np.int16).reshape(2, 1, 1, 1)
    near = fuse(labels, np.array([1.0, 2.0], dtype=np.float32).reshape(2, 1, 1, 1), 2, 0.5)
    assert near[1].item() == pytest.approx(2 / 3)


def test_without_antspyx_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ants", None)
    with pytest.raises(MissingDependencyError, match=r"antspyx.*pip install \"napari-rada\[registration\]\""):
        make_propagator(RegistrationConfig())
