"""What a service learns from machines that ran to failure: laws of life, what a failure costs, what indicators tell.

Policies act on these numbers alone, never on the fleet's true parameters. The history comes from seeds of its own,
which no comparison uses again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.kernels.fleet_days import EMERGENCY, FAILED, LOST
from twinlab.kernels.fleet_units import last_alarms, watch_units
from twinlab.kernels.fleet_watch import Watch
from twinlab.kernels.philox import key
from twinlab.kernels.threads import one_parallel_region
from twinlab.maintenance.policy.laws import longest_life, modes_of
from twinlab.maintenance.policy.priors import Fleet
from twinlab.maintenance.policy.renewal import best_age
from twinlab.maintenance.policy.simulation import RUN, simulate_fleet
from twinlab.maintenance.survival import WeibullFit, make_lives, weibull_aft
from twinlab.schema import label, refuse

HISTORY = 1_000_000  # added to a seed: the history's
_YEARS_SEEN = 12  # lives in the history are watched for up to so many years


@dataclass(frozen=True)
class Learnt:
    """Knowledge of a service.

    Attributes
    ----------
    lives : dict of part to Dataset
        Censored lives (see :func:`twinlab.maintenance.survival.make_lives`), days of use.
    laws : dict of part to WeibullFit
    events : Dataset, dims (part)
        ``planned_cost``, ``failure_cost``, ``failure_hours``, ``replacement_age``, ``replacement_cost_rate``,
        ``failure_cost_rate``.
    indicators : Dataset, dims (mode)
        ``indicator_noise``, ``indicator_wander``, ``growth_rate``, ``growth_rate_sd``, ``warned_share``.
    watch : Watch
        The same as arrays (mode,), for the watcher.
    """

    lives: dict[str, xr.Dataset]
    laws: dict[str, WeibullFit]
    events: xr.Dataset
    indicators: xr.Dataset
    watch: Watch


def learn(fleet: Fleet, *, units: int = 200, seeds: int = 4, seed: int = 0) -> Learnt:
    """Learn from a history of units and fleets that ran to failure.

    Parameters
    ----------
    fleet : Fleet
        The world; its parameters only drive the simulation of the history.
    units : int
        Units of each mode watched to failure, and parts whose lives are known.
    seeds : int
        Fleets, of three years each, from which the cost of failures is taken.
    seed : int

    Returns
    -------
    Learnt

    Raises
    ------
    InputError
        Fewer than 20 units, or no seed.
    """
    if units < 20 or seeds < 1:
        refuse("learn", "at least 20 units and 1 seed", (units, seeds))
    rng = np.random.default_rng(seed + HISTORY)
    histories = {name: _history(fleet, name, units, seed) for name in fleet.modes}
    lives = {}
    for part in fleet.parts:
        own = [histories[name][1] for name, mode in fleet.modes.items() if mode.part == part]
        life = np.min([np.where(np.isnan(f), np.inf, f) for f in own], axis=0)
        last = rng.uniform(0.1, _YEARS_SEEN * 365.25, units)
        lives[part] = make_lives(np.minimum(life, last), life <= last)
    laws = {part: weibull_aft(data) for part, data in lives.items()}
    indicators = _indicators({name: _indicator(*history) for name, history in histories.items()})
    events = _events(fleet, laws, seeds=seeds, seed=seed)
    return Learnt(lives, laws, events, indicators, _watch(indicators))


def learn_indicators(
    fleet: Fleet, *, units: int = 200, seed: int = 0, known: Learnt | None = None, only: str | None = None
) -> Watch:
    """Learn what indicators tell, as :func:`learn` does, without the rest.

    Parameters
    ----------
    fleet : Fleet
    units : int
    seed : int
    known : Learnt, optional
        Whose numbers are kept for all modes but ``only``.
    only : str, optional
        The one mode to be learnt.

    Returns
    -------
    Watch
    """
    rows = {}
    for name in fleet.modes:
        if known is not None and name != only:
            rows[name] = {str(k): float(v) for k, v in known.indicators.sel(mode=name).data_vars.items()}
        else:
            rows[name] = _indicator(*_history(fleet, name, units, seed))
    return _watch(_indicators(rows))


def _history(fleet: Fleet, mode: str, units: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    number = list(fleet.modes).index(mode)
    return unit_history(fleet, mode, units=units, seed=seed + HISTORY + number)[:2]


def _indicators(rows: dict[str, dict[str, float]]) -> xr.Dataset:
    names = ("indicator_noise", "indicator_wander", "growth_rate", "growth_rate_sd", "warned_share")
    return xr.Dataset({n: label(n, [r[n] for r in rows.values()], {"mode": list(rows)}) for n in names})


def _watch(i: xr.Dataset) -> Watch:
    columns = (i.indicator_noise, i.indicator_wander, i.growth_rate, i.growth_rate_sd**2)
    return Watch(*(c.to_numpy().astype(float) for c in columns))


def unit_history(
    fleet: Fleet, mode: str, *, units: int, seed: int, use: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Daily indicators of units of one mode until they fail.

    Parameters
    ----------
    fleet : Fleet
    mode : str
    units : int
    seed : int
    use : float
        Days of use in a day.

    Returns
    -------
    tuple of arrays
        Indicator (unit, day), NaN after failure; days of use at failure (unit,); whether the indicator showed
        the wear (unit,), for tests.
    """
    if mode not in fleet.modes:
        refuse("unit_history", f"one of {', '.join(fleet.modes)}", repr(mode))
    modes, number = modes_of(fleet), list(fleet.modes).index(mode)
    chosen = fleet.modes[mode]
    longest = chosen.onset_days.value * 13.8 ** (1 / chosen.onset_shape.value)
    longest += chosen.growth_days.value * np.exp(4.75 * chosen.spread.value)
    days = int(min(longest, longest_life(fleet)) / use)
    readings = np.empty((units, days), np.float32)
    life, seen = np.empty(units), np.empty(units, bool)
    with one_parallel_region():
        watch_units(modes, number, use, *key(seed), readings, life, seen)
    return readings, life, seen


