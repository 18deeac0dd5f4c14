"""How long an iteration takes, and how many fit into a budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_rada.training.checkpoint import TrainState
from napari_rada.training.pace import BUDGET_SHARE, Pace, ToCome


def passed(state: TrainState, *seconds: float, loading: int = 1) -> tuple[Pace, TrainState]:
    """Let iterations of so many seconds pass in one process."""
    pace = Pace(loading)
    for each in seconds:
        state = replace(state, iteration=state.iteration + 1, elapsed_s=state.elapsed_s + each)
        pace.went_on(state)
    return pace, state


def test_the_first_iteration_of_a_process_does_not_count() -> None:
    pace, state = passed(TrainState(0, 100), 60.0, 1.0, 2.0, 3.0)
    assert pace.seconds(state) == pytest.approx(2.0)


def test_iterations_before_one_is_recorded_do_not_count() -> None:
    slow = (90.0, 90.0, 90.0, 300.0)
    pace, state = passed(TrainState(0, 100), *slow, 25.0, 25.0, loading=4)
    assert pace.seconds(state) == pytest.approx(25.0)
    pace, state = passed(TrainState(0, 100), 90.0, 90.0, loading=4)
    assert pace.seconds(state) == pytest.approx(90.0), "all that is known"


def test_after_one_iteration_its_time_is_all_that_is_known() -> None:
    pace, state = passed(TrainState(0, 100), 60.0)
    assert pace.seconds(state) == pytest.approx(60.0)


def test_a_continued_run_is_not_timed_by_the_one_before() -> None:
    start = TrainState(50, 100, elapsed_s=5000.0, first=50, first_elapsed_s=5000.0)
    assert passed(start, 3.0)[0].seconds(passed(start, 3.0)[1]) == pytest.approx(3.0)
    pace, state = passed(start, 3.0, 1.0)
    assert pace.seconds(state) == pytest.approx(1.0)


def test_after_a_slow_start_the_rest_of_a_budget_is_used() -> None:
    pace, state = passed(TrainState(0, 100_000), 60.0, 0.5, 0.5, 0.5, 0.5)
    wanted = 5 + (BUDGET_SHARE * 300.0 - 62.0) / 0.5
    assert pace.fitting(state, 5.0) == pytest.approx(wanted, abs=1)


def test_iterations_that_a_coarse_clock_does_not_see_fit_a_budget_too() -> None:
    pace, state = passed(TrainState(0, 100), 0.0)
    assert 1 < pace.fitting(state, 5.0) < 1_000_000


def test_a_budget_that_is_used_up_leaves_what_is_done() -> None:
    pace, state = passed(TrainState(0, 100_000), 400.0, 1.0)
    assert pace.fitting(state, 5.0) == 2


def test_what_is_to_come_takes_the_time_of_its_iterations_or_its_budget() -> None:
    assert ToCome().seconds(2.0) == 0
    assert ToCome(iterations=10, cost=1.5).seconds(2.0) == pytest.approx(30.0)
    assert ToCome(minutes=2.0).seconds(2.0) == pytest.approx(120.0)


def test_what_is_to_come_is_counted_by_its_budget() -> None:
    assert ToCome(iterations=10, cost=1.5).fitted(2.0) == ToCome(iterations=10, cost=1.5)
    fitted = ToCome(cost=1.5, minutes=2.0).fitted(2.0)
    assert fitted.iterations == int(BUDGET_SHARE * 120.0 / 3.0)
    assert fitted.seconds(2.0) == pytest.approx(120.0), "the budget, not the iterations that were counted by it"
