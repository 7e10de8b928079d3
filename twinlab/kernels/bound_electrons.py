"""Incoherent scattering by electrons that are bound and move: the impulse approximation, for CPU and GPU.

Angle and energy follow from the same Compton profiles: the angle from the share of the electrons that can be set free
at it, the energy from the momentum of one of them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE, draw
from twinlab.kernels.sampling import KEV_ANGSTROM, N_X, X_MAX, free_cosine, linear

N_P = 128  # nodes of the inverse of a shell's Compton profile
ROWS = 32  # steps of the energy grid between two rows of S
N_BOUND = 30  # rows of S
_TRIES = 32  # draws of a shell and a momentum

_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_TINY = np.float32(1e-12)
P_MOST = np.float32(0.2)  # mc: F is linear up to there and even beyond
_INV_HC = np.float32(1.0 / KEV_ANGSTROM)
_X_SCALE = np.float32((N_X - 1) / X_MAX)
_LAST_P = np.float32(N_P - 1)
_NEXT = np.uint64(1)
_I0 = np.int32(0)
_I1 = np.int32(1)
_ROW_BITS = np.int32(5)
_ROW_MASK = np.int32(ROWS - 1)
_PER_ROW = np.float32(1.0 / ROWS)


@njit(**INLINE)
def scatter_at(x, row, f, material, tables):
    """S of bound electrons at a momentum transfer (1/angstrom), any scale; ``row`` and ``f`` the energy's position."""
    node = row >> _ROW_BITS
    place = x * _X_SCALE
    low = linear(tables.bound_scatter[material, node], place)
    share = (np.float32(row & _ROW_MASK) + f) * _PER_ROW
    return low + share * (linear(tables.bound_scatter[material, node + _I1], place) - low)


@njit(**INLINE)
def bound_cosine(energy, row, f, material, tables, a, b, step, history, k0, k1):
    """Cosine of incoherent scattering: Klein-Nishina's, accepted with S of bound electrons.

    Parameters
    ----------
    energy : float32
        keV; ``row`` and ``f`` its position in the energy grid.
    material : int32
    tables : Tables
    a, b : float32
        Unused uniforms.
    step, history, k0, k1 : uint64
        Stream of more random numbers.

    Returns
    -------
    cosine, step

    References
    ----------
    Ribberfors R, Berggren K-F 1982, Phys. Rev. A 26:3325; Brusa D et al. 1996, Nucl. Instrum. Methods A 379:167.
    """
    reach = energy * _INV_HC
    most = scatter_at(reach, row, f, material, tables)
    cosine = free_cosine(energy, a)
    while b * most >= scatter_at(reach * math.sqrt(_HALF * (_ONE - cosine)), row, f, material, tables):
        a, b, _, _ = draw(step, history, k0, k1)
        step += _NEXT
        cosine = free_cosine(energy, a)
    return cosine, step


@njit(**INLINE)
def bound(energy, cosine, ratio, material, tables, step, history, k0, k1):
    """Energy ratio of incoherent scattering at an angle by a moving electron (Doppler broadening).

    A shell by its electrons, the electron's momentum along the momentum transfer from the shell's Compton
    profile, accepted with the factor by which such electrons scatter more; all drawn again while the photon could
    not pay the binding energy.

    Parameters
    ----------
    energy, cosine, ratio : float32
        keV; angle; E'/E of an electron at rest.
    material : int32
    tables : Tables
    step, history, k0, k1 : uint64
        Stream of random numbers.

    Returns
    -------
    ratio, step

    References
    ----------
    Ribberfors R 1975, Phys. Rev. B 12:2067; Brusa D et al. 1996, Nucl. Instrum. Methods A 379:167, eqs. 18 and 24.
    """
    shell = tables.shell
    # F(p) = 1 + slope p: electrons that move along the photon scatter it more often, and leave it more energy
    transfer = max(_ONE + ratio * (ratio - _TWO * cosine), _TINY)
    slope = math.sqrt(transfer) * (_ONE + ratio * (ratio - cosine) / transfer)
    most = _ONE + P_MOST * abs(slope)
    for _ in range(_TRIES):
        a, b, c, _ = draw(step, history, k0, k1)
        step += _NEXT
        k = _I0
        while k < shell.shape[1] - 1 and a >= shell[material, k, 0]:
            k += 1
        s = _TWO * b - _ONE
        p = linear(tables.momentum[material, k], abs(s) * _LAST_P)
        if c * most >= _ONE + slope * math.copysign(min(p, P_MOST), s):
            continue
        t = p * p
        x = _ONE - t * ratio * cosine
        y = _ONE - t * ratio * ratio
        root = math.sqrt(max(x * x - y * (_ONE - t), _ZERO))
        broad = ratio / y * (x + math.copysign(root, s))
        if broad >= _ZERO and energy * broad <= energy - shell[material, k, 1]:
            return broad, step
    return ratio, step  # an angle at which no electron would be set free
