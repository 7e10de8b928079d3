"""Kaplan-Meier, Weibull and Cox against published fits and against lives drawn from a known law."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab.maintenance import survival
from twinlab.schema import InputError

pytest.importorskip("lifelines", reason="needs the extra maintenance")

# Remission of leukaemia, weeks (Freireich 1963; data set gehan of R's MASS); a minus sign stands for censored.
CONTROL = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
TREATED = [6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35]


def gehan(group=None):
    weeks = np.array(CONTROL + TREATED if group is None else group, float)
    control = {"control": np.r_[np.ones(21), np.zeros(21)]} if group is None else None
    return survival.make_lives(np.abs(weeks), weeks > 0, control)


def test_kaplan_meier_gives_the_textbook_curve():
    curve = survival.kaplan_meier(gehan(TREATED))
    at = curve.sel(age=[6, 7, 10, 13, 16, 22, 23])
    # Kalbfleisch and Prentice (2002), section 1.4: the product, by hand
    by_hand = np.cumprod([18 / 21, 16 / 17, 14 / 15, 11 / 12, 10 / 11, 6 / 7, 5 / 6])
    np.testing.assert_allclose(at.survival, by_hand, rtol=1e-12)
    assert at.at_risk.values.tolist() == [21, 17, 15, 12, 11, 7, 6]
    greenwood = np.cumsum([3 / (21 * 18), 1 / (17 * 16), 1 / (15 * 14), 1 / 132, 1 / 110, 1 / 42, 1 / 30])
    spread = 1.959964 * np.sqrt(greenwood) / np.abs(np.log(by_hand))
    np.testing.assert_allclose(at.survival_low, by_hand ** np.exp(spread), rtol=1e-6)
    np.testing.assert_allclose(at.survival_high, by_hand ** np.exp(-spread), rtol=1e-6)
    assert curve.attrs["median_days"] == 23


def test_weibull_gives_the_published_fit():
    table = survival.weibull_aft(gehan(), ["control"]).table
    # Venables and Ripley, Modern Applied Statistics with S, 4th ed., section 13.2: survreg on gehan, as printed
    printed = {"log_scale": 3.516, "control": -1.267, "log_shape": 0.312}
    for name, value in printed.items():
        assert float(table.aft_estimate.sel(parameter=name)) == pytest.approx(value, abs=6e-4)
    assert table.aft_se.sel(parameter="control") == pytest.approx(0.311, abs=6e-4)


def test_cox_gives_the_published_fit():
    lives = gehan()
    weeks = lives.life_days.values
    # every life in spans of a week: the covariate does not change, so that cutting must not change anything
    part = np.repeat(np.arange(42), weeks.astype(int))
    stop = np.concatenate([np.arange(1, w + 1) for w in weeks])
    end = stop == weeks[part]
    control = {"control": lives.control.values[part]}
    spans = survival.make_spans(part, stop - 1, stop, end & lives.life_failed.values[part], control)
    fit = survival.cox_time_varying(spans, ["control"])
    assert float(fit.cox_effect[0]) == pytest.approx(1.572, abs=6e-4)  # ibid.: coxph, ties by Efron
    assert float(fit.cox_se[0]) == pytest.approx(0.412, abs=6e-4)
    assert float(fit.hazard_ratio[0]) == pytest.approx(np.exp(1.572), rel=1e-3)


def test_parameters_come_back_from_censored_lives():
    truth = {"shape": 2.2, "scale_days": 1500.0, "effects": {"workload": -0.5, "heat": 0.25}}
    lives = survival.simulate_lives(5000, censored=0.4, seed=1, **truth)
    assert float(lives.life_failed.mean()) == pytest.approx(0.6, abs=0.025)  # 3.5 sd of 5,000 lives
    fit = survival.weibull_aft(lives, ["workload", "heat"])
    assert fit.shape == pytest.approx(2.2, rel=0.05)
    assert fit.scale_days(workload=0, heat=0) == pytest.approx(1500, rel=0.05)
    assert fit.estimate("workload") == pytest.approx(-0.5, rel=0.05)
    assert fit.estimate("heat") == pytest.approx(0.25, rel=0.05)
    known = fit.survival([1500.0], workload=1.0, heat=0.0)
    assert float(known[0]) == pytest.approx(np.exp(-(np.exp(0.5) ** 2.2)), abs=0.01)


def coverage(repeats, n):
    """Share of intervals that hold the truth, for three parameters."""
    truth = {"log_scale": np.log(1500.0), "log_shape": np.log(2.2), "workload": -0.5}
    held = np.zeros(3)
    for seed in range(repeats):
        lives = survival.simulate_lives(n, shape=2.2, scale_days=1500, effects={"workload": -0.5}, seed=seed)
        table = survival.weibull_aft(lives, ["workload"]).table
        held += [
            float(table.aft_low.sel(parameter=p)) <= v <= float(table.aft_high.sel(parameter=p))
            for p, v in truth.items()
        ]
    return held / repeats


def test_intervals_hold_in_about_95_of_100():
    share = coverage(24, 400).mean()
    assert 0.95 - 3 * 0.026 <= share <= 1.0  # 72 intervals: sd 0.026


@pytest.mark.slow
def test_intervals_cover_93_to_97_percent():
    share = coverage(200, 5000)
    print("coverage of log_scale, log_shape, workload:", share)
    assert 0.93 <= share.mean() <= 0.97
    assert (np.abs(share - 0.95) < 3.5 * 0.0154).all()  # each parameter alone: sd of 200 repeats


def test_a_changing_covariate_is_recovered():
    law = {"shape": 2.0, "scale_days": 1000, "effect": 0.7, "step_days": 90, "steps": 16}
    spans = survival.simulate_spans(1500, seed=3, **law)
    fit = survival.cox_time_varying(spans, ["workload"])
    assert abs(float(fit.cox_effect[0]) - 0.7) < 3 * float(fit.cox_se[0])
    assert float(fit.cox_se[0]) < 0.05


def test_spans_follow_their_law():
    spans = survival.simulate_spans(
        4000, shape=2, scale_days=500, effect=0.0, step_days=100, steps=50, seed=4
    )
    ends = spans.span_stop_days.values[spans.span_failed.values]
    assert ends.mean() == pytest.approx(500 * np.sqrt(np.pi) / 2, rel=0.03)  # mean of the Weibull law; 3.6 sd


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"days": [1.0, -2.0, 3.0]}, "finite times above 0 d; got -2.0 at index 1"),
        ({"failed": [0, 0, 0]}, "a part that failed; got 3 lives, all censored"),
        ({"failed": [0, 1]}, "columns of one length; got 2 and 3"),
        ({"failed": [0, 1, 2]}, "failed of 0 or 1; got 2 at index 2"),
        ({"covariates": {"x": [1.0, np.nan, 2.0]}}, "finite x; got nan at index 1"),
    ],
)
def test_bad_lives_are_refused(change, words):
    good = {"days": [1.0, 2.0, 3.0], "failed": [1, 1, 0], "covariates": None}
    with pytest.raises(InputError, match=words):
        survival.make_lives(**{**good, **change})


def test_bad_spans_and_covariates_are_refused():
    with pytest.raises(InputError, match="do not overlap"):
        survival.make_spans([0, 0], [0, 1], [2, 3], [0, 1], {})
    with pytest.raises(InputError, match="goes on after it failed"):
        survival.make_spans([0, 0], [0, 1], [1, 3], [1, 1], {})
    with pytest.raises(InputError, match="0 <= start < stop"):
        survival.make_spans([0], [2], [1], [1], {})
    lives = survival.make_lives([1, 2, 3, 4], [1, 1, 1, 1], {"flat": [1, 1, 1, 1], "a": [1, 2, 4, 3]})
    with pytest.raises(InputError, match="flat constant"):
        survival.weibull_aft(lives, ["flat"])
    twice = lives.assign(b=2 * lives.a)
    with pytest.raises(InputError, match="none follows from the others"):
        survival.weibull_aft(twice, ["a", "b"])
    with pytest.raises(InputError, match="covariates among"):
        survival.weibull_aft(lives, ["heat"])
    with pytest.raises(InputError, match="censored in"):
        survival.simulate_lives(10, shape=2, scale_days=1, censored=1.0)
