"""Phase I: what a daily value is while nothing is wrong, from a baseline period; dependence from day to day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import gammaln

from twinlab.schema import refuse

FEWEST_DAYS = 20
SIGNIFICANT = 2.576  # standard errors of a lag-1 correlation of independent values: 1 % of sound baselines

Autocorrelation = Literal["refuse", "residuals"]


@dataclass(frozen=True)
class Baseline:
    """A value in control.

    Attributes
    ----------
    mean, sd : float
        Of a day's value.
    days : int
        That they were estimated from.
    correlation : float
        Of consecutive days; 0 where days are taken as independent. Otherwise charts follow the prediction errors of
        a first-order autoregression.
    """

    mean: float
    sd: float
    days: int
    correlation: float = 0.0


def baseline(
    values: xr.DataArray,
    *,
    last_day: float | None = None,
    autocorrelation: Autocorrelation = "refuse",
) -> Baseline:
    """Mean and standard deviation of the days up to ``last_day``.

    The standard deviation is that of the days divided by c4, so that it is unbiased for normal values [1]_.

    Parameters
    ----------
    values : DataArray, dim day
        Daily values; ``day`` ascends, days without a value are absent or NaN.
    last_day : float, optional
        Last day of the baseline; all by default.
    autocorrelation : "refuse" or "residuals"
        What to do when consecutive days are correlated, which raises false alarms many times over: refuse, or chart
        the prediction errors of a first-order autoregression [2]_.

    Returns
    -------
    Baseline

    Raises
    ------
    InputError
        Fewer than 20 days, no spread, a baseline that is itself out of control (a day beyond 4 standard deviations),
        or correlated days with "refuse".

    Limits
    ------
    Limits from n days are themselves uncertain: run lengths in control scatter around the nominal one, mostly below;
    with 20 days the standard deviation is known to 16 %, with 100 to 7 %.

    References
    ----------
    .. [1] Montgomery D C (2013) Introduction to Statistical Quality Control, 7th ed., section 6.4.
    .. [2] Alwan L C, Roberts H V (1988) Time-series modeling for statistical process control. J Bus Econ Stat 6:87.
    """
    day, value = observed(values, where="baseline")
    if last_day is not None:
        day, value = day[day <= last_day], value[day <= last_day]
    n = value.size
    if n < FEWEST_DAYS:
        refuse("baseline", f"{FEWEST_DAYS} days with values or more", n)
    mean, sd = float(value.mean()), float(value.std(ddof=1)) / c4(n)
    if not sd > 0:
        refuse("baseline", "values that vary from day to day", f"{n} times {mean:g}")
    far = np.abs(value - mean) / sd
    if far.max() > 4.0:
        got = f"{value[far.argmax()]:g} on day {day[far.argmax()]:g}, {far.max():.1f} standard deviations off"
        refuse("baseline", "a period in control (leave bad days out as NaN)", got)
    r, standard_error = lag_correlation(day, value)
    if abs(r) <= SIGNIFICANT * standard_error:
        return Baseline(mean, sd, n)
    if autocorrelation == "refuse":
        got = f"a lag-1 correlation of {r:.2f} (chance gives up to {SIGNIFICANT * standard_error:.2f})"
        wanted = (
            "days that do not depend on each other, as the limits assume; autocorrelation='residuals' charts"
        )
        refuse("baseline", f"{wanted} prediction errors instead", got)
    return Baseline(mean, sd, n, correlation=float(np.clip(r, -0.95, 0.95)))


def c4(n: int) -> float:
    """Mean of the sample standard deviation of n normal values over the true one.

    Examples
    --------
    >>> round(c4(5), 4)
    0.94
    """
    return float(math.sqrt(2.0 / (n - 1)) * math.exp(gammaln(n / 2.0) - gammaln((n - 1) / 2.0)))


def observed(values: xr.DataArray, *, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Days that have a value, and the values.

    Raises
    ------
    InputError
        Other dims, days that do not ascend, infinities.
    """
    if values.dims != ("day",):
        refuse(where, "daily values with dims ('day',)", values.dims)
    day = values["day"].to_numpy().astype(float)
    value = values.to_numpy().astype(float)
    if not (np.diff(day) > 0).all():
        refuse(where, "days that ascend", "days that repeat or go back")
    if np.isinf(value).any():
        refuse(where, "finite values, NaN where there is none", "infinities")
    kept = ~np.isnan(value)
    return day[kept], value[kept]


def lag_correlation(day: NDArray[np.float64], value: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of values a day apart, and its standard error for independent ones; pairs over gaps do not count.

    The bias of the estimate, about -1/n, is taken out.
    """
    pairs = np.flatnonzero(np.diff(day) == 1.0)
    if pairs.size < 10:
        return 0.0, math.inf
    left = value - value.mean()
    r = float((left[pairs] * left[pairs + 1]).mean() / (left**2).mean())
    return r + 1.0 / value.size, 1.0 / math.sqrt(pairs.size)


def standardised(values: xr.DataArray, limits: Baseline, *, where: str) -> NDArray[np.float64]:
    """Values as independent standard normal ones while in control; NaN on days without.

    With a correlation, the error of the best prediction from the last day that has a value: over g days it is
    ``r^g``, and the error's variance ``1 - r^(2g)``.
    """
    day, value = observed(values, where=where)
    z = (value - limits.mean) / limits.sd
    if limits.correlation and z.size > 1:
        kept = np.power(np.abs(limits.correlation), np.diff(day))
        kept *= np.where(limits.correlation < 0, (-1.0) ** np.diff(day), 1.0)
        z[1:] = (z[1:] - kept * z[:-1]) / np.sqrt(1.0 - kept**2)
    out = np.full(values.size, np.nan)
    out[~np.isnan(values.to_numpy().astype(float))] = z
    return out
