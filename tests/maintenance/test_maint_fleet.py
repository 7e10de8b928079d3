"""A simulated fleet against theory and plain re-computation; policies that see indicators only; paired intervals."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from twinlab.kernels import fleet_clock, fleet_wear
from twinlab.maintenance import policy, survival, wear
from twinlab.maintenance.policy import laws
from twinlab.schema import InputError, label

pytest.importorskip("lifelines", reason="needs the extra maintenance")


@pytest.fixture(scope="module")
def fleet():
    return policy.load_fleet()


@pytest.fixture(scope="module")
def learnt(fleet):
    return policy.learn(fleet, units=120, seeds=2)


@pytest.fixture(scope="module")
def result(fleet, learnt):
    return policy.simulate_fleet(
        fleet, policy.all_policies(fleet, learnt, threshold=0.6, probability=0.2), seeds=6
    )


def everywhere(fleet, field, value):
    """The fleet with one value in all its modes."""
    for mode in fleet.modes:
        fleet = fleet.replaced(f"modes.{mode}.{field}", value)
    return fleet


def test_clinic_and_engineer_hours_against_a_walk_through_the_week(fleet):
    hours = laws.hours_of(fleet)
    minutes = np.arange(0, 3 * 7 * 24 * 60)
    day, hour = minutes // 1440, (minutes % 1440) / 60
    scans = (hour >= 7) & (hour < 7 + np.array(fleet.clinic.hours)[day % 7])
    walked = np.concatenate([[0], np.cumsum(scans) / 60])
    can_begin = (hour >= 7) & (hour <= 19) & (day % 7 < 6)
    for t in (0.0, 6.5, 7.25, 12.0, 18.5, 23.0, 100.0, 127.5, 130.75, 150.0, 167.75, 200.5, 300.25):
        assert fleet_clock.clinic_hours(t, hours) == pytest.approx(walked[round(t * 60)], abs=1e-9)
        first = minutes[(minutes >= t * 60) & can_begin][0] / 60
        assert fleet_clock.next_engineer(t, hours) == pytest.approx(first, abs=1e-9)


def test_wear_grows_by_the_inverse_gaussian_law():
    rng = np.random.default_rng(1)
    draws = [fleet_wear.increment(0.3, 0.02, rng.standard_normal(), rng.uniform()) for _ in range(4000)]
    shape = 0.3**3 / 0.02
    assert stats.kstest(draws, stats.invgauss(0.3 / shape, scale=shape).cdf).pvalue > 1e-3
    assert fleet_wear.increment(0.3, 0.0, 1.0, 0.5) == 0.3
    tiny = [fleet_wear.increment(1e-9, 1e-9, z, 0.5) for z in (-6.0, 0.1, 6.0)]
    assert min(tiny) > 0  # no cancellation


def test_levels_at_an_age_do_not_depend_on_the_steps_that_led_there(fleet):
    # jump of used parts at the start, and daily steps of the others: same law
    modes, k = laws.modes_of(fleet), (np.uint64(5), np.uint64(0))
    jumped = [fleet_wear.used_unit(modes, 1, 2600.0, np.uint64(i), *k)[0] for i in range(1500)]
    readings, life, _ = policy.unit_history(everywhere(fleet, "noise", 1e-9), "bearing", units=1500, seed=77)
    level = np.where(np.isnan(life) | (life > 2600), readings[:, 2599], 2.0)
    blind = level < 1e-6  # not yet begun, or unseen: only failures and beginnings are compared
    dead = np.mean(np.array(jumped) >= 1)
    assert abs(dead - np.mean(life <= 2600)) < 4 * np.sqrt(2 * dead * (1 - dead) / 1500)
    assert 0 < np.mean(blind) < 1


def test_all_policies_meet_the_same_fleet(fleet, learnt):
    never = policy.Policy("never", "age", {})
    blind = policy.Policy("blind", "predictive", threshold=0.9999999, watch=learnt.watch)
    got = policy.simulate_fleet(fleet, [policy.RUN, never, blind], seeds=2, years=1)
    for name in ("unplanned_hours", "other_hours", "failures_by_mode", "part_events"):
        np.testing.assert_array_equal(got[name][0], got[name][1])
    # asking for near certainty it hardly ever acts, and without acting nothing changes
    assert float(np.abs(got.failures_by_mode[2] - got.failures_by_mode[0]).sum("mode").max()) < 0.2


def test_result_does_not_depend_on_threads():
    script = (
        "from twinlab.maintenance import policy as p; f = p.load_fleet(); "
        "r = p.simulate_fleet(f, [p.RUN, p.calendar_policy(f)], seeds=2, years=0.5, settle_years=0); "
        "print(r.unplanned_hours.values.tolist(), r.part_events.values.sum())"
    )
    said = set()
    for threads in ("1", "2"):
        env = {**os.environ, "NUMBA_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        )
        said.add(done.stdout)
    assert len(said) == 1


def test_failures_come_at_the_rate_of_a_renewal_process_from_the_first_day(fleet):
    got = policy.simulate_fleet(fleet, [policy.RUN], seeds=8, settle_years=0)
    for part in ("slip_ring", "cooling"):
        _, life, _ = policy.unit_history(fleet, part, units=600, seed=9)
        wanted = 365.25 / np.nanmean(life)
        rate = got.failures_by_mode.sel(mode=part).to_numpy().ravel()
        sd = np.hypot(
            rate.std(ddof=1) / np.sqrt(8), wanted * np.nanstd(life) / np.nanmean(life) / np.sqrt(600)
        )
        # scanners stand still during repairs: 1 % at most
        assert abs(rate.mean() - wanted) < 3.5 * sd + 0.01 * wanted


def test_hours_lost_in_a_failure_against_a_walk_by_the_minute(fleet):
    plain = fleet.replaced("service.repair_spread", 0.0).replaced("service.other_per_year", 0.0)
    for part in plain.parts:
        plain = plain.replaced(f"parts.{part}.stock", 0.0)
    got = policy.simulate_fleet(plain, [policy.RUN], seeds=3)
    events = got.part_events.sum("seed")[0].sel(part="cooling")
    assert events.sel(event="emergency orders") == events.sel(event="failures")
    lost = float(events.sel(event="hours lost") / events.sel(event="failures"))
    minutes = np.arange(0, 4 * 7 * 1440)
    day, hour = minutes // 1440, (minutes % 1440) / 60
    scans = (hour >= 7) & (hour < 7 + np.array(plain.clinic.hours)[day % 7])
    can_begin = (hour >= 7) & (hour <= 19) & (day % 7 < 6)

    def first(t):
        return minutes[(minutes >= t) & can_begin][0]

    walked = []
    for t in minutes[: 7 * 1440][scans[: 7 * 1440]][::10]:
        known = first(t + 4 * 60) + 3 * 60
        ends = first(known + 48 * 60) + 5 * 60
        walked.append(scans[t:ends].sum() / 60)
    sd = np.std(walked) / np.sqrt(float(events.sel(event="failures")))
    assert abs(lost - np.mean(walked)) < 3.5 * sd + 0.01


def test_empty_shelves_are_met_as_often_as_erlang_says(fleet):
    got = policy.simulate_fleet(fleet, [policy.RUN], seeds=12)
    events = got.part_events.sum("seed")[0]
    years = 12 * 3
    for part in fleet.parts:
        asked = float(events.sel(part=part, event="asked of the shelf"))
        short = float(events.sel(part=part, event="emergency orders")) / asked
        stock = policy.spare_stock([2], demand_per_year=asked / years, replenish_days=21)
        assert 1 - float(stock.fill_rate[0]) == pytest.approx(short, abs=4 * np.sqrt(short / asked) + 0.005)


def test_replacement_by_age_fails_as_often_as_theory_says(fleet):
    law = {"shape": 2.5, "scale_days": 2200.0}
    sharp = fleet.replaced("modes.slip_ring.growth_days", 0.01).replaced("clinic.workload_spread", 0.0)
    rule = policy.Policy("age", "age", {"slip_ring": 1000.0})
    got = policy.simulate_fleet(sharp, [rule], seeds=12, settle_years=4, years=4)
    rate = got.failures_by_mode.sel(mode="slip_ring").to_numpy().ravel()
    age = 1000.0 + 4 + 7  # the order and, on average, half a window
    failed = 1 - np.exp(-((age / law["scale_days"]) ** law["shape"]))
    wanted = 365.25 * failed / float(policy.mean_life_to(age, **law))
    assert abs(rate.mean() - wanted) < 3.5 * rate.std(ddof=1) / np.sqrt(12) + 0.02 * wanted


def test_a_watcher_without_signal_knows_nothing(fleet, learnt):
    dark = everywhere(fleet, "seen", 0.0)
    rules = [
        policy.RUN,
        policy.predictive_policy(learnt, 0.05),
        policy.condition_policy(learnt, 0.9),
    ]
    got = policy.simulate_fleet(dark, rules, seeds=3)
    failures = got.failures_by_mode.sum("mode").mean("seed").to_numpy()
    assert failures[1] > 0.97 * failures[0]  # false alarms replace a few parts by chance
    assert failures[2] > 0.97 * failures[0]


def test_learning_finds_what_the_history_holds(fleet, learnt):
    for name, mode in fleet.modes.items():
        row = learnt.indicators.sel(mode=name)
        assert float(row.indicator_noise) == pytest.approx(mode.noise.value, rel=0.05)
        assert abs(float(row.warned_share) - mode.seen.value) < 0.15  # binomial sd of 120 units: 0.04
        mean = np.exp(mode.spread.value**2 / 2) / mode.growth_days.value
        assert float(row.growth_rate) == pytest.approx(mean, rel=0.6)  # alarms come late in short growth
    assert learnt.laws["slip_ring"].shape > 2
    assert (learnt.events.failure_cost > learnt.events.planned_cost).all()


def test_predictive_loses_a_third_less_than_run_to_failure(fleet, result):
    against = policy.compare(result, ["unplanned_hours", "wear_hours"])
    least = against.reduction_low.sel(quantity="unplanned_hours", policy="predictive")
    assert float(least) >= 32.0
    best = policy.compare(result, ["unplanned_hours"], against="optimal age").sel(policy="predictive")
    assert float(best.reduction_low[0]) > 0
    assert float(result.other_hours.std("policy").max()) < 0.1  # common random numbers


@pytest.mark.slow
def test_predictive_over_fifty_seeds(fleet, learnt):
    rules = policy.all_policies(fleet, learnt, threshold=0.6, probability=0.2)
    got = policy.compare(policy.simulate_fleet(fleet, rules, seeds=50), ["unplanned_hours"])
    assert float(got.reduction_low.sel(policy="predictive")[0]) >= 32.0


def test_intervals_of_differences(result):
    got = policy.compare(result, ["unplanned_hours"]).sel(policy="predictive").isel(quantity=0)
    mine, base = (result.unplanned_hours.sel(policy=p).values for p in ("predictive", "run to failure"))
    wanted = stats.ttest_rel(mine, base).confidence_interval(0.95)
    assert float(got.change_low) == pytest.approx(wanted.low, rel=1e-9)
    assert float(got.change_high) == pytest.approx(wanted.high, rel=1e-9)
    rng = np.random.default_rng(4)
    from twinlab.maintenance.policy.money import ratio_interval

    under = rng.normal(20, 2, (4000, 30))
    over = 0.6 * under + rng.normal(0, 1, under.shape)
    ratio, half = ratio_interval(over, under, 0.95)
    assert np.mean(np.abs(ratio - 0.6) < half) == pytest.approx(0.95, abs=0.012)  # 3.5 sd of 4,000


def test_money_adds_up_and_breaks_even(fleet, result):
    money = policy.costs(result, fleet)
    parts = ("parts_cost", "labour_cost", "downtime_cost", "emergency_cost", "stock_cost_share")
    total = sum(money[p] for p in (*parts, "monitoring_cost"))
    np.testing.assert_allclose(money.total_cost, total, rtol=1e-12)
    assert float(money.monitoring_cost.sel(policy="predictive")[0]) == 3000
    assert float(money.monitoring_cost.sel(policy="calendar")[0]) == 0
    hours = float(result.unplanned_hours.sel(policy="run to failure")[0])
    assert float(money.cancelled_patients.sel(policy="run to failure")[0]) == pytest.approx(hours * 3 * 0.6)
    even = policy.break_even_day(result, fleet)
    day = float(even.break_even_lost_day)
    at = policy.costs(result, fleet.replaced("money.lost_day", day)).total_cost.mean("seed")
    assert float(at.sel(policy="predictive")) == pytest.approx(
        float(at.sel(policy="run to failure")), rel=1e-9
    )
    back = policy.return_on_fee(money)
    gap = (money.total_cost.sel(policy="run to failure") - money.total_cost.sel(policy="predictive")).mean()
    assert float(back.roi) == pytest.approx(float(gap) / 3000)
    assert float(back.roi_low) < float(back.roi) < float(back.roi_high)


def test_cost_against_threshold_has_its_least_inside(fleet, learnt):
    got = policy.cost_against_threshold(fleet, learnt, "condition", [0.2, 0.6, 0.95], seeds=2)
    assert got.attrs["best"] == 0.6
    assert (np.diff(got.threshold_hours) > 0).all()
    again = policy.cost_against_threshold(fleet, learnt, "predictive", [0.1, 0.9], seeds=2)
    assert float(again.threshold_hours[0]) < float(again.threshold_hours[1])


def test_tornado_moves_as_it_must(fleet, learnt):
    places = ["modes.cooling.seen", "service.other_hours", "money.lost_day", "clinic.open_hour"]
    got = policy.tornado(fleet, learnt, 0.2, places=places, seeds=1)
    world = got.world_reduction
    low, high = (float(world.sel(prior="service.other_hours", end=e)) for e in ("low", "high"))
    assert low > got.attrs["reduction"] > high  # longer failures that no policy prevents
    low, high = (float(world.sel(prior="modes.cooling.seen", end=e)) for e in ("low", "high"))
    assert low < high
    assert world.sel(prior="money.lost_day").values.tolist() == [got.attrs["reduction"]] * 2
    saved = got.world_saving.sel(prior="money.lost_day")
    assert float(saved[0]) < got.attrs["saving"] < float(saved[1])
    with pytest.raises(InputError, match="priors with a range"):
        policy.tornado(fleet, learnt, 0.2, places=["modes.filament.onset_days"])


def test_all_priors_at_once(fleet):
    got = policy.all_priors(fleet, 0.2, draws=2)
    assert np.isfinite(got.draw_reduction).all()
    assert float(got.draw_reduction.std()) > 0


def test_forecasts_of_remaining_life_hold(fleet, learnt):
    seen = policy.forecasts(fleet, learnt, "cooling", units=150)
    got = policy.forecast_coverage(seen)
    assert got.attrs["units"] > 60
    # 90 % intervals of a linear filter on wear that is not Gaussian; sd of the mean over units about 0.02
    assert 0.82 <= float(got.coverage.mean()) <= 0.97
    assert (np.diff(got.interval_width) < 0).all()  # they tighten
    unseen = policy.forecasts(everywhere(fleet, "seen", 0.0), learnt, "cooling", units=40)
    with pytest.raises(InputError, match="20 units with an alarm"):
        policy.forecast_coverage(unseen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(colour=1), "colour: expected one of"),
        (lambda d: d["modes"]["arcing"]["seen"].pop("low"), "low and high, or neither"),
        (
            lambda d: d["modes"]["arcing"].update(seen={"value": 0.5, "source": "prior"}),
            "with source 'prior'; got none",
        ),
        (lambda d: d["modes"]["arcing"].update(part="wheel"), "every part to have a mode"),
        (lambda d: d["supply"]["planned_days"].update(value=30.0, high=30.0), "below window_days"),
        (lambda d: d["money"]["lost_day"].update(value=1.0), "low <= value <= high"),
    ],
)
def test_bad_fleets_are_refused(fleet, change, words):
    data = fleet.model_dump()
    change(data)
    with pytest.raises(InputError, match=words):
        policy.Fleet.make(data)


def test_bad_calls_are_refused(fleet, learnt):
    with pytest.raises(InputError, match=r"one of .*reference"):
        policy.load_fleet("nowhere")
    with pytest.raises(InputError, match="names of their own"):
        policy.simulate_fleet(fleet, [policy.RUN, policy.RUN])
    with pytest.raises(InputError, match="a watch and a threshold"):
        policy.simulate_fleet(fleet, [policy.Policy("p", "predictive", threshold=0.2)])
    other = replace(policy.condition_policy(learnt, 0.5), watch=policy.learn_indicators(fleet, units=20))
    with pytest.raises(InputError, match="one watch"):
        policy.simulate_fleet(fleet, [policy.predictive_policy(learnt, 0.2), other])
    with pytest.raises(InputError, match="limits above 0 d"):
        policy.simulate_fleet(fleet, [policy.Policy("a", "age", {"wheel": 1.0})])
    with pytest.raises(InputError, match=r"probability in \(0, 1\)"):
        policy.predictive_policy(learnt, 1.0)
    one = policy.simulate_fleet(fleet, [policy.RUN], seeds=1, years=0.1, settle_years=0)
    with pytest.raises(InputError, match="two seeds or more"):
        policy.compare(one, ["unplanned_hours"])


def test_spares_raise_availability_as_erlang_expects(fleet, learnt):
    rules = [policy.RUN, policy.predictive_policy(learnt, 0.2)]
    got = policy.hours_against_stock(fleet, rules, [0, 5], seeds=2)
    assert (got.stock_fill.sel(spares=0) == 0).all()
    assert float(np.abs(got.stock_fill - got.stock_fill_expected).max()) < 0.1
    assert (got.stock_hours.sel(spares=5) < got.stock_hours.sel(spares=0)).all()
    assert (got.stock_availability.sel(spares=5) > got.stock_availability.sel(spares=0)).all()
    with pytest.raises(InputError, match="spares of 0 or more"):
        policy.hours_against_stock(fleet, rules, [-1])


def made_lives(n, seed):
    """Lives as the simulator of one scanner tells them, from a log-normal law and a competing cause."""
    rng = np.random.default_rng(seed)
    filament, other = 2000 * np.exp(0.2 * rng.standard_normal(n)), rng.exponential(6000, n)
    last = np.minimum(np.minimum(filament, other), 2600)
    cause = np.where(last == filament, "filament", np.where(last == other, "track", ""))
    values = {"life_days": last, "life_failed": cause != "", "life_cause": cause.astype(object)}
    about = {"clinic": "general_clinic", "exams_per_day": 60.0}
    return xr.Dataset({k: label(k, v) for k, v in values.items()}, attrs=about)


def test_lives_of_the_detailed_simulator_are_handed_over(fleet):
    lives = made_lives(3000, 1)
    median, spread = policy.lognormal_lives(lives.life_days.values, lives.life_cause.values == "filament")
    assert median == pytest.approx(2000, rel=0.01)
    assert spread == pytest.approx(0.2, rel=0.05)
    world = policy.fleet_from_wear(fleet, lives)
    ratio = 60 * (5 + 2 * 0.3) / (60 * 3)  # exams of a week: the clinic's over the fleet's
    assert policy.exams_ratio(fleet, lives) == pytest.approx(ratio)
    _, life, _ = policy.unit_history(world, "filament", units=1500, seed=3)
    logs = np.log(life / ratio)
    assert np.exp(np.median(logs)) == pytest.approx(2000, rel=0.03)
    assert logs.std() == pytest.approx(0.2, rel=0.08)
    assert world.modes["filament"].growth_days.source.startswith("prior: simulator")
    assert world.modes["bearing"] == fleet.modes["bearing"]
    # current of a wire at one temperature goes as its diameter to 3/2; hotter for more emission by a little
    noise, fall = policy.filament_noise(scans_per_day=25), 1 - 0.9**0.75
    assert noise == pytest.approx(0.004 / 5 / fall, rel=0.25)
    assert world.modes["filament"].noise.value < fleet.modes["filament"].noise.value
    with pytest.raises(InputError, match="8 failures of one of"):
        policy.fleet_from_wear(fleet, made_lives(6, 2))


@pytest.mark.slow
def test_fleet_and_detailed_simulator_tell_the_same_lives_of_tubes(fleet):
    lives = wear.tube_lives(24, years=14, seed=5)
    world = policy.fleet_from_wear(fleet, lives)
    failed = lives.life_cause.values == "filament"
    days = lives.life_days.values * policy.exams_ratio(fleet, lives)
    curve = survival.kaplan_meier(survival.make_lives(days, failed))
    _, life, _ = policy.unit_history(world, "filament", units=1000, seed=3)
    for level in (0.75, 0.5, 0.25):  # the fleet's quantiles lie within the 95 % band of the simulator's curve
        at = curve.sel(age=np.quantile(life, 1 - level), method="ffill")
        assert float(at.survival_low) <= level <= float(at.survival_high)
    # and the declared prior holds what the simulator says
    declared = fleet.modes["filament"].growth_days
    assert declared.low <= world.modes["filament"].growth_days.value <= declared.high
