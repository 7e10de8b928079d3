"""Age and block replacement, break-even cost and spare parts against closed forms and plain simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gamma

from twinlab.maintenance import policy, survival
from twinlab.schema import InputError

COSTS = {"planned_cost": 1.0, "failure_cost": 5.0}


@pytest.mark.parametrize(("shape", "age", "rate"), [(2, 0.5107, 4.0852), (3, 0.5026, 3.0314)])
def test_best_age_of_the_two_known_cases(shape, age, rate):
    best = policy.best_age(shape=shape, scale_days=1, **COSTS)
    assert float(best.replacement_age) == pytest.approx(age, rel=1e-3)
    assert float(best.replacement_cost_rate) == pytest.approx(rate, rel=1e-3)
    assert float(best.failure_cost_rate) == pytest.approx(5 / gamma(1 + 1 / shape), rel=1e-12)


@pytest.mark.parametrize("shape", [1.05, 1.4, 2.5, 8.0])
def test_cost_rate_is_the_renewal_reward_integral_and_least_at_the_best_age(shape):
    law = {"shape": shape, "scale_days": 700.0}
    for age in (50.0, 400.0, 2000.0):
        area = quad(lambda t: np.exp(-((t / 700) ** shape)), 0, age, epsrel=1e-10)[0]
        failed = 1 - np.exp(-((age / 700) ** shape))
        wanted = ((1 - failed) + 5 * failed) / area
        assert float(policy.age_cost(age, **law, **COSTS)[0]) == pytest.approx(wanted, rel=1e-8)
    best = policy.best_age(**law, **COSTS)
    at = float(best.replacement_age)
    if np.isfinite(at):
        around = policy.age_cost(at * np.array([0.97, 1.0, 1.03]), **law, **COSTS)
        assert float(around[1]) <= float(around.min()) * (1 + 1e-12)  # flat where ageing is slight
    else:  # so late that the last part works with less than one chance in 1e12
        assert float(policy.age_cost(700 * 27 ** (1 / shape), **law, **COSTS)[0]) == pytest.approx(
            float(best.failure_cost_rate), rel=1e-6
        )


def test_best_age_of_fitted_lives_lies_in_its_interval():
    pytest.importorskip("lifelines", reason="needs the extra maintenance")
    held = 0
    for seed in range(12):
        lives = survival.simulate_lives(300, shape=2.5, scale_days=900, seed=seed)
        low, high = policy.best_age_interval(survival.weibull_aft(lives), draws=100, **COSTS)
        held += low <= float(policy.best_age(shape=2.5, scale_days=900, **COSTS).replacement_age) <= high
    assert held >= 9  # of 12 at 95 %: 8 or fewer once in 4,000
    flat = survival.weibull_aft(survival.simulate_lives(100, shape=1.0, scale_days=900, seed=1))
    assert np.isinf(policy.best_age_interval(flat, draws=40, **COSTS)[1])


def test_planned_replacement_never_pays_without_ageing_or_without_a_dearer_failure():
    assert np.isinf(policy.best_age(shape=1.0, scale_days=1, **COSTS).replacement_age)
    assert np.isinf(policy.best_age(shape=0.7, scale_days=1, **COSTS).replacement_age)
    assert np.isinf(policy.best_age(shape=3, scale_days=1, planned_cost=5, failure_cost=5).replacement_age)


def test_cost_rate_comes_out_of_simulated_renewals():
    rng = np.random.default_rng(1)
    life = rng.weibull(2.0, 200_000)
    age = 0.5107
    cost = np.where(life < age, 5.0, 1.0)
    rate = cost.mean() / np.minimum(life, age).mean()
    sd = np.std(cost - rate * np.minimum(life, age)) / np.sqrt(life.size) / np.minimum(life, age).mean()
    assert abs(rate - 4.0852) < 3 * sd


def test_break_even_cost_makes_both_rules_cost_the_same():
    law = {"shape": 2.2, "scale_days": 900.0, "planned_cost": 3.0}
    for age in (200.0, 700.0, 1500.0):
        cost = float(policy.break_even_failure_cost(age, **law)[0])
        planned, failure = policy.age_cost([age, np.inf], failure_cost=cost, **law).to_numpy()
        assert planned == pytest.approx(failure, rel=1e-9)
    assert np.isinf(policy.break_even_failure_cost(500.0, **{**law, "shape": 1.0})[0])


def test_renewal_function_of_the_exponential_law_and_its_limit():
    times = np.array([0.0, 0.3, 1.0, 2.5])
    exponential = policy.expected_failures(times, shape=1, scale_days=1)
    np.testing.assert_allclose(exponential, times, atol=2e-3)  # error of the midpoints falls as the step
    mean, square = gamma(1.5), gamma(2.0)
    late = float(policy.expected_failures(8.0, shape=2, scale_days=1)[0])
    limit = 8 / mean + square / (2 * mean**2) - 1  # Smith's theorem
    assert late == pytest.approx(limit, abs=2e-3)


def test_block_replacement_against_plain_simulation():
    rng = np.random.default_rng(2)
    interval, runs = 0.9, 40_000
    clock, failures = np.zeros(runs), np.zeros(runs)
    while (clock < interval).any():
        clock = clock + rng.weibull(2.0, runs)
        failures += clock < interval
    sd = failures.std() / np.sqrt(runs)
    found = float(policy.block_cost(interval, shape=2, scale_days=1, **COSTS)[0]) * interval
    assert abs(found - (1 + 5 * failures.mean())) < 5 * 3 * sd


def test_spares_with_emergency_orders_are_erlangs_loss_system():
    # A = 2, N = 3: (8/6) / (1 + 2 + 2 + 8/6) = 4/19
    got = policy.spare_stock(
        [0, 3], demand_per_year=20, replenish_days=36.525, holding_cost=7, shortage_cost=11
    )
    np.testing.assert_allclose(1 - got.fill_rate, [1.0, 4 / 19], rtol=1e-12)
    np.testing.assert_allclose(got.stock_cost, [11 * 20, 21 + 11 * 20 * 4 / 19], rtol=1e-12)


@pytest.mark.parametrize("shortage", ["emergency", "wait"])
def test_spares_against_plain_simulation(shortage):
    rng = np.random.default_rng(3)
    lead, rate, stock, n = 30.0, 24.35, 2, 60_000
    demand = np.cumsum(rng.exponential(365.25 / rate, n))
    there = [-1.0] * stock
    missed, waited = 0, 0.0
    for at in demand:
        there.sort()
        if there[0] <= at:
            there[0] = at + lead
        else:
            missed += 1
            if shortage == "wait":
                waited += there[0] - at
                there[0] = at + lead  # ordered at once; the spare that comes first is taken
    got = policy.spare_stock([stock], demand_per_year=rate, replenish_days=lead, shortage=shortage)
    share = missed / n
    # successive demands meet a shelf alike: a factor 2 on the binomial sd
    assert abs(1 - float(got.fill_rate[0]) - share) < 6 * np.sqrt(share * (1 - share) / n)
    assert float(got.mean_wait_days[0]) == pytest.approx(waited / n, rel=0.03, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: policy.best_age(shape=-1, scale_days=1, **COSTS), "finite values above 0"),
        (lambda: policy.age_cost(0.0, shape=2, scale_days=1, **COSTS), "ages above 0 d"),
        (lambda: policy.block_cost(-1.0, shape=2, scale_days=1, **COSTS), "intervals above 0 d"),
        (lambda: policy.spare_stock([0.5], demand_per_year=1, replenish_days=1), "whole numbers of spares"),
        (lambda: policy.spare_stock([1], demand_per_year=0, replenish_days=1), "above 0"),
        (
            lambda: policy.spare_stock([1], demand_per_year=1, replenish_days=1, shortage="none"),
            "emergency or wait",
        ),
    ],
)
def test_bad_values_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
