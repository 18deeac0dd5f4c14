import math

import pytest

from napari_rada.settings import CosineDecay, CrossConfig, StepDecay
from napari_rada.training import schedules


def test_ramp_rises_from_exp_minus_five_to_one():
    assert math.isclose(schedules.rampup(0, 6000), math.exp(-5))
    assert schedules.rampup(6000, 6000) == schedules.rampup(9000, 6000) == 1.0
    values = [schedules.rampup(t, 100) for t in range(101)]
    assert values == sorted(values)


def test_beta_is_the_lineage_ramp():
    # SGTC: 0.1 * rampup(t / 150, 40); 40 * 150 = 6000 iterations.
    assert math.isclose(schedules.cross_weight(3000, 6000, CrossConfig()), 0.1 * math.exp(-5 * 0.25))
    assert schedules.cross_weight(6000, 6000, CrossConfig()) == 0.1


@pytest.mark.parametrize(("schedule", "values"), [("linear", (0.05, 0.1, 0.2)), ("constant", (0.2, 0.2, 0.2))])
def test_beta_has_other_schedules_for_comparison(schedule, values):
    cross = CrossConfig(beta_max=0.2, schedule=schedule)
    assert tuple(schedules.cross_weight(t, 100, cross) for t in (25, 50, 100)) == pytest.approx(values)


def test_trust_falls_in_steps_along_a_cosine():
    assert schedules.trust(1, 6000, 0.97, 1000) == schedules.trust(1000, 6000, 0.97, 1000) == 0.97
    assert math.isclose(schedules.trust(3001, 6000, 0.97, 1000), 0.97 / 2)
    assert schedules.trust(5001, 6000, 0.97, 1000) < 0.1


def test_the_entropy_gate_opens_to_ln_c():
    assert schedules.entropy_threshold(1, 10, 2) < 0.8 * math.log(2)
    assert math.isclose(schedules.entropy_threshold(10, 10, 5), math.log(5))


@pytest.mark.parametrize(("iteration", "rate"), [(1, 0.01), (2500, 0.01), (2501, 0.001), (5001, 1e-4), (6000, 1e-4)])
def test_the_paper_divides_the_rate_by_ten_every_2500(iteration, rate):
    assert math.isclose(schedules.learning_rate(iteration, 6000, 0.01, StepDecay()), rate)


def test_a_rate_below_the_least_is_not_raised():
    decay = StepDecay(minimum=1e-3)
    assert [schedules.learning_rate(t, 6000, 1e-5, decay) for t in (1, 6000)] == [1e-5, 1e-5]


def test_cosine_decay_warms_up_and_ends_low():
    decay = CosineDecay(warmup=0.1, final=0.01)
    rates = [schedules.learning_rate(t, 100, 1.0, decay) for t in range(1, 101)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9] == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert math.isclose(rates[-1], 0.01)
