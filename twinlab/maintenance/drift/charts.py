"""Control charts of daily values: Shewhart, exponentially weighted mean, cumulative sum."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.maintenance.drift.phase_one import Baseline, standardised
from twinlab.schema import label, refuse

EWMA_WEIGHT, EWMA_WIDTH = 0.1, 2.814  # in control 500 days on average (Lucas and Saccucci 1990)
CUSUM_REFERENCE, CUSUM_LIMIT = 0.5, 5.0  # 465 days


def shewhart(values: xr.DataArray, limits: Baseline, *, width: float = 3.0) -> xr.Dataset:
    """Chart of single days: alarm beyond ``width`` standard deviations.

    Quick for large steps, slow for drift: see :func:`average_run_length`.

    Parameters
    ----------
    values : DataArray, dim day
        Days without a value (NaN) give no alarm.
    limits : Baseline
        From :func:`baseline`.
    width : float

    Returns
    -------
    Dataset, dim day
        ``chart_value`` in standard deviations, ``chart_low``, ``chart_high``, ``alarm``.

    Raises
    ------
    InputError
        Values without dim ``day``, or a width that is not positive.
    """
    if not width > 0:
        refuse("shewhart: width", "above 0", width)
    z = standardised(values, limits, where="shewhart")
    return _chart(values, z, width, chart=f"Shewhart, {width:g} standard deviations")


def ewma(
    values: xr.DataArray, limits: Baseline, *, weight: float = EWMA_WEIGHT, width: float = EWMA_WIDTH
) -> xr.Dataset:
    """Chart of the exponentially weighted mean ``m = (1 - weight) m + weight z`` [1]_.

    Alarm beyond ``width sqrt(weight / (2 - weight))``, the limits of a chart that has run for long. A day without a
    value leaves the mean as it was.

    Parameters
    ----------
    values, limits
        See :func:`shewhart`.
    weight, width : float

    Returns
    -------
    Dataset, dim day
        As :func:`shewhart`. The chart is not reset by an alarm.

    Raises
    ------
    InputError
        Values without dim ``day``, a weight outside (0, 1], a width that is not positive.

    References
    ----------
    .. [1] Roberts S W (1959) Control chart tests based on geometric moving averages. Technometrics 1:239.
    """
    if not (0 < weight <= 1 and width > 0):
        refuse("ewma", "0 < weight <= 1 and width above 0", (weight, width))
    z = standardised(values, limits, where="ewma")
    mean, level = np.empty(z.size), 0.0
    for k, value in enumerate(z):
        level = level if math.isnan(value) else (1.0 - weight) * level + weight * value
        mean[k] = level
    mean[np.isnan(z)] = np.nan
    half = width * math.sqrt(weight / (2.0 - weight))
    return _chart(values, mean, half, chart=f"EWMA, weight {weight:g}, width {width:g}")


def cusum(
    values: xr.DataArray,
    limits: Baseline,
    *,
    reference: float = CUSUM_REFERENCE,
    limit: float = CUSUM_LIMIT,
) -> xr.Dataset:
    """Two-sided tabular cumulative sum [1]_.

    ``C+ = max(0, C+ + z - reference)``, ``C- = max(0, C- - z - reference)``; alarm when one is above ``limit``.
    Quickest for a lasting shift of twice ``reference``. A day without a value leaves the sums as they were.

    Parameters
    ----------
    values, limits
        See :func:`shewhart`.
    reference, limit : float
        In standard deviations.

    Returns
    -------
    Dataset, dim day
        ``cusum_high``, ``cusum_low`` (both 0 or above), ``alarm``, and ``onset_day``: while a sum is above 0, the
        first day of its present rise, which dates a shift when it alarms. The sums are not reset by an alarm.

    Raises
    ------
    InputError
        Values without dim ``day``, a negative reference, a limit that is not positive.

    References
    ----------
    .. [1] Page E S (1954) Continuous inspection schemes. Biometrika 41:100; Montgomery D C (2013) Introduction to
       Statistical Quality Control, 7th ed., section 9.1.
    """
    if not (reference >= 0 and limit > 0):
        refuse("cusum", "reference of 0 or more and limit above 0", (reference, limit))
    z = standardised(values, limits, where="cusum")
    day = values["day"].to_numpy().astype(float)
    sums, onset = np.zeros((2, z.size)), np.full((2, z.size), np.nan)
    for side, sign in enumerate((1.0, -1.0)):
        level, start = 0.0, math.nan
        for k, value in enumerate(z):
            if not math.isnan(value):
                before, level = level, max(0.0, level + sign * value - reference)
                start = math.nan if level == 0.0 else (day[k] if before == 0.0 else start)
            sums[side, k], onset[side, k] = level, start
    larger = np.where(sums[0] >= sums[1], onset[0], onset[1])
    coords = {"day": values["day"]}
    return xr.Dataset(
        {
            "cusum_high": label("cusum_high", sums[0], coords),
            "cusum_low": label("cusum_low", sums[1], coords),
            "onset_day": label("onset_day", larger, coords),
            "alarm": label("alarm", (sums > limit).any(axis=0) & ~np.isnan(z), coords),
        },
        attrs={"chart": f"CUSUM, reference {reference:g}, limit {limit:g}", "limit": float(limit)},
    )


def first_alarm(chart: xr.Dataset, *, after: float = -math.inf) -> float:
    """First day after ``after`` on which a chart alarms; NaN if it never does."""
    day = chart["day"].to_numpy().astype(float)
    found = day[chart["alarm"].to_numpy() & (day > after)]
    return float(found[0]) if found.size else math.nan


def _chart(values: xr.DataArray, z: NDArray[np.float64], half: float, *, chart: str) -> xr.Dataset:
    coords = {"day": values["day"]}
    edge = np.full(z.size, half)
    return xr.Dataset(
        {
            "chart_value": label("chart_value", z, coords),
            "chart_low": label("chart_low", -edge, coords),
            "chart_high": label("chart_high", edge, coords),
            "alarm": label("alarm", np.abs(np.nan_to_num(z)) > half, coords),
        },
        attrs={"chart": chart, "limit": float(half)},
    )
