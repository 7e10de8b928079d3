"""Counters with dead time: the undoing of pile-up.

The model that is undone is that of :func:`twinlab.ct.spectral.piled_up`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

_STEPS = 60
_ENOUGH = 1e-6  # relative change of the last step
_LEAST = 1e-30


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


@njit(cache=True)
def restore_ray(recorded, load_per_count, sums, paralysable, at, predicted, counts):
    """Counts of one ray, (n_bin,), as of :func:`restore_rays`; ``at`` and ``predicted`` are work space (n_bin,)."""
    n_bin = recorded.size
    for b in range(n_bin):
        at[b] = recorded[b]
    for _ in range(_STEPS):
        _predicted(at, load_per_count, sums, paralysable, predicted)
        change = 0.0
        for b in range(n_bin):
            if predicted[b] > 0.0:
                factor = recorded[b] / predicted[b]
                at[b] *= factor
                if recorded[b] > 0.0:
                    change = max(change, abs(factor - 1.0))
        if change < _ENOUGH:
            break
    for b in range(n_bin):
        counts[b] = at[b]


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
        restore_ray(recorded[:, ray], load_per_count, sums, paralysable, at, predicted, counts[:, ray])
