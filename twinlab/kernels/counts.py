"""Counts of readings: Poisson numbers of photons that are counted once or twice.

A photon that is counted in two bins, or twice in one, makes them vary together. Counts with given means and
covariances are therefore sums of independent Poisson streams: photons counted once in a bin, and photons
counted twice, in any pair of bins of one cell or of two neighbouring cells.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import DEVICE, philox4x32

_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_ZERO = np.uint64(0)
_NEXT = np.uint64(1)
_TO_UNIT = 2.0**-32
_FEW = 10.0
SHARED = np.uint64(
    1 << 24
)  # first step of the draws that two cells share: those of a cell alone never come here
_MOST_SHARED = 0.1  # of the counts of either cell
_NOTHING = 1e-30


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


@njit(cache=True)
def key_of(place, realisation, k0, k1):
    """A key of its own for each ray and realisation, for as many draws as its streams need."""
    return philox4x32(place & _LOW32, place >> _SHIFT, realisation & _LOW32, realisation >> _SHIFT, k0, k1)


@njit(cache=True)
def shared_rate(here, there, b, c, factor):
    """Mean number of photons counted in bin b of one cell and in bin c of its neighbour."""
    each = math.sqrt(max(np.float64(here[b]) * here[c], 0.0)) + _NOTHING
    other = math.sqrt(max(np.float64(there[b]) * there[c], 0.0)) + _NOTHING
    rate = factor * 2.0 * each * other / (each + other)
    return min(rate, _MOST_SHARED * min(here[b], there[c]))


@njit(cache=True)
def _share(mean, places, factors, lo, hi, first, realisation, k0, k1, counts, taken):
    """Photons counted in two cells of a view: adds to the counts of both, and to what is ``taken`` of each."""
    n_channel = mean.shape[2]
    for r in range(lo, hi):
        for channel in range(n_channel):
            w0, w1, c1, c2 = key_of(first + np.uint64(r * n_channel + channel), realisation, k0, k1)
            step = SHARED
            for k in range(places.shape[0]):
                down, along, b, c = places[k]
                r2, channel2 = r + down, channel + along
                if r2 >= hi or channel2 < 0 or channel2 >= n_channel:
                    continue
                rate = shared_rate(mean[:, r, channel], mean[:, r2, channel2], b, c, factors[k])
                taken[b, r, channel] += rate
                taken[c, r2, channel2] += rate
                n, step = poisson(rate, step, c1, c2, w0, w1)
                counts[b, r, channel] += n
                counts[c, r2, channel2] += n


@njit(**DEVICE)
def draw_cell(mean, product, taken, ray, realisation, k0, k1, counts):
    """Add to the counts of a cell the photons that no other cell counts.

    Parameters
    ----------
    mean, taken, counts : float32 arrays (n_bin,)
        Mean counts, and those of them that are shared with other cells.
    product : float32 array (n_pair,)
    ray, realisation, k0, k1 : uint64
    """
    w0, w1, c1, c2 = key_of(ray, realisation, k0, k1)
    step = _ZERO
    pair = 0
    n_bin = mean.size
    for b in range(n_bin):
        once = np.float64(mean[b]) - taken[b]
        start = b
        for c in range(b):  # pairs (c, b) of lower bins
            once -= product[start]
            start += n_bin - 1 - c
        for c in range(b, n_bin):
            rate = np.float64(product[pair])
            if c == b:
                rate = 0.5 * max(rate - mean[b], 0.0)
                once -= rate
            once -= rate
            n, step = poisson(rate, step, c1, c2, w0, w1)
            counts[b] += n
            counts[c] += n
            pair += 1
        n, step = poisson(once, step, c1, c2, w0, w1)
        counts[b] += n


@njit(cache=True, parallel=True)
def draw_counts(
    mean, product, places, factors, first_view, realisation, k0, k1, row_lo, row_hi, counts
):  # fmt: skip
    """Counts with given means, covariances between bins, and covariances of neighbouring cells.

    Parameters
    ----------
    mean : float32 array (n_bin, n_view, n_row, n_channel)
    product : float32 array (n_pair, n_view, n_row, n_channel)
        Covariance of bins (b, c), b <= c, in the order (0, 0), (0, 1), ... (1, 1), ...: mean products of the
        counts of a photon, summed over photons. On the diagonal at least ``mean``.
    places : int64 array (n_shared, 4)
        Rows down and channels along to a neighbour (each pair of cells once), bin here, bin there.
    factors : float64 array (n_shared,)
        Covariance of these counts over the root of the product of their means.
    first_view : int
        Place of the first view in the scan.
    realisation, k0, k1 : uint64
    row_lo, row_hi : int arrays (n_view,)
        Rows to draw; the others are set to 0.
    counts : float32 array (n_bin, n_view, n_row, n_channel), written
    """
    n_bin, n_view, n_row, n_channel = mean.shape
    for i in prange(n_view):
        counts[:, i] = 0.0
        taken = np.zeros((n_bin, n_row, n_channel), np.float32)
        first = np.uint64((first_view + i) * n_row * n_channel)
        lo, hi = row_lo[i], row_hi[i]
        _share(mean[:, i], places, factors, lo, hi, first, realisation, k0, k1, counts[:, i], taken)
        for r in range(lo, hi):
            for channel in range(n_channel):
                ray = first + np.uint64(r * n_channel + channel)
                draw_cell(
                    mean[:, i, r, channel], product[:, i, r, channel], taken[:, r, channel], ray, realisation, k0, k1,
                    counts[:, i, r, channel],
                )  # fmt: skip
