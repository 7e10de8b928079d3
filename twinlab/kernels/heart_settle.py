"""The beat that repeats, found sooner: Anderson's extrapolation over the last beats.

A beat maps the state at its start to that at its end; wanted is the state that it leaves alone. Volumes drift towards
it over some twenty beats, because blood moves slowly between the two circulations. The combination of the last starts
whose drift is least, moved by its own drift, is there after a few. Every state has the same total volume and the
shares add up to one, so the total is kept.

References
----------
Walker H F, Ni P 2011, SIAM J Numer Anal 49:1715 (Anderson acceleration, algorithm AA).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.heart_loop import solve_dense

DEPTH = 4  # beats that are looked back
_MOST_ML = 60.0  # a greater jump of a volume is no small correction: the beat's own end is taken
_LEAST_SHARE = 0.3  # of its volume that a compartment keeps in a jump


@njit(cache=True)
def extrapolated(starts, ends, count, out):
    """Start of the next beat.

    Parameters
    ----------
    starts, ends : arrays (DEPTH + 1, state)
        Of the last beats, the latest first; eight volumes, ml, come first in a state.
    count : int
        Rows that are filled.
    out : array (state,)
        Filled.

    Returns
    -------
    bool
        Whether ``out`` differs from the end of the last beat.
    """
    out[:] = ends[0]
    n = min(count, DEPTH + 1) - 1
    if n < 1:
        return False
    drift = ends[:, :8] - starts[:, :8]
    a, b = np.empty((n, n)), np.empty(n)
    for i in range(n):
        for j in range(n):
            total = 0.0
            for k in range(8):
                total += (drift[0, k] - drift[i + 1, k]) * (drift[0, k] - drift[j + 1, k])
            a[i, j] = total
        b[i] = 0.0
        for k in range(8):
            b[i] += (drift[0, k] - drift[i + 1, k]) * drift[0, k]
    size = 0.0
    for i in range(n):
        size += a[i, i]
    if not size > 0.0:
        return False
    for i in range(n):
        a[i, i] += 1e-10 * size  # nearly parallel drifts
    solve_dense(a, b)
    for i in range(n):
        if not math.isfinite(b[i]):
            return False
        for k in range(out.size):
            out[k] -= b[i] * (ends[0, k] - ends[i + 1, k])
    for k in range(8):
        if abs(out[k] - ends[0, k]) > _MOST_ML or out[k] < _LEAST_SHARE * ends[0, k]:
            out[:] = ends[0]
            return False
    return True
