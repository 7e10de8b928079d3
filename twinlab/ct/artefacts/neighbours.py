"""Filters over neighbouring cells in any array namespace: medians, local parabolas, Gaussian spread.

Beyond the edge the last cell goes on, but for the Gaussian, beyond which there is nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import savgol_coeffs

from twinlab.kernels.device import namespace

_AT_A_TIME = 2**22  # values that are sorted together


def nan_median(values: Any) -> Any:
    """Median along the last axis of what is not NaN; NaN where nothing is."""
    xp, n = namespace(values), values.shape[-1]
    missing = xp.isnan(values)
    if not bool(xp.any(missing)):
        ordered = xp.sort(values, axis=-1)
        return 0.5 * (ordered[..., (n - 1) // 2] + ordered[..., n // 2])
    count = n - xp.sum(xp.astype(missing, xp.int64), axis=-1, keepdims=True)
    ordered = xp.sort(xp.where(missing, xp.asarray(xp.inf, dtype=values.dtype), values), axis=-1)
    place, nothing = xp.arange(n), xp.zeros_like(ordered)
    low, high = (
        xp.sum(xp.where(place == at, ordered, nothing), axis=-1) for at in ((count - 1) // 2, count // 2)
    )
    return xp.where(count[..., 0] > 0, 0.5 * (low + high), xp.asarray(xp.nan, dtype=values.dtype))


def median(values: Any, *, rows: int, channels: int) -> Any:
    """Median over a window of cells around each, shape (row, channel); cells with NaN are left out of it.

    By sorting; arrays of NumPy without NaN take SciPy's filter, which gives the same three times as fast.

    Parameters
    ----------
    values : array (row, channel)
    rows, channels : int
        Odd sides of the window.
    """
    if isinstance(values, np.ndarray) and not np.isnan(values).any():
        return median_filter(values, size=(rows, channels), mode="nearest")
    xp = namespace(values)
    n_row, n_channel = values.shape
    across = [_shifted(values, shift, 1) for shift in range(-(channels // 2), channels // 2 + 1)]
    step = max(1, _AT_A_TIME // (rows * channels * n_channel))
    parts = []
    for first in range(0, n_row, step):
        row = np.arange(first, min(first + step, n_row))
        shifts = range(-(rows // 2), rows // 2 + 1)
        places = [xp.asarray(np.clip(row + shift, 0, n_row - 1)) for shift in shifts]
        parts.append(
            nan_median(xp.stack([xp.take(one, at, axis=0) for at in places for one in across], axis=-1))
        )
    return xp.concat(parts)


def parabolas(values: Any, *, channels: int) -> Any:
    """Value in the middle of a parabola fitted to so many cells (odd) of the row, shape (row, channel).

    References
    ----------
    Savitzky A, Golay M J E (1964) Anal Chem 36:1627.
    """
    half = channels // 2
    total: Any = None
    for shift, weight in zip(range(-half, half + 1), savgol_coeffs(channels, 2), strict=True):
        part = float(weight) * _shifted(values, shift, 1)
        total = part if total is None else total + part
    return total


def _shifted(values: Any, shift: int, axis: int) -> Any:
    """Each cell's neighbour so many places on."""
    xp, n = namespace(values), values.shape[axis]
    return xp.take(values, xp.asarray(np.clip(np.arange(n) + shift, 0, n - 1)), axis=axis)


def gaussian(values: Any, width: float) -> Any:
    """Gaussian spread along the last axis, of a standard deviation in cells: one matrix product."""
    xp = namespace(values)
    return values @ xp.asarray(_spread_matrix(values.shape[-1], float(width)), dtype=values.dtype)


@lru_cache(maxsize=32)
def _spread_matrix(n: int, width: float) -> NDArray[np.float64]:
    return np.asarray(gaussian_filter1d(np.eye(n), width, axis=0, mode="constant"))
