"""Noisy readings of a detector, and their logarithms: what happens to each ray by itself.

Rays are independent; loops run along the channels of one detector row, in float32, so that they vectorise.
Random numbers belong to the ray's place in the whole scan, so that blocks of views may be read in any order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.elementary import cosine_of_turns, log32
from twinlab.kernels.philox import INLINE, philox4x32

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


# scalar functions that the CPU's rows and the threads of a CUDA device share
_SCALAR = {**INLINE, "fastmath": {"contract", "nsz"}}


@njit(**_SCALAR)
def unit(word):
    """Float32 in (0, 1] from a 32-bit word: a half step added, 24 bits kept."""
    return (np.float32(np.int64(word)) + _HALF) * _TO_UNIT


@njit(**_SCALAR)
def normal_of(u, v):
    """Standard normal number from two uniform ones (Box and Muller)."""
    return math.sqrt(max(_MINUS_TWO * log32(u), _ZERO)) * cosine_of_turns(v)


@njit(**_SCALAR)
def gaussian(mean, quantum, electronic, normal):
    """Reading of a mean and a total variance."""
    return mean + math.sqrt(quantum + electronic * electronic) * normal


@njit(**_SCALAR)
def few(mean, quantum):
    """Whether a reading is drawn quantum by quantum."""
    return mean * mean < FEW_QUANTA * quantum or mean <= _ZERO


@njit(**_SCALAR)
def least_reading(mean, quantum, electronic):
    """A tenth of a mean quantum, or of the electronic noise: what the logarithm takes at least."""
    return max(_TENTH * max(quantum / max(mean, _LEAST), electronic), _LEAST)


@njit(**_SCALAR)
def variance_of_logarithm(mean, quantum, electronic, slope):
    """Variance of a corrected logarithm about the mean reading, by the delta method."""
    relative = slope / max(mean, least_reading(mean, quantum, electronic))
    return relative * relative * (quantum + electronic * electronic)


@njit(**_SCALAR)
def extended(value, slope, x, raw, raw_max):
    """Corrected projection and its slope from a polynomial and its derivative at ``x = raw / raw_max``, 1 at most."""
    slope = value + x * slope
    return value * x * raw_max + slope * max(raw - raw_max, _ZERO), slope


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
def words(ray, realisation, k0, k1):
    """The four random words of a ray, so that its noise does not depend on which other rays are drawn."""
    return philox4x32(ray & _LOW32, ray >> _SHIFT, realisation & _LOW32, realisation >> _SHIFT, k0, k1)


@njit(cache=True)
def few_quanta(mean, quantum, electronic, ray, realisation, k0, k1):
    """Reading of few quanta: a Poisson number scaled to the mean and variance, and electronic noise."""
    a, b, c, d = words(ray, realisation, k0, k1)
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
        a, b, _, _ = words(first_ray + np.uint64(c), realisation, k0, k1)
        u[c], v[c] = unit(a), unit(b)


@njit(cache=True, fastmath={"contract", "nsz"})
def _normals(u, v, normal):
    for c in range(u.size):
        normal[c] = normal_of(u[c], v[c])


@njit(cache=True, fastmath={"contract", "nsz"})
def _gaussian_row(signal, second, mas, electronic, normal, value):
    """Readings with the mean and total variance; returns the smallest number of effective quanta."""
    fewest = np.float32(1e30)
    for c in range(signal.size):
        mean, quantum = mas * signal[c], mas * second[c]
        value[c] = gaussian(mean, quantum, electronic, normal[c])
        fewest = min(fewest, mean * mean / max(quantum, _LEAST))
    return fewest


@njit(cache=True, fastmath={"contract", "nsz"})
def _horner(total, x, coefficient):
    for c in range(total.size):
        total[c] = total[c] * x[c] + coefficient[c]


@njit(cache=True, fastmath={"contract", "nsz"})
def _finish(raw, raw_max, x, value, slope):
    for c in range(raw.size):
        value[c], slope[c] = extended(value[c], slope[c], x[c], raw[c], raw_max[c])


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
        floor = least_reading(mean, mas * second[c], electronic)
        log_air = log32(mas * air[c])
        raw[c] = log_air - log32(max(value[c], floor))
        raw_mean[c] = log_air - log32(max(mean, floor))


@njit(cache=True, fastmath={"contract", "nsz"})
def _propagate(signal, second, mas, electronic, slope, variance):
    for c in range(signal.size):
        mean, quantum = mas * signal[c], mas * second[c]
        variance[c] = variance_of_logarithm(mean, quantum, electronic, slope[c])


@njit(cache=True, parallel=True)
def draw_readings(
    signal, second, mas, electronic, noisy, first_view, realisation, k0, k1, row_lo, row_hi, reading
):
    """Readings with the mean ``mas * signal`` and variance ``mas * second + electronic**2``.

    Gaussian, or a scaled Poisson number and Gaussian electronic noise below ``FEW_QUANTA`` effective quanta.

    Parameters
    ----------
    signal, second : float32 arrays (n_view, n_row, n_channel)
    mas : float32 array (n_view,)
    electronic : float32
    noisy : bool
        False: expected readings.
    first_view : int
        Place of the first view in the whole scan, on which the random numbers depend.
    realisation, k0, k1 : uint64
    row_lo, row_hi : int arrays (n_view,)
        Rows to read; the others are not written.
    reading : float32 array (n_view, n_row, n_channel), written
    """
    nv, nr, nc = signal.shape
    for i in prange(nv):
        work = np.zeros((3, nc), np.float32)
        normal, u1, u2 = work[0], work[1], work[2]
        for r in range(row_lo[i], row_hi[i]):
            s, v, value = signal[i, r], second[i, r], reading[i, r]
            first = np.uint64((np.int64(first_view + i) * nr + r) * nc)
            if noisy:
                _uniforms(first, realisation, k0, k1, u1, u2)
                _normals(u1, u2, normal)
            fewest = _gaussian_row(s, v, mas[i], electronic, normal, value)
            if noisy and fewest < FEW_QUANTA:
                for c in range(nc):
                    mean, quantum = mas[i] * s[c], mas[i] * v[c]
                    if few(mean, quantum):
                        ray = first + np.uint64(c)
                        value[c] = few_quanta(mean, quantum, electronic, ray, realisation, k0, k1)


@njit(cache=True, parallel=True)
def take_logarithm(
    signal, second, air, mas, electronic, polynomial, raw_max, row_lo, row_hi, reading, projection, variance
):
    """Logarithm against air, corrected for water beam hardening, and its variance.

    ``variance`` is that of the projection by the delta method about the expected reading. Readings below a
    tenth of a mean quantum (or of the electronic noise, if greater) are raised to it before the logarithm.

    Parameters
    ----------
    signal, second : float32 arrays (n_view, n_row, n_channel)
        Expected reading and its quantum variance per mAs.
    air : float32 array (n_row, n_channel)
    mas : float32 array (n_view,)
    electronic : float32
    polynomial : float32 array (n_spectrum, n_power, n_channel)
        One for all rows, or one for each.
    raw_max : float32 array (n_spectrum, n_channel)
    row_lo, row_hi : int arrays (n_view,)
        Rows to take; the others are not written.
    reading : float32 array (n_view, n_row, n_channel)
    projection : float32 array (n_view, n_row, n_channel), written
        May be ``reading`` itself.
    variance : float32 array (n_view, n_row, n_channel), written
        Without views: left out.
    """
    nv, _, nc = signal.shape
    n_spectrum = polynomial.shape[0]
    wanted = variance.shape[0] == nv
    for i in prange(nv):
        work = np.zeros((5, nc), np.float32)
        value, raw, raw_mean, x, slope = work[0], work[1], work[2], work[3], work[4]
        for r in range(row_lo[i], row_hi[i]):
            s, v, p = signal[i, r], second[i, r], r % n_spectrum
            _logarithms(s, v, air[r], mas[i], electronic, reading[i, r], raw, raw_mean)
            correct_row(raw, polynomial[p], raw_max[p], x, projection[i, r], slope)
            if wanted:
                correct_row(raw_mean, polynomial[p], raw_max[p], x, value, slope)
                _propagate(s, v, mas[i], electronic, slope, variance[i, r])
