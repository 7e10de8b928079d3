"""Counts of readings: Poisson numbers of photons that are counted once or twice.

A photon that is counted in two bins, or twice in one, makes them vary together. Counts with given means and
covariances are therefore sums of independent Poisson streams: photons counted once in a bin, and photons
counted twice, in any pair of bins.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import philox4x32

_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_ZERO = np.uint64(0)
_NEXT = np.uint64(1)
_TO_UNIT = 2.0**-32
_FEW = 10.0


@njit(cache=True)
def _pair(step, c1, c2, k0, k1):
    """Two uniform numbers in (0, 1)."""
    a, b, _, _ = philox4x32(step & _LOW32, c1, c2, _ZERO, k0, k1)
    return (np.float64(np.int64(a)) + 0.5) * _TO_UNIT, (np.float64(np.int64(b)) + 0.5) * _TO_UNIT


@njit(cache=True)
def poisson(mean, step, c1, c2, k0, k1):
    """Poisson number of any mean, and the next free step of the random stream.

    Inversion below a mean of 10, transformed rejection from there on: exact at every mean.

    References
    ----------
    Hormann W (1993) The transformed rejection method for generating Poisson random variables. Insurance:
    Mathematics and Economics 12:39 (algorithm PTRS).
    """
    if mean <= 0.0:
        return 0, step
    if mean < _FEW:
        u, _ = _pair(step, c1, c2, k0, k1)
        n, term = 0, math.exp(-mean)
        total = term
        while u > total and n < 200:
            n += 1
            term *= mean / n
            total += term
        return n, step + _NEXT
    log_mean = math.log(mean)
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    safe = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, v = _pair(step, c1, c2, k0, k1)
        step += _NEXT
        u -= 0.5
        edge = 0.5 - abs(u)
        n = math.floor((2.0 * a / edge + b) * u + mean + 0.43)
        if edge >= 0.07 and v <= safe:
            return int(n), step
        if n < 0 or (edge < 0.013 and v > edge):
            continue
        if math.log(v * inverse_alpha / (a / (edge * edge) + b)) <= n * log_mean - mean - math.lgamma(
            n + 1.0
        ):
            return int(n), step


@njit(cache=True, parallel=True)
def draw_counts(mean, product, first_ray, realisation, k0, k1, counts):
    """Counts with given means and covariances.

    Parameters
    ----------
    mean : float32 array (n_bin, n_ray)
    product : float32 array (n_pair, n_ray)
        Covariance of bins (b, c), b <= c, in the order (0, 0), (0, 1), ... (1, 1), ...: mean products of the
        counts of a photon, summed over photons. On the diagonal at least ``mean``.
    first_ray : uint64
        Place of the first ray in the scan.
    realisation, k0, k1 : uint64
    counts : float32 array (n_bin, n_ray), written
    """
    n_bin, n_ray = mean.shape
    for ray in prange(n_ray):
        place = first_ray + np.uint64(ray)
        # a key of its own for each ray and realisation, for as many draws as its streams need
        w0, w1, c1, c2 = philox4x32(
            place & _LOW32, place >> _SHIFT, realisation & _LOW32, realisation >> _SHIFT, k0, k1
        )
        step = _ZERO
        for b in range(n_bin):
            counts[b, ray] = 0.0
        pair = 0
        for b in range(n_bin):
            once = np.float64(mean[b, ray])
            start = b
            for c in range(b):  # pairs (c, b) of lower bins
                once -= product[start, ray]
                start += n_bin - 1 - c
            for c in range(b, n_bin):
                rate = np.float64(product[pair, ray])
                if c == b:
                    rate = 0.5 * max(rate - mean[b, ray], 0.0)
                    once -= rate
                once -= rate
                n, step = poisson(rate, step, c1, c2, w0, w1)
                counts[b, ray] += n
                counts[c, ray] += n
                pair += 1
            n, step = poisson(once, step, c1, c2, w0, w1)
            counts[b, ray] += n
