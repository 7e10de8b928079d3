"""Stress and elasticity of hyperelastic muscle at one point, in the frame of its fibres.

All tensors have the axes fibre, sheet, sheet normal; symmetric ones are six numbers in the order ff, ss, nn,
fs, sn, fn, and the elasticity is the derivative of the second Piola-Kirchhoff stress with respect to Green's
strain with doubled shears. Laws see the distortion only (right Cauchy-Green tensor of determinant one;
Holzapfel 2000, section 6.4); the volume belongs to the pressure.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

NEO_HOOKEAN, GUCCIONE, HOLZAPFEL_OGDEN = 0, 1, 2
N_PARAMETERS = 8
ROW = np.array([0, 1, 2, 0, 1, 0])
COLUMN = np.array([0, 1, 2, 1, 2, 2])
_LARGEST = 500.0  # exponents beyond are a diverged iterate: infinite stress, which the line search refuses


@njit(cache=True, error_model="numpy")
def _exp(x):
    return math.exp(x) if x < _LARGEST else math.inf


@njit(cache=True, error_model="numpy")
def distortion_stress(law, par, c, s, d):
    """Stress ``s`` (6,) and elasticity ``d`` (6, 6) of a law as if the distortion were the deformation.

    Parameters
    ----------
    law : int
        NEO_HOOKEAN (mu), GUCCIONE (C, b_f, b_t, b_fs) or HOLZAPFEL_OGDEN (a, b, a_f, b_f, a_s, b_s, a_fs, b_fs).
    par : float array (8,)
        Stresses in kPa.
    c : float array (6,)
        Right Cauchy-Green tensor of the distortion.
    """
    d[:, :] = 0.0
    if law == GUCCIONE:
        e0, e1, e2 = 0.5 * (c[0] - 1.0), 0.5 * (c[1] - 1.0), 0.5 * (c[2] - 1.0)
        e3, e4, e5 = 0.5 * c[3], 0.5 * c[4], 0.5 * c[5]
        bf, bt, bs = par[1], par[2], par[3]
        q = bf * e0 * e0 + bt * (e1 * e1 + e2 * e2 + 2.0 * e4 * e4) + 2.0 * bs * (e3 * e3 + e5 * e5)
        w = par[0] * _exp(q)
        s[0], s[1], s[2], s[3], s[4], s[5] = bf * e0, bt * e1, bt * e2, bs * e3, bt * e4, bs * e5
        for i in range(6):
            for j in range(6):
                d[i, j] = 2.0 * w * s[i] * s[j]
        d[0, 0] += w * bf
        d[1, 1] += w * bt
        d[2, 2] += w * bt
        d[3, 3] += 0.5 * w * bs
        d[4, 4] += 0.5 * w * bt
        d[5, 5] += 0.5 * w * bs
        for i in range(6):
            s[i] *= w
    elif law == HOLZAPFEL_OGDEN:
        w = par[0] * _exp(par[1] * (c[0] + c[1] + c[2] - 3.0))
        for i in range(3):
            s[i] = w
            s[i + 3] = 0.0
            for j in range(3):
                d[i, j] = 2.0 * par[1] * w
        for i in range(2):  # fibre, then sheet: they carry tension only
            x, a, b = c[i] - 1.0, par[2 + 2 * i], par[3 + 2 * i]
            if x > 0.0:
                w = a * _exp(b * x * x)
                s[i] += 2.0 * w * x
                d[i, i] += 4.0 * w * (1.0 + 2.0 * b * x * x)
        w = par[6] * _exp(par[7] * c[3] * c[3])
        s[3] += w * c[3]
        d[3, 3] += w * (1.0 + 2.0 * par[7] * c[3] * c[3])
    else:
        for i in range(3):
            s[i] = par[0]
            s[i + 3] = 0.0


@njit(cache=True, error_model="numpy")
def add_active(tension, law, c, s, d):
    """Add the active second Piola-Kirchhoff stress (Land 2015, equation 2.4) to ``s`` and ``d``.

    ``law`` is (share across the fibre, steepness, stretch without tension): the tension is multiplied by
    ``max(tanh(steepness (stretch - stretch without tension)), 0)`` when the steepness is above zero (the
    length dependence of Niederer 2011).
    """
    if tension == 0.0:
        return
    share, steep, slack = law[0], law[1], law[2]
    length, slope = 1.0, 0.0
    if steep > 0.0:
        stretch = math.sqrt(c[0])
        length = math.tanh(steep * (stretch - slack))
        if length <= 0.0:
            return
        slope = steep * (1.0 - length * length) / stretch  # derivative with respect to Green's strain
    s[0] += tension * length
    d[0, 0] += tension * slope
    for i in range(1, 3):
        s[i] += share * tension * length
        d[i, 0] += share * tension * slope


@njit(cache=True, error_model="numpy")
def inverse(c, out):
    """Inverse ``out`` (6,) of a symmetric tensor; returns its determinant."""
    out[0] = c[1] * c[2] - c[4] * c[4]
    out[1] = c[0] * c[2] - c[5] * c[5]
    out[2] = c[0] * c[1] - c[3] * c[3]
    out[3] = c[4] * c[5] - c[3] * c[2]
    out[4] = c[3] * c[5] - c[0] * c[4]
    out[5] = c[3] * c[4] - c[1] * c[5]
    det = c[0] * out[0] + c[3] * out[3] + c[5] * out[5]
    for i in range(6):
        out[i] /= det
    return det


@njit(cache=True, error_model="numpy")
def muscle_stress(law, par, tension, active, p, stiff, c, j, s, d, work):
    """Stress and elasticity of muscle under a hydrostatic pressure field ``p`` (kPa, positive in tension).

    Parameters
    ----------
    stiff : float
        Derivative of ``p`` with respect to the volume ratio: the penalty, or 0 where ``p`` is an unknown.
    c, j
        Right Cauchy-Green tensor (6,) and volume ratio.
    s, d
        Results (6,) and (6, 6).
    work : float array (4, 6), overwritten; its first row is left as the inverse of ``c``
    """
    ci, cb, sb, dc = work[0], work[1], work[2], work[3]
    inverse(c, ci)
    g = j ** (-2.0 / 3.0)
    for i in range(6):
        cb[i] = g * c[i]
    distortion_stress(law, par, cb, sb, d)
    # deviator in the reference frame: Dev(A) = A - (A:C) C^-1 / 3
    trace = 0.0
    for i in range(6):
        trace += (1.0 if i < 3 else 2.0) * sb[i] * c[i]
    for i in range(6):
        s[i] = g * (sb[i] - trace * ci[i] / 3.0)
    # P : D : P^T with P = I - C^-1 (x) C / 3, so D : C first
    g2 = g * g
    for i in range(6):
        dc[i] = 0.0
        for k in range(6):
            dc[i] += d[i, k] * (c[k] if k < 3 else 2.0 * c[k])
    cdc = 0.0
    for i in range(6):
        cdc += (1.0 if i < 3 else 2.0) * c[i] * dc[i]
    cross = 2.0 / 3.0 * g * trace
    volume = j * (p + j * stiff)
    for i in range(6):
        for k in range(i, 6):
            ri, qi, rk, qk = ROW[i], COLUMN[i], ROW[k], COLUMN[k]
            sym = 0.5 * (_at(ci, ri, rk) * _at(ci, qi, qk) + _at(ci, ri, qk) * _at(ci, qi, rk))
            value = g2 * (d[i, k] - (ci[i] * dc[k] + dc[i] * ci[k]) / 3.0 + cdc * ci[i] * ci[k] / 9.0)
            value += cross * (sym - ci[i] * ci[k] / 3.0)
            value -= 2.0 / 3.0 * (ci[i] * s[k] + s[i] * ci[k])
            value += volume * ci[i] * ci[k] - 2.0 * j * p * sym
            d[i, k] = value
            d[k, i] = value
    for i in range(6):
        s[i] += j * p * ci[i]
    add_active(tension, active, c, s, d)


@njit(cache=True, error_model="numpy")
def _at(c, i, j):
    if i == j:
        return c[i]
    k = i + j  # 01 -> fs, 12 -> sn, 02 -> fn
    return c[3] if k == 1 else (c[4] if k == 3 else c[5])
