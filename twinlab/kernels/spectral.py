"""Polychromatic signals of rays, and noisy readings of them.

Rays are independent; loops run along the channels of one detector row so that they vectorise. The exponential
is a polynomial in float32 (relative error 2e-7), five times faster than the library's inside a loop.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

from twinlab.kernels.philox import philox4x32

FEW_QUANTA = 50.0  # below this mean number of quanta a reading is drawn from a Poisson distribution

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)
_HIGHEST = np.float32(88.0)
_C2 = np.float32(0.5)
_C3 = np.float32(0.16666666)
_C4 = np.float32(0.041666519)
_C5 = np.float32(0.0083334519)
_C6 = np.float32(0.0013929413)
_ONE = np.float32(1.0)
_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_TO_UNIT = 2.0**-32


@intrinsic
def _float_of_bits(typingctx, bits):
    """Float32 with the bits of an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@njit(cache=True, fastmath={"contract", "nsz"})
def exp32(x):
    """Exponential of a float32 between -87 and 88 (clamped), without a branch."""
    x = min(max(x, _LOWEST), _HIGHEST)
    n = math.floor(x * _LOG2E + _C2)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = _C5 + r * _C6
    p = _C4 + r * p
    p = _C3 + r * p
    p = _C2 + r * p
    p = _ONE + r * (_ONE + r * p)
    return p * _float_of_bits(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))


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
                _add_node(p0, p1, p2, p3, mu[q, 0], mu[q, 1], mu[q, 2], mu[q, 3], more, weight[q], weight2[q], s, v)
            for c in range(nc):
                signal[i, r, c] = gain[r, c] * s[c]
                second[i, r, c] = gain[r, c] * v[c]


@njit(cache=True, parallel=True)
def polychromatic_listed(path, mu, weight, weight2, gain, ray, chord, chord_mu, signal, second):
    """As :func:`polychromatic` for the listed rays, with one more object on them.

    Parameters
    ----------
    ray : int64 array (n,)
        Flat indices into (view, row, channel).
    chord : float32 array (n,)
        Length in the object [cm].
    chord_mu : float32 array (n_node,)
        Its attenuation, or the difference to what it replaces [1/cm].
    """
    nk, nv, nr, nc = path.shape
    for n in prange(ray.size):
        c = ray[n] % nc
        r = ray[n] // nc % nr
        i = ray[n] // (nc * nr)
        s = np.float32(0.0)
        v = np.float32(0.0)
        for q in range(mu.shape[0]):
            x = chord[n] * chord_mu[q]
            for k in range(nk):
                x += path[k, i, r, c] * mu[q, k]
            y = exp32(-x)
            s += weight[q, c] * y
            v += weight2[q, c] * y
        signal[i, r, c] = gain[r, c] * s
        second[i, r, c] = gain[r, c] * v


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
def reading(mean, variance, electronic, ray, realisation, k0, k1):
    """One noisy reading of absorbed energy [keV].

    Quantum noise has the given mean and variance: Gaussian, or a scaled Poisson number when there are fewer
    than ``FEW_QUANTA`` effective quanta. Electronic noise is Gaussian. All numbers come from one Philox block
    of (seed, realisation, ray), so that a reading does not depend on which others are drawn.
    """
    word = np.uint64(ray)
    a, b, c, d = philox4x32(
        word & _LOW32, word >> _SHIFT, np.uint64(realisation) & _LOW32, np.uint64(realisation) >> _SHIFT, k0, k1
    )
    u, v = (a + 0.5) * _TO_UNIT, (b + 0.5) * _TO_UNIT
    radius = math.sqrt(-2.0 * math.log(u))
    angle = 2.0 * math.pi * v
    quanta = mean * mean / variance if variance > 0.0 else 0.0
    if quanta >= FEW_QUANTA:
        # One Gaussian for both: their sum is Gaussian
        return mean + math.sqrt(variance + electronic * electronic) * radius * math.cos(angle)
    noise = electronic * radius * math.cos(angle)
    if quanta <= 0.0:
        return noise
    w = ((c >> np.uint64(11)) * 4294967296.0 + d + 0.5) * 2.0**-53
    return _poisson(quanta, w) * (variance / mean) + noise


@njit(cache=True)
def corrected(raw, polynomial, raw_max):
    """Water-corrected projection of a raw one, and its slope; a straight line beyond ``raw_max``."""
    x = min(raw / raw_max, 1.0)
    value = 0.0
    slope = 0.0
    for n in range(polynomial.size - 1, -1, -1):
        slope = slope * x + value
        value = value * x + polynomial[n]
    slope = value + x * slope
    value = value * x * raw_max
    if raw > raw_max:
        value += slope * (raw - raw_max)
    return value, slope


@njit(cache=True, parallel=True)
def readings_to_projections(
    signal, second, air, mas, electronic, noisy, realisation, k0, k1, polynomial, raw_max, row_lo, row_hi,
    projection, variance,
):  # fmt: skip
    """Draw readings, take the logarithm against air, correct for water beam hardening.

    ``variance`` is that of the projection by the delta method. Readings below a tenth of a mean quantum (or of
    the electronic noise, if greater) are set to it before the logarithm. Rows that were not computed stay 0.
    """
    nv, nr, nc = signal.shape
    for i in prange(nv):
        for r in range(row_lo[i], row_hi[i]):
            for c in range(nc):
                mean = mas * signal[i, r, c]
                quantum = mas * second[i, r, c]
                value = mean
                if noisy:
                    ray = (np.int64(i) * nr + r) * nc + c
                    value = reading(mean, quantum, electronic, ray, realisation, k0, k1)
                floor = 0.1 * max(quantum / mean if mean > 0.0 else 0.0, electronic)
                reference = mas * air[r, c]
                p, _ = corrected(-math.log(max(value, floor, 1e-30) / reference), polynomial[c], raw_max[c])
                safe = max(mean, floor, 1e-30)
                _, slope = corrected(-math.log(safe / reference), polynomial[c], raw_max[c])
                projection[i, r, c] = p
                variance[i, r, c] = slope * slope * (quantum + electronic * electronic) / (safe * safe)
