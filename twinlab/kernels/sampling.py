"""Sampling of energies and scattering angles: scalar functions that CPU and GPU share.

All floats are float32 on purpose (a float64 literal would promote every expression); constants are
therefore named module globals.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE, draw

ELECTRON_REST_KEV = 510.99895
KEV_ANGSTROM = 12.398419843  # hc
X_MAX = 12.5  # 1/angstrom; sin(theta/2)/lambda of 150 keV backward is 12.1
N_X = 1024  # nodes of S(x)
N_A = 1024  # nodes of the inverse of A(x^2) = int F^2 dx^2

_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_TWO_PI = np.float32(2.0 * math.pi)
_MC2 = np.float32(ELECTRON_REST_KEV)
_INV_HC = np.float32(1.0 / KEV_ANGSTROM)
_X_SCALE = np.float32((N_X - 1) / X_MAX)
_NEXT = np.uint64(1)
_32 = np.uint64(32)


@njit(**DEVICE)
def linear(row, position):
    """Linear interpolation in a 1-D table at a position in units of nodes, clamped at the ends."""
    i = np.int32(position)
    last = np.int32(row.shape[0] - 2)
    i = min(max(i, np.int32(0)), last)
    f = position - np.float32(i)
    a = row[i]
    return a + f * (row[i + 1] - a)


@njit(**DEVICE)
def alias_draw(probability, alias, word, v):
    """Index drawn from an alias table (see :func:`alias_table`).

    The index takes a whole 32-bit word: 23 bits would leave large tables uneven by a per cent.
    """
    i = np.int32((word * np.uint64(probability.shape[0])) >> _32)
    if v >= probability[i]:
        i = alias[i]
    return i


@njit(**DEVICE)
def _klein_nishina(k, cosine):
    """Klein-Nishina cross section per solid angle relative to forward, and the energy ratio E'/E."""
    inverse = _ONE + k * (_ONE - cosine)
    ratio = _ONE / inverse
    return _HALF * ratio * ratio * (ratio + inverse - (_ONE - cosine * cosine)), ratio


@njit(**DEVICE)
def compton(energy, scatter, step, history, k0, k1):
    """Incoherent scattering: cosine and energy ratio from Klein-Nishina times S(x, Z).

    Rejection from the isotropic distribution: below 150 keV the Klein-Nishina shape relative to its
    forward value has a mean above 0.4, so this is cheap, and it is exact. No Doppler broadening.

    Parameters
    ----------
    energy : float32
        keV, of the photon.
    scatter : (N_X,) float32
        Incoherent scattering function of the material over x = sin(theta/2)/lambda up to ``X_MAX``;
        ascending, any scale.
    step, history, k0, k1 : uint64
        Stream of random numbers, see :func:`twinlab.kernels.philox.draw`.

    Returns
    -------
    cosine, ratio, turn, step
        Cosine of the polar angle, E'/E, an unused uniform (for the azimuth), and the next free step.

    References
    ----------
    Klein O, Nishina Y 1929, Z. Phys. 52:853; Hubbell J H et al. 1975, J. Phys. Chem. Ref. Data 4:471.
    """
    k = energy / _MC2
    reach = energy * _INV_HC * _X_SCALE
    top = linear(scatter, reach)
    while True:
        a, b, c, d = draw(step, history, k0, k1)
        step += _NEXT
        cosine = _TWO * a - _ONE
        weight, ratio = _klein_nishina(k, cosine)
        if b * top < weight * linear(scatter, reach * math.sqrt(_HALF * (_ONE - cosine))):
            return cosine, ratio, c, step
        cosine = _TWO * c - _ONE
        weight, ratio = _klein_nishina(k, cosine)
        if d * top < weight * linear(scatter, reach * math.sqrt(_HALF * (_ONE - cosine))):
            a, _, _, _ = draw(step, history, k0, k1)
            return cosine, ratio, a, step + _NEXT


@njit(**DEVICE)
def rayleigh(energy, area_max, inverse_area, step, history, k0, k1):
    """Coherent scattering: cosine from F(x)^2 (1 + cos^2).

    x^2 is drawn from F^2 by inversion of its integral, cut at the largest x^2 of this energy; the
    Thomson factor by rejection.

    Parameters
    ----------
    energy : float32
        keV.
    area_max : float32
        A(x^2_max(energy)) relative to A(``X_MAX``^2).
    inverse_area : (N_A,) float32
        x^2 at even steps of A, 1/angstrom^2.
    step, history, k0, k1 : uint64
        Stream of random numbers.

    Returns
    -------
    cosine, turn, step
        As :func:`compton`.

    References
    ----------
    Williamson J F, Morin R L 1983, Phys. Med. Biol. 28:57 (inversion of the form factor).
    """
    xe = energy * _INV_HC
    scale = _TWO / (xe * xe)
    stretch = area_max * np.float32(N_A - 1)
    while True:
        a, b, c, d = draw(step, history, k0, k1)
        step += _NEXT
        cosine = max(_ONE - scale * linear(inverse_area, a * stretch), -_ONE)
        if _TWO * b < _ONE + cosine * cosine:
            return cosine, c, step
        cosine = max(_ONE - scale * linear(inverse_area, c * stretch), -_ONE)
        if _TWO * d < _ONE + cosine * cosine:
            a, _, _, _ = draw(step, history, k0, k1)
            return cosine, a, step + _NEXT


@njit(**DEVICE)
def rotate(u, v, w, cosine, turn):
    """Unit vector at a polar angle to (u, v, w), azimuth = 2 pi * turn.

    References
    ----------
    Duff T et al. 2017, Building an orthonormal basis, revisited. JCGT 6(1).
    """
    sine = math.sqrt(max(_ONE - cosine * cosine, _ZERO))
    phi = _TWO_PI * turn
    p = sine * math.cos(phi)
    q = sine * math.sin(phi)
    sign = math.copysign(_ONE, w)
    a = -_ONE / (sign + w)
    b = u * v * a
    nu = p * (_ONE + sign * u * u * a) + q * b + cosine * u
    nv = p * sign * b + q * (sign + v * v * a) + cosine * v
    nw = -p * sign * u - q * v + cosine * w
    norm = _ONE / math.sqrt(nu * nu + nv * nv + nw * nw)
    return nu * norm, nv * norm, nw * norm


def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alias table of a discrete distribution: drawing costs two uniforms whatever its size.

    Parameters
    ----------
    weights : (n,) array
        Not negative, not all zero; any scale.

    Returns
    -------
    probability : (n,) float32
        Chance to keep the first index drawn.
    alias : (n,) int32
        Index taken otherwise.

    Raises
    ------
    ValueError
        Weights negative, not finite or all zero.

    References
    ----------
    Vose M D 1991, IEEE Trans. Softw. Eng. 17:972.
    """
    weights = np.asarray(weights, dtype=np.float64).ravel()
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise ValueError("alias_table: expected finite weights >= 0 with a positive sum")
    scaled = weights * (weights.size / weights.sum())
    probability = np.ones(weights.size)
    alias = np.arange(weights.size)
    small = [i for i in range(weights.size) if scaled[i] < 1.0]
    large = [i for i in range(weights.size) if scaled[i] >= 1.0]
    while small and large:
        low, high = small.pop(), large[-1]
        probability[low], alias[low] = scaled[low], high
        scaled[high] -= 1.0 - scaled[low]
        if scaled[high] < 1.0:
            small.append(large.pop())
    return probability.astype(np.float32), alias.astype(np.int32)
