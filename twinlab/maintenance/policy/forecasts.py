"""Whether forecasts of remaining life hold: on units that nobody learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from twinlab.kernels.fleet_units import follow
from twinlab.kernels.fleet_watch import ALARM, LEVEL, STATE, V_LEVEL
from twinlab.kernels.threads import one_parallel_region
from twinlab.maintenance.policy.laws import longest_life
from twinlab.maintenance.policy.learning import HISTORY, Learnt, unit_history
from twinlab.maintenance.policy.priors import Fleet
from twinlab.schema import label, refuse

_NEW = HISTORY + HISTORY // 4  # added to a seed: units that were in no history


def forecasts(
    fleet: Fleet, learnt: Learnt, mode: str, *, units: int = 1, confidence: float = 0.9, seed: int = 0
) -> xr.Dataset:
    """Health and remaining life of new units as the predictive policy sees them, until they fail.

    Parameters
    ----------
    fleet : Fleet
    learnt : Learnt
    mode : str
    units : int
    confidence : float
        Of the interval of remaining life.
    seed : int

    Returns
    -------
    Dataset, dims (unit, use_day)
        ``indicator``; ``level_estimate`` and ``level_sd`` (NaN without an alarm); ``life_left``, ``life_left_low``,
        ``life_left_high`` (d of use, NaN without an alarm); ``life_left_true`` (for the check; no policy sees it).

    Raises
    ------
    InputError
        An unknown mode, bad confidence.
    """
    if not 0 < confidence < 1 or units < 1:
        refuse("forecasts", "confidence in (0, 1), one unit or more", (confidence, units))
    readings, life, _ = unit_history(fleet, mode, units=units, seed=seed + _NEW)
    days = int(np.isfinite(readings).any(axis=0).sum())
    readings = np.ascontiguousarray(readings[:, :days])
    about = learnt.indicators.sel(mode=mode)
    noise, wander = float(about.indicator_noise), float(about.indicator_wander)
    chances = np.array([0.5, 0.5 - confidence / 2, 0.5 + confidence / 2])
    states = np.empty((*readings.shape, STATE), np.float32)
    lives = np.empty((*readings.shape, 3), np.float32)
    with one_parallel_region():
        follow(
            readings,
            1.0,
            noise,
            wander,
            float(about.growth_rate),
            float(about.growth_rate_sd) ** 2,
            chances,
            longest_life(fleet),
            states,
            lives,
        )
    alarm = states[..., ALARM] > 0
    columns = {
        "indicator": readings,
        "level_estimate": np.where(alarm, states[..., LEVEL], np.nan),
        "level_sd": np.where(alarm, np.sqrt(np.maximum(states[..., V_LEVEL], 0)), np.nan),
        "life_left": lives[..., 0],
        "life_left_low": lives[..., 1],
        "life_left_high": lives[..., 2],
        "life_left_true": np.where(np.isfinite(readings), life[:, None] - np.arange(1, days + 1), np.nan),
    }
    at = {"unit": np.arange(units), "use_day": np.arange(1, days + 1)}
    data = {k: label(k, v, at) for k, v in columns.items()}
    return xr.Dataset(data, attrs={"mode": mode, "confidence": confidence})


def forecast_coverage(seen: xr.Dataset, *, stages: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9)) -> xr.Dataset:
    """Share of intervals of remaining life that hold, and their width, from alarm to failure.

    Parameters
    ----------
    seen : Dataset
        Of :func:`forecasts`, with many units.
    stages : sequence of float
        Shares of the time from the last alarm to failure at which the forecast is looked at, in (0, 1).

    Returns
    -------
    Dataset, dims (stage)
        ``coverage`` (1), ``coverage_sd``, ``interval_width`` (d of use, median).

    Raises
    ------
    InputError
        Fewer than 20 units with an alarm before they failed.
    """
    low, high = seen.life_left_low.to_numpy(), seen.life_left_high.to_numpy()
    true = seen.life_left_true.to_numpy()
    held: list[list[float]] = []
    widths: list[list[float]] = []
    for row in range(low.shape[0]):
        worked = np.flatnonzero(np.isfinite(true[row]))
        if worked.size == 0 or np.isnan(low[row, worked[-1]]):
            continue
        calm = np.flatnonzero(np.isnan(low[row, : worked[-1]]))
        start = int(calm[-1]) + 1 if calm.size else 0
        if worked[-1] - start < 5:
            continue
        at = (start + np.asarray(stages) * (worked[-1] - start)).astype(int)
        held.append([float(low[row, i] <= true[row, i] <= high[row, i]) for i in at])
        widths.append([float(high[row, i] - low[row, i]) for i in at])
    if len(held) < 20:
        refuse("forecast_coverage", "at least 20 units with an alarm before failure", len(held))
    share = np.mean(held, axis=0)
    columns = {
        "coverage": share,
        "coverage_sd": np.sqrt(np.maximum(share * (1 - share), 0.25 / len(held)) / len(held)),
        "interval_width": np.median(widths, axis=0),
    }
    data = {k: label(k, v, {"stage": np.asarray(stages)}) for k, v in columns.items()}
    return xr.Dataset(data, attrs={"units": len(held), "confidence": seen.attrs["confidence"]})
