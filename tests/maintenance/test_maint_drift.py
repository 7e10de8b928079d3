"""Control charts: run lengths against published and independent ones; change points against all partitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from twinlab.maintenance.drift import (
    Baseline,
    Design,
    average_run_length,
    baseline,
    change_points,
    cusum,
    ewma,
    first_alarm,
    shewhart,
    simulated_run_length,
)
from twinlab.maintenance.drift.segments import partition
from twinlab.schema import InputError

STANDARD = Baseline(0.0, 1.0, 100)
SHIFTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


def daily(values, day=None, **attrs):
    """Daily values from day 0 on."""
    day = np.arange(len(values)) if day is None else day
    return xr.DataArray(np.asarray(values, float), {"day": day}, ("day",), attrs=attrs)


# Lucas and Saccucci 1990 (Technometrics 32:1), table 3; Montgomery 2013 (7th ed.), tables 9.3 and 9.11
@pytest.mark.parametrize(
    ("chart", "design", "published"),
    [
        ("ewma", Design(), (500, 106, 31.3, 15.9, 10.3, 6.1, 4.4, 3.4, 2.9, 2.2)),
        (
            "ewma",
            Design(ewma_weight=0.4, ewma_width=3.054),
            (500, 224, 71.2, 28.4, 14.3, 5.9, 3.5, 2.5, 2.0, 1.4),
        ),
        ("cusum", Design(cusum_limit=4.0), (168, 74.2, 26.6, 13.3, 8.38, 4.75, 3.34, 2.62, 2.19, 1.71)),
        ("cusum", Design(), (465, 139, 38.0, 17.0, 10.4, 5.75, 4.01, 3.11, 2.57, 2.01)),
    ],
)
def test_run_lengths_are_the_published_ones(chart, design, published):
    for shift, wanted in zip(SHIFTS, published, strict=True):
        digits = len(str(wanted).partition(".")[2])
        found = average_run_length(chart, shift=shift, design=design)
        # the last printed digit: half of it is rounding, the rest what tables of 1990 differ by from 8 digits
        assert found == pytest.approx(wanted, abs=0.55 * 10.0**-digits), shift
    assert average_run_length("shewhart") == pytest.approx(1.0 / (2.0 * norm.sf(3.0)), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_run_lengths_solve_the_integral_equations(shift):
    """Nystroem's method with Gauss-Legendre nodes (Crowder 1987; Page 1954), which has no states to be refined."""
    x, w = np.polynomial.legendre.leggauss(80)
    lam, half = 0.1, 2.814 * math.sqrt(0.1 / 1.9)
    y, weight = half * x, half * w
    move = weight * norm.pdf((y[None, :] - (1 - lam) * y[:, None]) / lam - shift) / lam
    at_nodes = np.linalg.solve(np.eye(80) - move, np.ones(80))
    wanted = 1.0 + (weight * norm.pdf(y / lam - shift) / lam) @ at_nodes
    assert average_run_length("ewma", shift=shift) == pytest.approx(wanted, rel=1e-4)
    k, h = 0.5, 5.0
    y, weight = h * (x + 1) / 2, h * w / 2
    sides = []
    for delta in (shift, -shift):
        start = np.append(0.0, y)  # the sum 0 has a probability of its own
        move = np.concatenate(
            [
                norm.cdf(k - start - delta)[:, None],
                weight * norm.pdf(y[None, :] - start[:, None] + k - delta),
            ],
            axis=1,
        )
        sides.append(np.linalg.solve(np.eye(81) - move, np.ones(81))[0])
    wanted = 1.0 / (1.0 / sides[0] + 1.0 / sides[1])
    assert average_run_length("cusum", shift=shift) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("chart", ["shewhart", "ewma", "cusum"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_run_lengths_agree_with_simulation(chart, shift):
    found, uncertainty = simulated_run_length(chart, shift=shift, runs=6000, seed=3)
    assert found == pytest.approx(average_run_length(chart, shift=shift), abs=3.5 * uncertainty)


def test_charts_alarm_as_their_run_lengths_say():
    """The charts themselves, not the loop of the simulation: first alarms of 225 records after a shift."""
    rng = np.random.default_rng(8)
    for name, chart in (("shewhart", shewhart), ("ewma", ewma), ("cusum", cusum)):
        first = np.array(
            [first_alarm(chart(daily(rng.normal(2.0, 1.0, 150)), STANDARD)) + 1 for _ in range(225)]
        )
        wanted = average_run_length(name, shift=2.0)
        assert first.mean() == pytest.approx(wanted, abs=3.5 * first.std() / 15.0), name


def test_a_chart_by_hand():
    values = daily([0.0, 2.0, 2.0, np.nan, 4.0, -9.0])
    sums = cusum(values, STANDARD, reference=0.5, limit=5.0)
    assert sums["cusum_high"].to_numpy().tolist() == [0.0, 1.5, 3.0, 3.0, 6.5, 0.0]
    assert sums["cusum_low"].to_numpy().tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 8.5]
    assert sums["alarm"].to_numpy().tolist() == [False, False, False, False, True, True]
    assert sums["onset_day"][4] == 1.0
    assert first_alarm(sums) == 4.0
    mean = ewma(values, STANDARD, weight=0.5, width=3.0)["chart_value"].to_numpy()
    assert mean == pytest.approx([0.0, 1.0, 1.5, np.nan, 2.75, -3.125], nan_ok=True)
    assert shewhart(values, STANDARD)["alarm"].to_numpy().tolist() == [False, False, False, False, True, True]
    assert math.isnan(first_alarm(shewhart(values[:3], STANDARD)))


def test_missing_days_change_nothing_for_the_others():
    rng = np.random.default_rng(4)
    value, day = rng.normal(0, 1, 60), np.sort(rng.choice(100, 60, replace=False))
    gappy = daily(value, day)
    whole = np.full(100, np.nan)
    whole[day] = value
    for chart in (shewhart, ewma, cusum):
        name = "cusum_high" if chart is cusum else "chart_value"
        a, b = (chart(v, STANDARD)[name] for v in (gappy, daily(whole)))
        assert a.to_numpy() == pytest.approx(b.to_numpy()[day])


def test_baseline_is_unbiased_and_refuses_what_is_not_in_control():
    rng = np.random.default_rng(1)
    found = [baseline(daily(rng.normal(5.0, 2.0, 25)), autocorrelation="residuals") for _ in range(400)]
    assert np.mean([b.sd for b in found]) == pytest.approx(2.0, rel=0.03)  # 0.7 % one standard error
    values = rng.normal(0, 1, 60)
    assert baseline(daily(values), last_day=39).days == 40
    values[30] = 9.0
    with pytest.raises(InputError, match=r"in control.*on day 30"):
        baseline(daily(values))
    values[30] = np.nan
    assert baseline(daily(values)).days == 59
    with pytest.raises(InputError, match="20 days"):
        baseline(daily(values[:15]))
    with pytest.raises(InputError, match="vary"):
        baseline(daily(np.ones(30)))


def autoregressive(n, r, rng):
    noise = rng.standard_normal(n) * math.sqrt(1.0 - r * r)
    out = np.empty(n)
    level = rng.standard_normal()
    for k in range(n):
        out[k] = level = r * level + noise[k]
    return out


def test_correlated_days_are_refused_or_charted_by_their_prediction_errors():
    rng = np.random.default_rng(2)
    first = daily(autoregressive(400, 0.6, rng))
    with pytest.raises(InputError, match=r"lag-1 correlation of 0\.\d"):
        baseline(first)
    limits = baseline(first, autocorrelation="residuals")
    assert limits.correlation == pytest.approx(0.6, abs=0.12)  # three standard errors
    later = autoregressive(20_000, 0.6, rng)
    later[rng.random(later.size) < 0.2] = np.nan
    errors = shewhart(daily(later), Baseline(0.0, 1.0, 400, correlation=0.6))["chart_value"].to_numpy()
    errors = errors[~np.isnan(errors)]
    assert errors.std() == pytest.approx(1.0, abs=0.02)
    assert np.corrcoef(errors[1:], errors[:-1])[0, 1] == pytest.approx(0.0, abs=0.03)
    # what the refusal is for: charted as if independent, the same days alarm far more often than once in 465
    wrong = cusum(daily(later), STANDARD)["alarm"].to_numpy().mean()
    right = cusum(daily(later), Baseline(0.0, 1.0, 400, correlation=0.6))["alarm"].to_numpy().mean()
    assert wrong > 10 * right


def all_partitions(value, penalty, shortest):
    best = np.inf
    for changes in range(value.size):
        for cut in itertools.combinations(range(1, value.size), changes):
            edges = [0, *cut, value.size]
            parts = [value[a:b] for a, b in itertools.pairwise(edges)]
            if min(map(len, parts)) >= shortest:
                best = min(best, sum(((p - p.mean()) ** 2).sum() for p in parts) + penalty * changes)
    return best


@pytest.mark.parametrize("shortest", [1, 2, 3])
def test_partition_is_the_best_of_all(shortest):
    rng = np.random.default_rng(shortest)
    for _ in range(12):
        value = rng.normal(0, 1, 11) + rng.choice([0.0, 3.0], 2)[np.sort(rng.integers(0, 2, 11))]
        starts, cost = partition(value, 2.0, shortest)
        assert cost == pytest.approx(all_partitions(value, 2.0, shortest), abs=1e-9)
        parts = np.split(value, starts[1:])
        assert sum(((p - p.mean()) ** 2).sum() for p in parts) + 2.0 * len(parts[1:]) == pytest.approx(cost)
        assert min(map(len, parts)) >= shortest


def test_change_points_of_a_made_record():
    rng = np.random.default_rng(6)
    level = np.repeat([10.0, 12.0, 9.0], [80, 60, 100])
    value = level + rng.normal(0, 0.5, 240)
    value[rng.choice(240, 30, replace=False)] = np.nan
    found = change_points(daily(value, units="HU"))
    assert found["segment_start"].to_numpy() == pytest.approx([0, 80, 140], abs=2)
    pull = (found["segment_mean"] - [10.0, 12.0, 9.0]) / found["segment_mean_sd"]
    assert (np.abs(pull) < 3.5).all()
    assert found["segment_mean"].attrs["units"] == "HU"
    assert found.attrs["noise_sd"] == pytest.approx(0.5, rel=0.3)
    quiet = [change_points(daily(rng.normal(0, 1, 150))).sizes["segment"] for _ in range(40)]
    assert np.mean(np.array(quiet) > 1) < 0.2


def test_change_points_in_correlated_noise():
    rng = np.random.default_rng(7)
    record = daily(autoregressive(400, 0.7, rng))
    with pytest.raises(InputError, match="lag-1 correlation"):
        change_points(record)
    assert change_points(record, autocorrelation="inflate").sizes["segment"] <= 2
    shifted = daily(record.to_numpy() + np.repeat([0.0, 6.0], 200))
    starts = change_points(shifted, autocorrelation="inflate")["segment_start"].to_numpy()
    assert np.abs(starts - 200).min() <= 3
    with pytest.raises(InputError, match="20 days"):
        change_points(record[:10])
    with pytest.raises(InputError, match="shortest_days"):
        change_points(record, shortest_days=0)


def test_refuses():
    values = daily(np.zeros(30))
    for call, words in (
        (lambda: shewhart(values, STANDARD, width=0.0), "above 0"),
        (lambda: ewma(values, STANDARD, weight=1.5), "weight"),
        (lambda: cusum(values, STANDARD, limit=-1.0), "limit"),
        (lambda: cusum(values.rename(day="scan"), STANDARD), "dims"),
        (lambda: cusum(daily([1, 2], day=[3, 3]), STANDARD), "ascend"),
        (lambda: cusum(daily([1, np.inf]), STANDARD), "finite"),
        (lambda: average_run_length("xbar"), "ewma"),
        (lambda: average_run_length("ewma", design=Design(ewma_weight=0.0)), "weight"),
    ):
        with pytest.raises(InputError, match=words):
            call()
