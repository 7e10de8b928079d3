"""Sampling of energies and scattering angles: scalar functions that CPU and GPU share.

All floats are float32 on purpose (a float64 literal would promote every expression); constants are
therefore named module globals. Logarithm and sine are polynomials of additions and products only, so that
every device, and plain Python, gives the same bits where it does not fuse the two. Angular tables that hold
for free electrons, whatever the material, are arrays of this module.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE, draw

ELECTRON_REST_KEV = 510.99895
KEV_ANGSTROM = 12.398419843  # hc
X_MAX = 12.5  # 1/angstrom; sin(theta/2)/lambda of 150 keV backward is 12.1
N_X = 1024  # nodes of S(x)
N_A = 1024  # nodes of the inverse of A(x^2) = int F^2 dx^2, even steps of (1 - A)^(1/4)
N_KN_ENERGY, N_KN = 61, 129  # nodes of the inverse Klein-Nishina distribution: energy, probability
_KN_STEP_KEV = 2.5

_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_MC2 = np.float32(ELECTRON_REST_KEV)
_TINY = np.float32(1e-12)
_INV_HC = np.float32(1.0 / KEV_ANGSTROM)
_X_SCALE = np.float32((N_X - 1) / X_MAX)
_NEXT = np.uint64(1)
_32 = np.uint64(32)
_I0 = np.int32(0)
_KN_PER_KEV = np.float32(1.0 / _KN_STEP_KEV)
_KN_LAST = np.int32(N_KN_ENERGY - 2)
_KN_SCALE = np.float32(N_KN - 1)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_23 = np.int32(23)
_PER_TURN = np.float32(0.5 / math.pi)
_LN2 = np.float32(math.log(2.0))
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    np.float32(v)
    for v in (-0.49999995, 0.3333366, -0.2500161, 0.19973106, -0.16575048, 0.1480646, -0.14257795, 0.09004202)
)
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(v)
    for v in (0.99999999, -19.7392045, 64.93911746, -85.45013953, 60.16763095, -25.96759925, 6.52865816)
)
_S0, _S1, _S2, _S3, _S4, _S5, _S6 = (
    np.float32(v)
    for v in (6.2831853, -41.34170041, 81.60513139, -76.70301535, 42.02592699, -14.89984667, 3.23813751)
)


@njit(**INLINE)
def free_path(u):
    """``-log(u)`` of a float32 in (0, 1): mean free paths to the next collision; relative error 2e-7."""
    bits = np.float32(u).view(np.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> _23
    r = np.int32(bits - (exponent << _23)).view(np.float32) - _ONE
    p = _L0 + r * (_L1 + r * (_L2 + r * (_L3 + r * (_L4 + r * (_L5 + r * (_L6 + r * _L7))))))
    return -(r + r * r * p + np.float32(exponent) * _LN2)


@njit(**INLINE)
def circle(turn):
    """Cosine and sine of ``2 pi turn`` for a float32 in (0, 1), of half a turn less; absolute error 5e-7."""
    t = turn - _HALF
    s = t * t
    cosine = _C0 + s * (_C1 + s * (_C2 + s * (_C3 + s * (_C4 + s * (_C5 + s * _C6)))))
    sine = _S0 + s * (_S1 + s * (_S2 + s * (_S3 + s * (_S4 + s * (_S5 + s * _S6)))))
    return cosine, t * sine


@njit(**INLINE)
def cosine_sine(angle):
    """Cosine and sine of a float32 angle in radians; absolute error 5e-7 and that of its whole turns."""
    turn = angle * _PER_TURN + _HALF
    turn -= np.float32(np.int32(turn))
    return circle(turn + _ONE if turn < _ZERO else turn)


@njit(**INLINE)
def linear(row, position):
    """Linear interpolation in a 1-D table at a position in units of nodes, clamped at the ends."""
    i = np.int32(position)
    last = np.int32(row.shape[0] - 2)
    i = min(max(i, np.int32(0)), last)
    f = position - np.float32(i)
    a = row[i]
    return a + f * (row[i + 1] - a)


@njit(**INLINE)
def alias_draw(probability, alias, word, v):
    """Index drawn from an alias table (see :func:`alias_table`).

    The index takes a whole 32-bit word: 23 bits would leave large tables uneven by a per cent.
    """
    i = np.int32((word * np.uint64(probability.shape[0])) >> _32)
    if v >= probability[i]:
        i = alias[i]
    return i


def _inverse_klein_nishina() -> np.ndarray:
    """Cosine at even steps of the cumulative Klein-Nishina distribution, (N_KN_ENERGY, N_KN) float32."""
    c = np.linspace(-1.0, 1.0, 8001)
    rows = []
    for energy in _KN_STEP_KEV * np.arange(N_KN_ENERGY):
        ratio = 1.0 / (1.0 + energy / ELECTRON_REST_KEV * (1.0 - c))
        density = ratio**2 * (ratio + 1.0 / ratio - (1.0 - c * c))
        whole = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
        rows.append(np.interp(np.linspace(0.0, 1.0, N_KN), whole / whole[-1], c))
    return np.array(rows, dtype=np.float32)


_INVERSE_KN = _inverse_klein_nishina()


@njit(**INLINE)
def free_cosine(energy, u):
    """Cosine of Klein-Nishina scattering from a uniform."""
    place = energy * _KN_PER_KEV
    node = min(np.int32(place), _KN_LAST)
    f = place - np.float32(node)
    place = u * _KN_SCALE
    j = np.int32(place)
    g = place - np.float32(j)
    a = _INVERSE_KN[node, j]
    a += g * (_INVERSE_KN[node, j + 1] - a)
    b = _INVERSE_KN[node + 1, j]
    b += g * (_INVERSE_KN[node + 1, j + 1] - b)
    return a + f * (b - a)


@njit(**INLINE)
def compton(energy, scatter, step, history, k0, k1):
    """Incoherent scattering, as :func:`incoherent` with uniforms of its own.

    Returns
    -------
    cosine, ratio, turn, step
        Cosine of the polar angle, E'/E, an unused uniform (for the azimuth), and the next free step.
    """
    a, b, c, _ = draw(step, history, k0, k1)
    cosine, ratio, step = incoherent(energy, scatter, a, b, step + _NEXT, history, k0, k1)
    return cosine, ratio, c, step


@njit(**INLINE)
def incoherent(energy, scatter, a, b, step, history, k0, k1):
    """Incoherent scattering: cosine and energy ratio from Klein-Nishina times S(x, Z).

    The angle of a free electron by inversion of a table (cosines err by less than 5e-5), accepted with
    S(x, Z) over its largest value at this energy. The energy ratio is that of an electron at rest.

    Parameters
    ----------
    energy : float32
        keV, of the photon.
    scatter : (N_X,) float32
        Incoherent scattering function of the material over x = sin(theta/2)/lambda up to ``X_MAX``;
        ascending, any scale.
    a, b : float32
        Unused uniforms.
    step, history, k0, k1 : uint64
        Stream of more random numbers, see :func:`twinlab.kernels.philox.draw`.

    Returns
    -------
    cosine, ratio, step
        Cosine of the polar angle, E'/E, and the next free step.

    References
    ----------
    Klein O, Nishina Y 1929, Z. Phys. 52:853; Hubbell J H et al. 1975, J. Phys. Chem. Ref. Data 4:471.
    """
    cosine, accepted = incoherent_angle(energy, scatter, a, b)
    while not accepted:
        a, b, _, _ = draw(step, history, k0, k1)
        step += _NEXT
        cosine, accepted = incoherent_angle(energy, scatter, a, b)
    return cosine, energy_ratio(energy, cosine), step


@njit(**INLINE)
def incoherent_angle(energy, scatter, a, b):
    """One try of :func:`incoherent`, without a loop: the cosine of a free electron, and whether it is accepted."""
    reach = energy * _INV_HC * _X_SCALE
    cosine = free_cosine(energy, a)
    accepted = b * linear(scatter, reach) < linear(scatter, reach * math.sqrt(_HALF * (_ONE - cosine)))
    return cosine, accepted


@njit(**INLINE)
def energy_ratio(energy, cosine):
    """E'/E of incoherent scattering by an electron at rest."""
    return _ONE / (_ONE + energy / _MC2 * (_ONE - cosine))


