"""Figures, rows and sentences of a fleet's maintenance say what the data say."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab.maintenance import policy
from twinlab.report import maintenance_fleet as charts
from twinlab.report import maintenance_fleet_tables as tables

pytest.importorskip("lifelines", reason="needs the extra maintenance")


@pytest.fixture(scope="module")
def made():
    fleet = policy.load_fleet().model_copy(update={"scanners": 40})
    learnt = policy.learn(fleet, units=60, seeds=1)
    rules = policy.all_policies(fleet, learnt, threshold=0.6, probability=0.2)
    return fleet, learnt, rules, policy.simulate_fleet(fleet, rules, years=2, settle_years=0.2, seeds=4)


def test_every_figure_draws_and_says_what_it_shows(made):
    fleet, learnt, rules, result = made
    tuned = {
        kind: policy.cost_against_threshold(fleet, learnt, kind, [0.1, 0.5, 0.9], seeds=2)
        for kind in ("condition", "predictive")
    }
    worlds = policy.tornado(fleet, learnt, 0.2, places=["modes.cooling.seen", "service.other_hours"], seeds=1)
    draws = policy.all_priors(fleet, 0.2, draws=2)
    stock = policy.hours_against_stock(fleet, [rules[0], rules[-1]], [0, 2], seeds=1)
    pictures = [
        charts.survival_curves(learnt),
        charts.age_costs(learnt),
        charts.threshold_costs(tuned),
        charts.downtime(result),
        charts.tornado(worlds, draws),
        charts.tornado(worlds),
        charts.spares(stock),
        charts.watched_unit(policy.forecasts(fleet, learnt, "bearing", units=10)),
    ]
    for picture in pictures:
        assert picture.png().startswith(b"\x89PNG")
        assert len(picture.alt) > 30
    told = tables.tornado_words(worlds, draws)
    assert "2 worlds" in told
    assert "failures without wear: hours" in told
    assert "Simulated and expected fill rates" in tables.stock_words(stock)
    assert 0 <= tables.stock_gap(stock) < 0.3


def test_rows_and_sentences_agree_with_the_data(made):
    fleet, learnt, _, result = made
    money = policy.costs(result, fleet)
    rows = {row["policy"]: row for row in tables.downtime_rows(result, money)}
    hours = float(result.unplanned_hours.sel(policy="calendar").mean())
    assert rows["calendar"]["unplanned [h/a]"] == pytest.approx(hours)
    got = policy.compare(result, ["unplanned_hours"]).sel(policy="predictive")
    assert f"{float(got.reduction[0]):.1f} % less unplanned" in tables.reduction_words(result)
    back = policy.return_on_fee(money)
    assert f"{-float(back.saving):+,.0f} USD" in tables.money_words(result, money, fleet)
    assert len(tables.prior_rows(fleet)) == len(list(fleet.figures()))
    parts = tables.part_rows(learnt)
    assert [row["part"] for row in parts] == ["Tube", "Detector", "Slip ring", "Cooling"]
    held = tables.forecast_rows(fleet, learnt, units=60)
    assert 0.7 < tables.held_share(held) <= 1
    assert np.isfinite(held["warned [%]"]).all()
