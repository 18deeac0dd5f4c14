"""Slice-by-slice registration: it follows what moves and deforms, and knows how far it has come."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.propagation.scenes import TUBE_THREE, run, scan, tube_case, working

from napari_rada.data.classes import UNKNOWN
from napari_rada.errors import MissingDependencyError, RadaError
from napari_rada.propagation import make_propagator
from napari_rada.propagation.registration import fuse, tidied
from napari_rada.settings import RegistrationConfig
from napari_rada.temporary import PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import PseudoLabels

NOBODY = 2**30
"""The number of no process."""
needs_ants = pytest.mark.skipif(find_spec("ants") is None, reason="antspyx is not installed: pip install antspyx")


def register(case: WorkingCase, *, held_out: bool = False) -> PseudoLabels:
    return run(make_propagator(RegistrationConfig()), case, held_out=held_out)


@pytest.fixture(scope="module")
def three_views() -> tuple[WorkingCase, PseudoLabels]:
    """Propagate slices of all three views once."""
    case = tube_case(TUBE_THREE, spacing=(2.0, 1.0, 1.0))
    return case, register(case, held_out=True)


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
def test_the_result_is_the_same_every_time_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ANTS_RANDOM_SEED", "77")
    before = dict(os.environ)
    first, second = register(tube_case([(0, 4)])), register(tube_case([(0, 4)]))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


@needs_ants
def test_slices_without_structure_neither_fail_nor_move_anything() -> None:
    case = tube_case([(0, 4)])
    case.image[6:] = 0.0
    labels = register(case).labels[0]
    np.testing.assert_array_equal(labels[7], labels[6])


@needs_ants
@pytest.mark.parametrize("side", [2, 4])
def test_slices_of_a_few_pixels_are_carried_as_they_are(side: int) -> None:
    labels = np.zeros((side, 30, 30), dtype=np.uint16)
    labels[:, 10:20, 10:20] = 1
    pseudo = register(working(scan(labels), labels, [(0, 0), (1, 15), (2, 15)]))
    np.testing.assert_array_equal(pseudo.labels[1][:, 10], pseudo.labels[1][:, 15])
    assert pseudo.labels[1][:, 10].any()


def test_a_failure_of_ants_is_told_in_one_sentence_and_what_killed_ones_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"{PREFIX}-{NOBODY}-left").mkdir()

    def fail(*images: object, **settings: object) -> None:
        raise RuntimeError("Registration failed with error code 1")

    monkeypatch.setitem(
        sys.modules, "ants", SimpleNamespace(from_numpy=lambda pixels, spacing: pixels, registration=fail)
    )
    with pytest.raises(RadaError, match=r"cannot register .*error code 1\); choose another propagation\.method\.$"):
        register(tube_case([(0, 4)]))
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(MissingDependencyError, match=r"antspyx.*pip install antspyx, or"):
        make_propagator(RegistrationConfig())