@njit(**INLINE)
def _transfer(inverse_area, area):
    """Squared momentum transfer at a value of its cumulative distribution, 1/angstrom^2."""
    rest = math.sqrt(math.sqrt(max(_ONE - area, _ZERO)))
    return linear(inverse_area, (_ONE - rest) * np.float32(N_A - 1))


@njit(**INLINE)
def rayleigh(energy, area_max, inverse_area, a, b, step, history, k0, k1):
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
        x^2 at even steps of 1 - (1 - A)^(1/4), 1/angstrom^2: dense in the tail of large angles.
    a, b : float32
        Unused uniforms.
    step, history, k0, k1 : uint64
        Stream of more random numbers.

    Returns
    -------
    cosine, step
        As :func:`incoherent`.

    References
    ----------
    Williamson J F, Morin R L 1983, Phys. Med. Biol. 28:57 (inversion of the form factor).
    """
    xe = energy * _INV_HC
    scale = _TWO / (xe * xe)
    cosine = max(_ONE - scale * _transfer(inverse_area, a * area_max), -_ONE)
    while _TWO * b >= _ONE + cosine * cosine:
        a, b, _, _ = draw(step, history, k0, k1)
        step += _NEXT
        cosine = max(_ONE - scale * _transfer(inverse_area, a * area_max), -_ONE)
    return cosine, step


@njit(**INLINE)
def rotate(u, v, w, cosine, turn):
    """Unit vector at a polar angle to (u, v, w), azimuth ``2 pi (turn - 1/2)``.

    References
    ----------
    Duff T et al. 2017, Building an orthonormal basis, revisited. JCGT 6(1).
    """
    sine = math.sqrt(max(_ONE - cosine * cosine, _ZERO))
    p, q = circle(turn)
    p *= sine
    q *= sine
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
