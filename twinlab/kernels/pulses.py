"""Counters with dead time: pulses in time, event by event, and the undoing of pile-up.

The model that is undone is that of :func:`twinlab.ct.spectral.piled_up`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.counting import bin_of
from twinlab.kernels.philox import draw

_STEPS = 60
_ENOUGH = 1e-6  # relative change of the last step
_LEAST = 1e-30


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


@njit(cache=True)
def _predicted(counts, load_per_count, sums, paralysable, out):
    """Recorded counts of one ray from its counts without pile-up."""
    n_bin = counts.size
    total = 0.0
    for b in range(n_bin):
        total += counts[b]
    load = total * load_per_count
    alone = math.exp(-load)
    kept = alone if paralysable else 1.0 / (1.0 + load)
    for b in range(n_bin):
        two = 0.0
        for i in range(n_bin):
            for j in range(n_bin):
                two += sums[b, i, j] * counts[i] * counts[j]
        out[b] = kept * (alone * counts[b] + (1.0 - alone) * two / max(total, _LEAST))


@njit(cache=True, parallel=True)
def restore_rays(recorded, load_per_count, sums, paralysable, counts):
    """Counts without pile-up of each ray: multiplied by recorded over predicted ones until these agree.

    Of a paralysable counter the branch of low rates (load below 1).

    Parameters
    ----------
    recorded : float32 array (n_bin, n_ray)
    load_per_count : float
    sums : float64 array (n_bin, n_bin, n_bin)
    paralysable : bool
    counts : float32 array (n_bin, n_ray), written
    """
    n_bin, n_ray = recorded.shape
    for ray in prange(n_ray):
        at, predicted = np.empty(n_bin), np.empty(n_bin)
        for b in range(n_bin):
            at[b] = recorded[b, ray]
        for _ in range(_STEPS):
            _predicted(at, load_per_count, sums, paralysable, predicted)
            change = 0.0
            for b in range(n_bin):
                if predicted[b] > 0.0:
                    factor = recorded[b, ray] / predicted[b]
                    at[b] *= factor
                    if recorded[b, ray] > 0.0:
                        change = max(change, abs(factor - 1.0))
            if change < _ENOUGH:
                break
        for b in range(n_bin):
            counts[b, ray] = at[b]
