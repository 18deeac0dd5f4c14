"""What a run has told, ready to be drawn."""

from __future__ import annotations

import numpy as np
import pytest

from napari_rada._napari.history import History, decimate
from napari_rada.events import Paused, StepLogged, TrainingStarted, Validated


def step(iteration: int) -> StepLogged:
    supervised = (1.0 * iteration, 2.0 * iteration, 3.0 * iteration)
    return StepLogged(iteration, 100, supervised, (0.0, 0.1, 0.2), 0.1, 0.01, 1.0, 9.0)


def test_every_network_and_kind_is_a_series():
    history = History()
    assert history.add(step(1))
    assert history.add(step(2))
    x, y = history.losses("supervised", 2)
    assert x.tolist() == [1.0, 2.0]
    assert y.tolist() == [3.0, 6.0]
    assert history.losses("cross", 1)[1].tolist() == [0.1, 0.1]


def test_validations_are_kept_and_other_events_are_not():
    history = History()
    assert history.add(Validated(10, 0.9, 0.8, best=True))
    assert not history.add(Paused(10))
    assert [series.tolist() for series in history.dice()] == [[10.0], [0.9]]
    assert not history.steps


def test_what_a_run_begins_before_is_forgotten_by_that_run_alone():
    before = History.of([step(1), step(2), step(3)], [Validated(2, 0.8, 0.7, best=True), Validated(3, 0.7, 0.7, False)])
    history = before.copy()
    assert history.add(TrainingStarted(3, 10, "cpu"))
    history.add(step(3))
    history.add(step(4))
    assert history.losses("supervised", 0)[0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert history.dice()[0].tolist() == [2.0]
    assert [told.iteration for told in before.steps] == [1, 2, 3]
    assert len(before.validations) == 2


@pytest.mark.parametrize("length", [0, 1, 400, 401, 6000, 123_457])
def test_long_series_are_averaged_to_few_points(length):
    x = np.arange(length, dtype=np.float64)
    short, y = decimate(x, 2 * x, 400)
    assert len(short) == len(y) <= 400
    assert len(short) == length or len(short) >= 200
    np.testing.assert_allclose(y, 2 * short)
    if length:
        assert x[0] <= short[0]
        assert short[-1] <= x[-1]
