"""Rows and sentences of a fleet's maintenance, from the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.maintenance import policy
from twinlab.maintenance.policy.learning import Learnt
from twinlab.report.maintenance_fleet import YEAR, place, words


def prior_rows(fleet: policy.Fleet) -> pd.DataFrame:
    """Every number with its range and source."""
    rows = [
        {
            "what": f"{name.split('.')[0]}: {place(name)}",
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "source": figure.source,
        }
        for name, figure in fleet.figures()
    ]
    return pd.DataFrame(rows)


def downtime_rows(result: xr.Dataset, money: xr.Dataset) -> list[dict[str, Any]]:
    """Means over fleets, a scanner and year."""
    rows = []
    for name in result.policy.values:
        r, m = result.sel(policy=name).mean("seed"), money.sel(policy=name).mean("seed")
        rows.append(
            {
                "policy": str(name),
                "failures by wear [1/a]": float(r.failures_by_mode.sum()),
                "planned replacements [1/a]": float(r.planned_by_part.sum()),
                "unplanned [h/a]": float(r.unplanned_hours),
                "planned [h/a]": float(r.planned_hours),
                "cancelled patients [1/a]": float(m.cancelled_patients),
                "parts [USD/a]": round(float(m.parts_cost)),
                "work [USD/a]": round(float(m.labour_cost)),
                "down time [USD/a]": round(float(m.downtime_cost)),
                "fee [USD/a]": round(float(m.monitoring_cost)),
                "total [USD/a]": round(float(m.total_cost)),
            }
        )
    return rows


def part_rows(learnt: Learnt) -> list[dict[str, Any]]:
    """Laws of life and what they mean for replacement by age."""
    rows = []
    for part, law in learnt.laws.items():
        at = learnt.events.sel(part=part)
        age = float(at.replacement_age) / YEAR
        saved = 100 * (1 - float(at.replacement_cost_rate / at.failure_cost_rate))
        even = policy.break_even_failure_cost(
            law.scale_days() / 2,
            shape=law.shape,
            scale_days=law.scale_days(),
            planned_cost=float(at.planned_cost),
        )
        shape = law.table.sel(parameter="log_shape")
        spent = {"planned_cost": float(at.planned_cost), "failure_cost": float(at.failure_cost)}
        known = [end / YEAR for end in policy.best_age_interval(law, **spent)]
        ends = [f"{end:.1f}" if end < 3 * law.scale_days() / YEAR else "never" for end in known]
        rows.append(
            {
                "part": words(part),
                "Weibull shape": law.shape,
                "95 %": f"{np.exp(float(shape.aft_low)):.2f} to {np.exp(float(shape.aft_high)):.2f}",
                "scale [years of use]": law.scale_days() / YEAR,
                "planned [USD]": round(float(at.planned_cost)),
                "failure [USD]": round(float(at.failure_cost)),
                "best age [years]": f"{age:.1f}" if saved > 0.05 else "hardly ever",
                "95 % of it": " to ".join(ends),
                "saved by it [%]": round(saved, 1),
                "break-even failure cost at half the scale [USD]": round(float(even[0])),
            }
        )
    return rows


def forecast_rows(fleet: policy.Fleet, learnt: Learnt, *, units: int, seed: int = 0) -> pd.DataFrame:
    """Whether 90 % intervals of remaining life hold on new units, by mode; modes that seldom warn are left blank."""
    rows = []
    for mode in fleet.modes:
        seen = policy.forecasts(fleet, learnt, mode, units=units, seed=seed)
        warned = float(learnt.indicators.warned_share.sel(mode=mode))
        row: dict[str, Any] = {"mode": words(mode), "warned [%]": 100 * warned}
        try:
            held = policy.forecast_coverage(seen, stages=(0.25, 0.5, 0.75))
        except ValueError:  # too few units with an alarm
            held = None
        row["units"] = 0 if held is None else held.attrs["units"]
        row["held [%]"] = np.nan if held is None else 100 * float(held.coverage.mean())
        for i, share in enumerate((25, 50, 75)):
            name = f"width at {share} % of the warning [d]"
            width = np.inf if held is None else float(held.interval_width[i])
            row[name] = f"{width:,.0f}" if width < 10 * YEAR else "no end"
        rows.append(row)
    return pd.DataFrame(rows)


def held_share(forecasts: pd.DataFrame) -> float:
    """Share of intervals that hold, over all units."""
    told = forecasts[forecasts["units"] > 0]
    return float((told["held [%]"] * told["units"]).sum() / told["units"].sum() / 100)


def reduction_words(result: xr.Dataset, name: str = "predictive", against: str = "run to failure") -> str:
    """One policy against another, with intervals."""
    table = policy.compare(result, ["unplanned_hours", "wear_hours"], against=against).sel(policy=name)
    every, wear = table.isel(quantity=0), table.isel(quantity=1)
    return (
        f"{words(name)} replacement loses {float(every.reduction):.1f} % less unplanned clinic time than {against} "
        f"(95 % {float(every.reduction_low):.1f} to {float(every.reduction_high):.1f} %; single fleets "
        f"{float(every.reduction_p05):.0f} to {float(every.reduction_p95):.0f} %), and {float(wear.reduction):.0f} % "
        "less of what wear causes"
    )


def money_words(result: xr.Dataset, money: xr.Dataset, fleet: policy.Fleet) -> str:
    """Saving, return and break-even of the predictive policy."""
    back, even = policy.return_on_fee(money), policy.break_even_day(result, fleet)
    fee, worth = back.attrs["fee"], fleet.money.lost_day.value
    saved = [-float(back[name]) for name in ("saving", "saving_high", "saving_low")]
    roi = [float(back[name]) for name in ("roi", "roi_low", "roi_high", "roi_p05", "roi_p95")]
    day = [float(even[name]) for name in ("break_even_lost_day", "break_even_low", "break_even_high")]
    return (
        f"Predictive replacement changes the cost of a scanner and year by {saved[0]:+,.0f} USD (95 % {saved[1]:+,.0f} "
        f"to {saved[2]:+,.0f}), the fee of {fee:,.0f} USD paid; it returns {roi[0]:.2f} times the fee ({roi[1]:.2f} to "
        f"{roi[2]:.2f}; single fleets {roi[3]:.2f} to {roi[4]:.2f}) and costs what run to failure costs if a lost day "
        f"is worth {day[0]:,.0f} USD ({day[1]:,.0f} to {day[2]:,.0f}; here {worth:,.0f})."
    )


def tornado_words(worlds: xr.Dataset, draws: xr.Dataset, wanted: float = 32.0) -> str:
    """Which priors matter most, and how wide all of them make the answer."""
    values = draws.draw_reduction.to_numpy()
    low, high = np.percentile(values, [5, 95])
    first = ", ".join(place(str(p)) for p in worlds.prior.values[:3])
    ends = worlds.world_reduction
    return (
        f"Most depends on {first}. One prior at a time the reduction stays between {float(ends.min()):.0f} and "
        f"{float(ends.max()):.0f} %; with all drawn at once it lies between {low:.0f} and {high:.0f} % (5 to 95 % of "
        f"{values.size} worlds), and above the reported {wanted:g} % in {100 * float(np.mean(values > wanted)):.0f} %. "
        f"Money is less sure: {float(np.mean(draws.draw_saving > 0)) * 100:.0f} % of these worlds save any."
    )


def stock_words(stock: xr.Dataset) -> str:
    """What spares do, and how far the simulation lies from Erlang's formula."""
    first, last = stock.isel(spares=0), stock.isel(spares=-1)
    name = str(stock.policy.values[0])
    best = int(stock.spares[int(np.argmin(stock.stock_total.sel(policy=name).to_numpy()))])
    gap = 100 * stock_gap(stock)
    return (
        f"From {int(first.spares)} to {int(last.spares)} spares of each part, unplanned hours under {name} fall from "
        f"{float(first.stock_hours.sel(policy=name)):.1f} to {float(last.stock_hours.sel(policy=name)):.1f} h/a; "
        f"cost is least with {best}. Simulated and expected fill rates differ by {gap:.1f} points at most."
    )


def stock_gap(stock: xr.Dataset) -> float:
    """Largest difference of simulated and expected fill rate under the first policy."""
    first = stock.isel(policy=0)
    return float(np.abs(first.stock_fill - first.stock_fill_expected).max())
