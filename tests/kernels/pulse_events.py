"""Counters with dead time as pulses in time, event by event: what the formulas of pile-up are tested against."""

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.counting import bin_of
from twinlab.kernels.philox import draw


@njit(cache=True, parallel=True)
def count_pulses(load, n_pulse, cumulative, step_kev, thresholds, paralysable, k0, k1, recorded, elapsed):
    """Event simulation of pile-up: pulses that arrive while the counter is busy add to the height of the first.

    The counter is busy for one dead time after a pulse; a paralysable one for one dead time after the last.

    Parameters
    ----------
    load : float
        Mean number of pulses in a dead time.
    n_pulse : int
        Pulses of each block.
    cumulative : float64 array (n_height,)
        Distribution function of pulse heights at multiples of ``step_kev``, ending with 1.
    step_kev : float
    thresholds : float64 array (n_bin,)
    paralysable : bool
    k0, k1 : uint64
    recorded : int64 array (n_block, n_bin), added to
    elapsed : float64 array (n_block,), added to
        Time, in dead times.
    """
    for block in prange(recorded.shape[0]):
        busy_until, height, now = -1.0, -1.0, 0.0
        for i in range(n_pulse):
            a, b, _, _ = draw(np.uint64(i), np.uint64(block), k0, k1)
            now -= math.log(a) / load
            place = np.searchsorted(cumulative, np.float64(b))
            if now < busy_until:
                height += place * step_kev
                if paralysable:
                    busy_until = now + 1.0
                continue
            found = bin_of(height, thresholds)
            if found >= 0:
                recorded[block, found] += 1
            height = place * step_kev
            busy_until = now + 1.0
        elapsed[block] += now
