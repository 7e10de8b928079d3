"""Health indicators and anomalies on units whose wear is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from twinlab.maintenance.remaining import (
    early_rows,
    fit_anomalies,
    fit_health,
    health_merits,
    histories,
    synthetic_units,
)
from twinlab.maintenance.remaining.synthetic import SENSORS
from twinlab.schema import InputError

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: maintenance)")


def units(count, seed, **more):
    return histories(synthetic_units(count, seed=seed, **more), sensors=SENSORS, settings=["load"])


def test_health_never_falls_and_ends_near_one():
    both = units(60, 2, conditions=3)
    health, unseen = fit_health(both.take(np.arange(30))), both.take(np.arange(30, 60))
    found = health.indicator(unseen)
    values = [found.values[found.unit.values == u] for u in np.unique(found.unit)]
    assert all((np.diff(v) >= 0).all() for v in values)
    assert np.mean([v[-1] for v in values]) == pytest.approx(
        1.0, abs=0.15
    )  # half-way up the last 5 % of life
    merits = health_merits(found)
    assert merits["monotonicity"] == 1.0  # by construction
    assert merits["trendability"] > 0.9
    assert merits["prognosability"] > 0.85
    free = health_merits(health.indicator(unseen, monotone=False))
    assert 0.2 < free["monotonicity"] < 1.0


def test_merits_by_hand():
    def figure(*pieces):
        unit = np.repeat(np.arange(len(pieces)), [len(p) for p in pieces])
        return xr.DataArray(np.concatenate(pieces), dims="row", coords={"unit": ("row", unit)})

    up = np.linspace(0, 1, 11)
    assert health_merits(figure(up, up[::2])) == pytest.approx(
        {"monotonicity": 1, "trendability": 1, "prognosability": 1}
    )
    apart = health_merits(figure(np.array([0, 1.0, 2.0]), np.array([0, 1.0, 4.0])))
    assert apart["prognosability"] == pytest.approx(np.exp(-1.0 / 3.0))
    wavy = health_merits(figure(np.array([0.0, 1.0, 0.0, 1.0, 2.0])))
    assert wavy["monotonicity"] == pytest.approx((3 - 1) / 4)


@pytest.mark.parametrize("method", ["isolation_forest", "robust_covariance"])
def test_false_alarms_come_as_often_as_asked(method):
    both = units(120, 4, conditions=2)
    train, test = both.take(np.arange(60)), both.take(np.arange(60, 120))
    found = fit_anomalies(train, healthy=early_rows(train), method=method, false_alarm=0.02, folds=3)
    score = found.score(test).values
    healthy = early_rows(test) & np.isfinite(score)
    false = np.array(
        [np.mean(s[h] > 0) for s, h in zip(test.pieces(score), test.pieces(healthy), strict=True)]
    )
    # alarms of one unit come together: the spread between units gives the standard error, twice (train and test)
    error = np.sqrt(2) * false.std() / np.sqrt(len(false))
    assert false.mean() == pytest.approx(0.02, abs=3 * error + 1e-3)
    assert error < 0.015
    near = test.life_left() < 10
    assert np.mean(score[near] > 0) > 0.95


def test_a_stuck_or_shifted_sensor_is_seen():
    both = units(40, 6)
    train, test = both.take(np.arange(30)), both.take(np.arange(30, 40))
    found = fit_anomalies(train, healthy=early_rows(train), method="robust_covariance", folds=2)
    sensors = test.sensors.copy()
    rows = (test.cycle > 15) & (test.cycle <= 30)
    sensors[rows, SENSORS.index("idle")] += 8 * train.sensors[:, SENSORS.index("idle")].std()
    broken = found.score(replace(test, sensors=sensors)).values[(test.cycle > 20) & rows]
    assert np.mean(broken > 0) > 0.95


def test_refusals_of_health_and_anomalies():
    made = units(10, 1)
    with pytest.raises(InputError, match="shares of life"):
        fit_health(made, new=0.8, worn=0.5)
    with pytest.raises(InputError, match="false alarm rate"):
        fit_anomalies(made, healthy=early_rows(made), false_alarm=0.7)
    with pytest.raises(InputError, match="healthy rows"):
        fit_anomalies(made, healthy=np.zeros(len(made.cycle), bool))
    with pytest.raises(InputError, match="method"):
        fit_anomalies(made, healthy=early_rows(made), method="magic")
