"""When a daily value changed its level: change points of a whole record, by optimal partitioning."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.maintenance.drift.phase_one import FEWEST_DAYS, SIGNIFICANT, lag_correlation, observed
from twinlab.schema import label, refuse

Array = NDArray[np.float64]


def change_points(
    values: xr.DataArray,
    *,
    penalty: float | None = None,
    shortest_days: int = 3,
    autocorrelation: Literal["refuse", "inflate"] = "refuse",
) -> xr.Dataset:
    """Segments of constant level that explain a record best.

    Minimal is the sum of squares within segments over the noise variance, plus ``penalty`` for every change: found
    exactly by dynamic programming over the last change [1]_. The noise variance comes from the median absolute
    difference of successive values, which changes of level hardly touch.

    Parameters
    ----------
    values : DataArray, dim day
        Days without a value are absent or NaN.
    penalty : float, optional
        Default ``2 log n``: the improvement that level and place of one change must give, after Schwarz's criterion.
    shortest_days : int
        Least number of values in a segment.
    autocorrelation : "refuse" or "inflate"
        When what is left within segments is correlated from day to day, changes are found that are none: refuse, or
        use the variance of long means, ``(1 + r) / (1 - r)`` times as large, with r from differences over one and
        two days.

    Returns
    -------
    Dataset, dim segment
        ``segment_start`` (first day with a value), ``segment_mean``, ``segment_mean_sd`` in units of the values; attrs
        ``noise_sd``, ``penalty``, ``correlation`` that was allowed for, ``cost``.

    Raises
    ------
    InputError
        Fewer than 20 values, no noise, a penalty or length without meaning, correlated noise with "refuse".

    References
    ----------
    .. [1] Jackson B et al. (2005) An algorithm for optimal partitioning of data on an interval. IEEE Signal Process
       Lett 12:105. The cost is O(n^2); Killick R, Fearnhead P, Eckley I A (2012) J Am Stat Assoc 107:1590 prune it.
    """
    day, value = observed(values, where="change_points")
    n = value.size
    if n < FEWEST_DAYS:
        refuse("change_points", f"{FEWEST_DAYS} days with values or more", n)
    if shortest_days < 1 or (penalty is not None and not penalty > 0):
        refuse("change_points", "shortest_days of 1 or more and a penalty above 0", (shortest_days, penalty))
    beta = 2.0 * math.log(n) if penalty is None else float(penalty)
    spread = _difference_sd(value, 1)
    if not spread > 0:
        refuse("change_points", "values that vary from day to day", "half of the days repeat the one before")
    r = 0.0
    starts, cost = partition(value / spread, beta, shortest_days)
    left = value - np.repeat(*_means(value, starts))
    found, standard_error = lag_correlation(day, left)
    if found > SIGNIFICANT * standard_error:
        if autocorrelation == "refuse":
            got = (
                f"a lag-1 correlation of {found:.2f} (chance gives up to {SIGNIFICANT * standard_error:.2f})"
            )
            wanted = "noise that does not depend on the day before; autocorrelation='inflate' allows for it"
            refuse("change_points", wanted, got)
        r = float(np.clip((_difference_sd(value, 2) / spread) ** 2 - 1.0, 0.0, 0.9))
        spread = spread / math.sqrt(1.0 - r) * math.sqrt((1.0 + r) / (1.0 - r))
        starts, cost = partition(value / spread, beta, shortest_days)
    mean, count = _means(value, starts)
    unit = {"units": values.attrs.get("units", "1")}
    return xr.Dataset(
        {
            "segment_start": label("segment_start", day[starts]),
            "segment_mean": label("segment_mean", mean, **unit),
            "segment_mean_sd": label("segment_mean_sd", spread / np.sqrt(count), **unit),
        },
        attrs={"noise_sd": spread, "penalty": beta, "correlation": r, "cost": cost},
    )


def partition(value: Array, penalty: float, shortest: int) -> tuple[NDArray[np.intp], float]:
    """First places of the segments that minimise squares within them plus ``penalty`` a change, and the minimum."""
    n = value.size
    sums, squares = (
        np.concatenate([[0.0], np.cumsum(v)]) for v in (value - value.mean(), (value - value.mean()) ** 2)
    )
    best, last = np.full(n + 1, np.inf), np.zeros(n + 1, np.intp)
    best[0] = -penalty
    for end in range(shortest, n + 1):
        start = np.arange(0, end - shortest + 1)
        within = squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start)
        total = best[start] + within + penalty
        last[end] = start[np.argmin(total)]
        best[end] = total.min()
    starts, end = [], n
    while end > 0:
        end = int(last[end])
        starts.append(end)
    return np.array(starts[::-1], np.intp), float(best[n])


def _means(value: Array, starts: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    count = np.diff(np.append(starts, value.size))
    return np.add.reduceat(value, starts) / count, count


def _difference_sd(value: Array, lag: int) -> float:
    """Standard deviation of the noise of values, from differences over some places, by their median."""
    change = np.abs(value[lag:] - value[:-lag])
    return float(np.median(change) / 0.6744897501960817 / math.sqrt(2.0))
