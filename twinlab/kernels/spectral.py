"""Polychromatic signals of rays, and noisy readings of them.

Rays are independent; loops run along the channels of one detector row, in float32, so that they vectorise.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.elementary import cosine_of_turns, exp32, log32
from twinlab.kernels.philox import philox4x32

FEW_QUANTA = np.float32(
    50.0
)  # below this mean number of quanta a reading is drawn from a Poisson distribution

_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_TENTH = np.float32(0.1)
_MINUS_TWO = np.float32(-2.0)
_LEAST = np.float32(1e-30)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_TO_UNIT = np.float32(2.0**-32)
_TO_UNIT_53 = 2.0**-53


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_node(p0, p1, p2, p3, m0, m1, m2, m3, more, weight, weight2, signal, second):
    for c in range(signal.size):
        y = exp32(-(m0 * p0[c] + m1 * p1[c] + m2 * p2[c] + m3 * p3[c] + more[c]))
        signal[c] += weight[c] * y
        second[c] += weight2[c] * y


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_scaled(total, factor, values):
    for c in range(total.size):
        total[c] += factor * values[c]


@njit(cache=True, parallel=True)
def polychromatic(path, mu, weight, weight2, gain, row_lo, row_hi, signal, second):
    """Sum over energy nodes of ``weight * exp(-sum_k mu_k path_k)``, and the same with ``weight2``.

    Parameters
    ----------
    path : float32 array (n_basis, n_view, n_row, n_channel)
    mu : float32 array (n_node, 4 or a multiple), zero where there is no basis function
    weight, weight2 : float32 arrays (n_node, n_channel)
    gain : float32 array (n_row, n_channel)
        Factor of both results.
    row_lo, row_hi : int arrays (n_view,)
        Rows to compute; the others get the signal of no object.
    signal, second : float32 arrays (n_view, n_row, n_channel), written
    """
    nk, nv, nr, nc = path.shape
    nq = mu.shape[0]
    for i in prange(nv):
        more = np.zeros(nc, np.float32)
        none = np.zeros(nc, np.float32)
        s = np.empty(nc, np.float32)
        v = np.empty(nc, np.float32)
        for r in range(nr):
            s[:] = 0.0
            v[:] = 0.0
            seen = row_lo[i] <= r < row_hi[i]
            for q in range(nq):
                if not seen:
                    _add_scaled(s, _ONE, weight[q])
                    _add_scaled(v, _ONE, weight2[q])
                    continue
                if nk > 4:
                    more[:] = 0.0
                    for k in range(4, nk):
                        _add_scaled(more, mu[q, k], path[k, i, r])
                p0 = path[0, i, r]
                p1 = path[1, i, r] if nk > 1 else none
                p2 = path[2, i, r] if nk > 2 else none
                p3 = path[3, i, r] if nk > 3 else none
                _add_node(
                    p0, p1, p2, p3, mu[q, 0], mu[q, 1], mu[q, 2], mu[q, 3], more, weight[q], weight2[q], s, v
                )
            for c in range(nc):
                signal[i, r, c] = gain[r, c] * s[c]
                second[i, r, c] = gain[r, c] * v[c]


@njit(cache=True, parallel=True)
def add_object(path, mu, weight, weight2, ray, chord, chord_mu, signal, second):
    """Put one more object on the listed rays: scale their results by what it transmits.

    Parameters
    ----------
    path, mu, weight, weight2
        As for :func:`polychromatic`; the nodes may be others than those of the results.
    ray : int64 array (n,)
        Flat indices into (view, row, channel), each once.
    chord : float32 array (n,)
        Length in the object [cm].
    chord_mu : float32 array (n_node,)
        Its attenuation, or the difference to what it replaces [1/cm].
    signal, second : float32 arrays (n_view, n_row, n_channel), changed
    """
    nk, _, nr, nc = path.shape
    for n in prange(ray.size):
        c = ray[n] % nc
        r = ray[n] // nc % nr
        i = ray[n] // (nc * nr)
        before, after, before2, after2 = _ZERO, _ZERO, _ZERO, _ZERO
        for q in range(mu.shape[0]):
            x = _ZERO
            for k in range(nk):
                x += path[k, i, r, c] * mu[q, k]
            y = exp32(-x)
            z = exp32(-x - chord[n] * chord_mu[q])
            before += weight[q, c] * y
            after += weight[q, c] * z
            before2 += weight2[q, c] * y
            after2 += weight2[q, c] * z
        signal[i, r, c] *= after / before
        second[i, r, c] *= after2 / before2


@njit(cache=True)
def _poisson(mean, u):
    """Poisson number by inversion; for means up to some hundred."""
    n = 0
    term = math.exp(-mean)
    total = term
    while u > total and n < 1000:
        n += 1
        term *= mean / n
        total += term
    return n


@njit(cache=True)
def _words(ray, realisation, k0, k1):
    """The four random words of a ray, so that its noise does not depend on which other rays are drawn."""
    return philox4x32(ray & _LOW32, ray >> _SHIFT, realisation & _LOW32, realisation >> _SHIFT, k0, k1)


@njit(cache=True)
def _few_quanta(mean, quantum, electronic, ray, realisation, k0, k1):
    """Reading of few quanta: a Poisson number scaled to the mean and variance, and electronic noise."""
    a, b, c, d = _words(ray, realisation, k0, k1)
    normal = math.sqrt(_MINUS_TWO * log32((np.float32(a) + _HALF) * _TO_UNIT))
    normal *= cosine_of_turns((np.float32(b) + _HALF) * _TO_UNIT)
    if mean <= _ZERO or quantum <= _ZERO:
        return np.float32(electronic * normal)
    u = (np.float64(c >> np.uint64(11)) * 4294967296.0 + np.float64(d) + 0.5) * _TO_UNIT_53
    quanta = np.float64(mean) * mean / quantum
    return np.float32(_poisson(quanta, u) * (np.float64(quantum) / mean) + electronic * normal)


@njit(cache=True)
def _uniforms(first_ray, realisation, k0, k1, u, v):
    for c in range(u.size):
        a, b, _, _ = _words(first_ray + np.uint64(c), realisation, k0, k1)
        u[c] = (np.float32(np.int64(a)) + _HALF) * _TO_UNIT
        v[c] = (np.float32(np.int64(b)) + _HALF) * _TO_UNIT


@njit(cache=True, fastmath={"contract", "nsz"})
def _normals(u, v, normal):
    """Standard normal numbers from two uniform ones (Box and Muller)."""
    for c in range(u.size):
        radius = math.sqrt(max(_MINUS_TWO * log32(u[c]), _ZERO))
        normal[c] = radius * cosine_of_turns(v[c])


@njit(cache=True, fastmath={"contract", "nsz"})
def _gaussian_row(signal, second, mas, electronic, normal, value):
    """Readings with the mean and total variance; returns the smallest number of effective quanta."""
    fewest = np.float32(1e30)
    for c in range(signal.size):
        mean, quantum = mas * signal[c], mas * second[c]
        value[c] = mean + math.sqrt(quantum + electronic * electronic) * normal[c]
        fewest = min(fewest, mean * mean / max(quantum, _LEAST))
    return fewest


@njit(cache=True, fastmath={"contract", "nsz"})
def _horner(total, x, coefficient):
    for c in range(total.size):
        total[c] = total[c] * x[c] + coefficient[c]


@njit(cache=True, fastmath={"contract", "nsz"})
def _finish(raw, raw_max, x, value, slope):
    for c in range(raw.size):
        slope[c] = value[c] + x[c] * slope[c]
        value[c] = value[c] * x[c] * raw_max[c] + slope[c] * max(raw[c] - raw_max[c], _ZERO)


@njit(cache=True)
def correct_row(raw, polynomial, raw_max, x, value, slope):
    """Water-corrected projections of a row of raw ones, and their slopes.

    ``raw * sum_i c_i (raw/raw_max)**i`` with ``polynomial`` (n_power, n_channel); a straight line beyond
    ``raw_max``. Writes ``value`` and ``slope``; ``x`` is work space.
    """
    for c in range(raw.size):
        x[c] = min(raw[c] / raw_max[c], _ONE)
    value[:] = polynomial[-1]
    slope[:] = _ZERO
    for n in range(polynomial.shape[0] - 2, -1, -1):
        _horner(slope, x, value)
        _horner(value, x, polynomial[n])
    _finish(raw, raw_max, x, value, slope)


@njit(cache=True, fastmath={"contract", "nsz"})
def _logarithms(signal, second, air, mas, electronic, value, raw, raw_mean):
    """Logarithms against air of readings and of their means, above a tenth of a quantum or of the noise."""
    for c in range(signal.size):
        mean = mas * signal[c]
        floor = max(_TENTH * max(mas * second[c] / max(mean, _LEAST), electronic), _LEAST)
        log_air = log32(mas * air[c])
        raw[c] = log_air - log32(max(value[c], floor))
        raw_mean[c] = log_air - log32(max(mean, floor))


@njit(cache=True, fastmath={"contract", "nsz"})
def _propagate(signal, second, mas, electronic, slope, variance):
    for c in range(signal.size):
        mean, quantum = mas * signal[c], mas * second[c]
        floor = max(_TENTH * max(quantum / max(mean, _LEAST), electronic), _LEAST)
        relative = slope[c] / max(mean, floor)
        variance[c] = relative * relative * (quantum + electronic * electronic)


@njit(cache=True, parallel=True)
def readings_to_projections(
    signal, second, air, mas, electronic, noisy, realisation, k0, k1, polynomial, raw_max, row_lo, row_hi,
    projection, variance,
):  # fmt: skip
    """Draw readings, take the logarithm against air, correct for water beam hardening.

    Quantum noise has the mean ``mas * signal`` and variance ``mas * second``: Gaussian, or a scaled Poisson
    number below ``FEW_QUANTA`` effective quanta. ``variance`` is that of the projection by the delta method.
    Readings below a tenth of a mean quantum (or of the electronic noise, if greater) are raised to it before
    the logarithm. Rows that were not computed stay 0. All floats are float32; ``realisation``, ``k0`` and
    ``k1`` are uint64.
    """
    nv, nr, nc = signal.shape
    for i in prange(nv):
        work = np.zeros((8, nc), np.float32)
        normal, value, raw, raw_mean = work[0], work[1], work[2], work[3]
        x, slope, u1, u2 = work[4], work[5], work[6], work[7]
        for r in range(row_lo[i], row_hi[i]):
            s, v = signal[i, r], second[i, r]
            first = np.uint64((np.int64(i) * nr + r) * nc)
            if noisy:
                _uniforms(first, realisation, k0, k1, u1, u2)
                _normals(u1, u2, normal)
            fewest = _gaussian_row(s, v, mas, electronic, normal, value)
            if noisy and fewest < FEW_QUANTA:
                for c in range(nc):
                    mean, quantum = mas * s[c], mas * v[c]
                    if mean * mean < FEW_QUANTA * quantum or mean <= _ZERO:
                        ray = first + np.uint64(c)
                        value[c] = _few_quanta(mean, quantum, electronic, ray, realisation, k0, k1)
            _logarithms(s, v, air[r], mas, electronic, value, raw, raw_mean)
            correct_row(raw, polynomial, raw_max, x, projection[i, r], slope)
            correct_row(raw_mean, polynomial, raw_max, x, value, slope)
            _propagate(s, v, mas, electronic, slope, variance[i, r])