def _indicator(readings: np.ndarray, life: np.ndarray) -> dict[str, float]:
    """Noise, rate of growth and its spread, wander about a straight line: from indicators and failures alone."""
    first = np.diff(readings[:, :30].astype(float), axis=1)
    noise = float(np.sqrt(np.nanmean(first**2) / 2))
    starts, levels = np.empty(len(life), np.int64), np.empty(len(life))
    with one_parallel_region():
        last_alarms(readings, noise, starts, levels)
    rates, times, bends = [], [], []
    for row, end, start, level in zip(readings, life, starts, levels, strict=True):
        time = end - start
        if start < 0 or not time >= 3:
            continue
        rates.append((1 - level) / time)
        times.append(time)
        half = max(1, min(int(time / 8), 15))
        middle = start + int(time / 2)
        around = row[middle - half : middle + half + 1].astype(float)
        straight = level + (1 - level) * (middle - start) / time
        # variance of a bridge in its middle is wander * time / 4
        bends.append((around.mean() - straight) ** 2 - noise**2 / around.size)
    if len(rates) < 3:  # nothing to be learnt: no warning is ever trusted
        return {
            "indicator_noise": noise,
            "indicator_wander": 0.0,
            "growth_rate": 0.0,
            "growth_rate_sd": 0.0,
            "warned_share": len(rates) / len(life),
        }
    rate, time_array = np.array(rates), np.array(times)
    wander = max(float(np.sum(bends) / np.sum(time_array / 4)), 1e-9)
    variance = max(float(np.var(rate, ddof=1) - np.mean(wander / time_array)), (0.1 * rate.mean()) ** 2)
    return {
        "indicator_noise": noise,
        "indicator_wander": wander,
        "growth_rate": float(rate.mean()),
        "growth_rate_sd": float(np.sqrt(variance)),
        "warned_share": len(rates) / len(life),
    }


def _events(fleet: Fleet, laws: dict[str, WeibullFit], *, seeds: int, seed: int) -> xr.Dataset:
    """What planned work and a failure of each part cost, and the age of replacement that follows."""
    past = simulate_fleet(fleet, [RUN], seeds=seeds, seed=seed + HISTORY)
    sums = past.part_events.sum("seed").isel(policy=0)
    money, service = fleet.money, fleet.service
    hour = money.lost_day.value / fleet.clinic.weekday_hours.value
    rows = []
    for part, about in fleet.parts.items():
        n = max(float(sums.sel(part=part)[FAILED]), 1.0)
        lost = float(sums.sel(part=part)[LOST]) / n
        short = float(sums.sel(part=part)[EMERGENCY]) / n
        work = about.work_hours.value
        planned = about.cost.value + (work + service.set_up_hours.value) * (
            money.engineer_hour.value * money.after_hours_factor.value
        )
        failure = (
            about.cost.value
            + (work + service.diagnosis_hours.value) * money.engineer_hour.value
            + lost * hour
            + short * money.emergency_order.value
        )
        best = best_age(
            shape=laws[part].shape,
            scale_days=laws[part].scale_days(),
            planned_cost=planned,
            failure_cost=failure,
        )
        rows.append(
            {
                "planned_cost": planned,
                "failure_cost": failure,
                "failure_hours": lost,
                **{str(k): float(v) for k, v in best.items()},
            }
        )
    at = {"part": list(fleet.parts)}
    return xr.Dataset({n: label(n, [r[n] for r in rows], at, dims=["part"]) for n in rows[0]})
