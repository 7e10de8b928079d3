"""Pile-up: counts lost and energies misread when pulses of a pixel overlap, to first order.

A pixel is busy for one dead time after a pulse. Another pulse in that time is not counted, and its charge adds
to the first one's. With the load x = true rate * dead time, counters record

    n / (1 + x)       nonparalysable (dead time from the first pulse)
    n * exp(-x)       paralysable (dead time from the last pulse)

of a true rate n. In both a recorded pulse is alone with probability exp(-x). To first order in x the rest are
sums of two.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.kernels.counting import HEIGHT_STEP_KEV
from twinlab.kernels.device import namespace
from twinlab.schema import refuse

Law = Literal["nonparalysable", "paralysable"]
Array = NDArray[np.float64]


def recorded_rate(true_rate: Any, dead_time: float, *, law: Law) -> Any:
    """Rate that a counter with dead time records.

    Parameters
    ----------
    true_rate : array
        Pulses per time, of any array library.
    dead_time : float
        In the same time.
    law : "nonparalysable" or "paralysable"

    Raises
    ------
    InputError
        Another law, or a negative dead time.

    References
    ----------
    Knoll G F, Radiation Detection and Measurement, 4th ed., 4.VII (dead time models).

    Examples
    --------
    >>> float(recorded_rate(np.asarray(1e6), 1e-6, law="nonparalysable"))
    500000.0
    """
    if dead_time < 0:
        refuse("recorded_rate: dead_time", "0 or more", dead_time)
    if law == "nonparalysable":
        return true_rate / (1.0 + true_rate * dead_time)
    if law == "paralysable":
        xp = namespace(true_rate)
        return true_rate * xp.exp(-true_rate * dead_time)
    return refuse("recorded_rate: law", "'nonparalysable' or 'paralysable'", repr(law))


def summed_bins(heights: Array, thresholds: Array) -> Array:
    """Bin of the sum of two pulses, shape (bin, first, second): probabilities given the bins of the two.

    Parameters
    ----------
    heights : array (n_height,)
        Pulses by registered energy, at multiples of ``HEIGHT_STEP_KEV``; any scale.
    thresholds : array (n_bin,)
        keV, ascending.
    """
    energy = np.arange(heights.size) * HEIGHT_STEP_KEV
    bin_of = np.searchsorted(thresholds, energy, side="right") - 1
    parts = [np.where(bin_of == b, heights, 0.0) for b in range(thresholds.size)]
    of_sum = np.searchsorted(thresholds, np.arange(2 * heights.size - 1) * HEIGHT_STEP_KEV, side="right") - 1
    table = np.zeros((thresholds.size,) * 3)
    for i, first in enumerate(parts):
        for j, second in enumerate(parts):
            both = np.convolve(first, second)
            if both.sum() > 0:
                chance = np.bincount(of_sum[of_sum >= 0], both[of_sum >= 0], thresholds.size)
                table[:, i, j] = chance / both.sum()
            else:
                table[max(i, j), i, j] = 1.0
    return table


def piled_up(counts: Any, load_per_count: Any, sums: Any, *, law: Law) -> Any:
    """Recorded counts by bin.

    Parameters
    ----------
    counts : array (n_bin, ...)
        Mean counts without pile-up, of any array library.
    load_per_count : array or float
        Pulses of a pixel in one dead time, per count of the reading:
        ``dead time / (reading time * pixels)``. Broadcast against one bin.
    sums : array (n_bin, n_bin, n_bin)
        From :func:`summed_bins`.
    law : "nonparalysable" or "paralysable"

    Returns
    -------
    array (n_bin, ...)

    Limits
    ------
    First order in the load: sums of three and more pulses are taken as sums of two. Pulses below the first
    threshold neither count nor pile up. One pulse-height spectrum stands for all rays within each bin.
    """
    xp = namespace(counts)
    total = xp.sum(counts, axis=0)
    load = total * load_per_count
    kept = xp.where(load > 0, recorded_rate(load, 1.0, law=law) / xp.where(load > 0, load, 1.0), 1.0)
    alone = xp.exp(-load)
    share = counts / xp.where(total > 0, total, 1.0)
    n_bin = counts.shape[0]
    out = []
    for b in range(n_bin):
        two = xp.zeros_like(total)
        for i in range(n_bin):
            for j in range(n_bin):
                if float(sums[b, i, j]) != 0.0:
                    two = two + float(sums[b, i, j]) * share[i, ...] * share[j, ...]
        out.append(total * kept * (alone * share[b, ...] + (1.0 - alone) * two))
    return xp.stack(out)


def mean_heights(response: xr.Dataset, spectrum: Array, energy_kev: Array) -> Array:
    """Pulses by registered energy behind a spectrum (photons by energy), shape (height,)."""
    tabulated = response["energy"].to_numpy()
    weights = np.zeros(tabulated.size)
    place = np.interp(energy_kev, tabulated, np.arange(tabulated.size))
    low = np.minimum(place.astype(int), tabulated.size - 2)
    np.add.at(weights, low, spectrum * (1.0 - (place - low)))
    np.add.at(weights, low + 1, spectrum * (place - low))
    return np.asarray(response["pulse_height"].to_numpy() @ weights)
