"""What a history says at each of its rows: levels, slopes and curvature over several memories.

Everything is causal: row ``t`` of a feature uses rows up to ``t`` only, so that one pass gives the features of
every possible cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from twinlab.maintenance.remaining.histories import Array, Histories

LEVELS = (5, 15, 40)
SLOPES = (30, 80)
ALL = 10**9


def smooth(values: Array, span: float) -> Array:
    """Exponentially weighted mean of rows so far, ``alpha = 2/(span+1)``, without bias at the start.

    Parameters
    ----------
    values : ndarray, shape (row, sensor)
        One unit.
    span : float
        Memory in rows.
    """
    alpha = 2.0 / (span + 1.0)
    total = lfilter([alpha], [1.0, alpha - 1.0], values, axis=0)
    weight = 1.0 - (1.0 - alpha) ** np.arange(1, len(values) + 1)
    return total / weight[:, None]


def rolling_mean(values: Array, window: int) -> Array:
    """Mean of the last ``window`` rows, or of all where there are fewer."""
    end, begin = _edges(len(values), window)
    return _sums(values, end, begin) / (end - begin)[:, None]


def rolling_slope(values: Array, window: int, *, least: int = 5) -> Array:
    """Least-squares slope a row over the last ``window`` rows; 0 before there are ``least`` of them."""
    end, begin = _edges(len(values), window)
    count = (end - begin).astype(float)[:, None]
    place = np.arange(len(values), dtype=float)[:, None]
    middle = (end + begin - 1)[:, None] / 2.0
    covariance = _sums(values * place, end, begin) - middle * _sums(values, end, begin)
    spread = count * (count**2 - 1.0) / 12.0
    return np.where(count >= least, covariance / np.maximum(spread, 1.0), 0.0)


def curvature(values: Array, *, least: int = 10) -> Array:
    """Coefficient of the quadratic orthogonal polynomial over all rows so far; 0 before ``least`` of them."""
    place = np.arange(len(values), dtype=float)[:, None]
    count = place + 1.0
    zero, one, two = (np.cumsum(values * place**k, axis=0) for k in range(3))
    middle = place / 2.0
    product = two - 2.0 * middle * one + (middle**2 - (count**2 - 1.0) / 12.0) * zero
    norm = count * (count**2 - 1.0) * (count**2 - 4.0) / 180.0
    return np.where(count >= least, product / np.maximum(norm, 1.0), 0.0)


def unit_features(values: Array, cycle: Array) -> Array:
    """Features of one unit; columns as :func:`feature_names` says."""
    parts = [smooth(values, span) for span in LEVELS]
    parts += [rolling_slope(values, window) * window for window in SLOPES]
    parts += [rolling_slope(values, ALL) * 100.0, curvature(values) * 1e4, rolling_mean(values, ALL)]
    return np.hstack([*parts, cycle[:, None]])


def features(units: Histories) -> NDArray[np.float32]:
    """Features of every row of every unit, shape (row, feature).

    Parameters
    ----------
    units : Histories
        Sensors as deviations from their condition (:class:`Conditions`); rows of a unit evenly spaced.
    """
    cycles = units.pieces(units.cycle)
    rows = [unit_features(v, c) for v, c in zip(units.pieces(), cycles, strict=True)]
    return np.concatenate(rows).astype(np.float32)


def feature_names(sensors: tuple[str, ...]) -> list[str]:
    """Names of the columns of :func:`features`."""
    kinds = [f"level{n}" for n in LEVELS] + [f"slope{n}" for n in SLOPES] + ["slope", "curvature", "mean"]
    return [f"{sensor}_{kind}" for kind in kinds for sensor in sensors] + ["cycle"]


def _edges(count: int, window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    end = np.arange(1, count + 1)
    return end, np.maximum(end - window, 0)


def _sums(values: Array, end: NDArray[np.int64], begin: NDArray[np.int64]) -> Array:
    total = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return total[end] - total[begin]
