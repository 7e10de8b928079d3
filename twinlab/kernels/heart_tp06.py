"""Ventricular cell of ten Tusscher and Panfilov 2006: one time step of one cell, and its look-up tables.

Gates advance by Rush and Larsen's exponential step, concentrations and potential by Euler's. All that depends
on the potential alone stands in a table of the potential, interpolated linearly; the inward rectifier stands in
a table of the potential above that of potassium. :func:`step` is shared by the processor and CUDA.

References
----------
ten Tusscher K H W J, Panfilov A V 2006, Am. J. Physiol. Heart Circ. Physiol. 291, H1088 (equations and
parameters: appendix; the calcium release of 2006 with its reduced Markov model).
ten Tusscher K H W J, Noble D, Noble P J, Panfilov A V 2004, Am. J. Physiol. 286, H1573 (gates kept from 2004).
Rush S, Larsen H 1978, IEEE Trans. Biomed. Eng. 25, 389.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE

# rows of the state of a cell (the potential is kept apart)
M, H, J, XR1, XR2, XS, R, S, D, F_GATE, F2, FCASS, CAI, CASR, CASS, RPRIME, NAI, KI = range(18)
STATES = (
    "m",
    "h",
    "j",
    "xr1",
    "xr2",
    "xs",
    "r",
    "s",
    "d",
    "f",
    "f2",
    "fcass",
    "cai",
    "casr",
    "cass",
    "rprime",
)
STATES += ("nai", "ki")  # type: ignore[assignment]
GATES = 11  # the first so many states follow the potential alone
CAL_A, CAL_B, NACA_A, NACA_B, NAK, PK = range(2 * GATES, 2 * GATES + 6)
COLUMNS = 2 * GATES + 6
LOWEST_MV, HIGHEST_MV = -120.0, 120.0

# parameters of a kind of cell: conductances (nS/pF) of the transient outward and slow delayed rectifier current
G_TO, G_KS = 0, 1
PARAMETERS = np.array([[0.294, 0.392], [0.073, 0.392], [0.294, 0.098]])  # epicardium, endocardium, middle

# initial state of the authors' program, which the benchmark of Niederer et al. 2011 (table 3) uses too
REST_MV = -85.23
REST = np.array(
    [0.00172, 0.7444, 0.7045, 0.00621, 0.4712, 0.0095, 2.42e-8, 0.999998, 3.373e-5, 0.7888, 0.9755, 0.9953]
    + [0.000126, 3.64, 0.00036, 0.9073, 8.604, 136.89]
)

_R, _T, _F = 8314.472, 310.0, 96485.3415
_RTF = _R * _T / _F
_KO, _CAO, _NAO = 5.4, 2.0, 140.0
_CAPACITANCE, _VC, _VSR, _VSS = 0.185, 0.016404, 0.001094, 0.00005468
_CHARGE = _CAPACITANCE / (_VC * _F)  # mmol/l of a monovalent ion per ms and pA/pF
_CHARGE_SS = _CAPACITANCE / (2.0 * _VSS * _F)
_P_KNA = 0.03
_G_NA, _G_KR, _G_BNA, _G_BCA, _G_PCA, _G_PK, _G_K1 = 14.838, 0.153, 0.00029, 0.000592, 0.1238, 0.0146, 5.405
_K_PCA, _K_MNA, _K_MK, _P_NAK = 0.0005, 40.0, 1.0, 2.724
_G_CAL = 3.98e-5
_K_NACA, _K_MNAI, _K_MCA, _K_SAT, _ALPHA, _GAMMA = 1000.0, 87.5, 1.38, 0.1, 2.5, 0.35
_V_REL, _K1, _K2, _K3, _K4, _EC, _MAX_SR, _MIN_SR = 0.102, 0.15, 0.045, 0.060, 0.005, 1.5, 2.5, 1.0
_V_MAX_UP, _K_UP, _V_LEAK, _V_XFER = 0.006375, 0.00025, 0.00036, 0.0038
_BUF_C, _K_BUF_C, _BUF_SR, _K_BUF_SR, _BUF_SS, _K_BUF_SS = 0.2, 0.001, 10.0, 0.3, 0.4, 0.00025


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(x))


def _gates(v: np.ndarray, endocardium: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Steady state and time constant (ms) of the gates, in the order of the states."""
    sig, exp, low = _sigmoid, np.exp, v < -40.0
    cool = np.minimum(v, -40.0)  # keeps the unused branch from overflowing
    alpha_h = np.where(low, 0.057 * exp(-(cool + 80.0) / 6.8), 0.0)
    beta_h = np.where(
        low, 2.7 * exp(0.079 * cool) + 3.1e5 * exp(0.3485 * cool), 0.77 / 0.13 * sig((v + 10.66) / -11.1)
    )
    alpha_j = (-2.5428e4 * exp(0.2444 * cool) - 6.948e-6 * exp(-0.04391 * cool)) * (v + 37.78)
    alpha_j = np.where(low, alpha_j * sig(0.311 * (v + 79.23)), 0.0)
    beta_j = np.where(
        low,
        0.02424 * exp(-0.01052 * v) * sig(-0.1378 * (v + 40.14)),
        0.6 * exp(0.057 * v) * sig(-0.1 * (v + 32.0)),
    )
    h_inf = sig((v + 71.55) / 7.43) ** 2
    if endocardium:
        s = sig((v + 28.0) / 5.0), 1000.0 * exp(-((v + 67.0) ** 2) / 1000.0) + 8.0
    else:
        s = sig((v + 20.0) / 5.0), 85.0 * exp(-((v + 45.0) ** 2) / 320.0) + 5.0 * sig((v - 20.0) / 5.0) + 3.0
    return [
        (
            sig((-56.86 - v) / 9.03) ** 2,
            sig((-60.0 - v) / 5.0) * (0.1 * sig((v + 35.0) / 5.0) + 0.1 * sig((v - 50.0) / 200.0)),
        ),
        (h_inf, 1.0 / (alpha_h + beta_h)),
        (h_inf, 1.0 / (alpha_j + beta_j)),
        (sig((-26.0 - v) / 7.0), 450.0 * sig((-45.0 - v) / 10.0) * 6.0 * sig((v + 30.0) / 11.5)),
        (sig((v + 88.0) / 24.0), 3.0 * sig((-60.0 - v) / 20.0) * 1.12 * sig((v - 60.0) / 20.0)),
        (
            sig((-5.0 - v) / 14.0),
            1400.0 / np.sqrt(1.0 + exp((5.0 - v) / 6.0)) * sig((v - 35.0) / 15.0) + 80.0,
        ),
        (sig((20.0 - v) / 6.0), 9.5 * exp(-((v + 40.0) ** 2) / 1800.0) + 0.8),
        s,
        (
            sig((-8.0 - v) / 7.5),
            (1.4 * sig((-35.0 - v) / 13.0) + 0.25) * 1.4 * sig((v + 5.0) / 5.0) + sig((50.0 - v) / 20.0),
        ),
        (
            sig((v + 20.0) / 7.0),
            1102.5 * exp(-((v + 27.0) ** 2) / 225.0)
            + 200.0 * sig((13.0 - v) / 10.0)
            + 180.0 * sig((v + 30.0) / 10.0)
            + 20.0,
        ),
        (
            0.67 * sig((v + 35.0) / 7.0) + 0.33,
            562.0 * exp(-((v + 27.0) ** 2) / 240.0)
            + 31.0 * sig((25.0 - v) / 10.0)
            + 80.0 * sig((v + 30.0) / 10.0),
        ),
    ]


def tables(dt_ms: float, step_mv: float) -> tuple[np.ndarray, np.ndarray]:
    """Look-up tables for one time step.

    Parameters
    ----------
    dt_ms : float
        Time step.
    step_mv : float
        Step of the potential.

    Returns
    -------
    potential : ndarray (kind 3, row, column) float64
        ``(1 - b) * steady state`` and ``b = exp(-dt / tau)`` of each gate, then what currents need.
    rectifier : ndarray (row,) float64
        Inward rectifier current in pA/pF, by the potential above that of potassium, from ``LOWEST_MV`` on.
    """
    rows = round((HIGHEST_MV - LOWEST_MV) / step_mv) + 1
    v = LOWEST_MV + step_mv * np.arange(rows)
    potential = np.zeros((3, rows, COLUMNS))
    for kind in range(3):
        for k, (steady, tau) in enumerate(_gates(v, endocardium=kind == 1)):
            b = np.exp(-dt_ms / tau)
            potential[kind, :, 2 * k] = (1.0 - b) * steady
            potential[kind, :, 2 * k + 1] = b
    z = 2.0 * (v - 15.0) / _RTF
    ratio = np.where(np.abs(z) < 1e-9, 1.0, z / np.where(np.abs(z) < 1e-9, 1.0, np.expm1(z)))
    potential[:, :, CAL_A] = _G_CAL * 2.0 * _F * ratio * 0.25 * np.exp(z)
    potential[:, :, CAL_B] = _G_CAL * 2.0 * _F * ratio * _CAO
    ahead, back = np.exp(_GAMMA * v / _RTF), np.exp((_GAMMA - 1.0) * v / _RTF)
    below = (_K_MNAI**3 + _NAO**3) * (_K_MCA + _CAO) * (1.0 + _K_SAT * back)
    potential[:, :, NACA_A] = _K_NACA * ahead * _CAO / below
    potential[:, :, NACA_B] = _K_NACA * back * _NAO**3 * _ALPHA / below
    potential[:, :, NAK] = (
        _P_NAK * _KO / (_KO + _K_MK) / (1.0 + 0.1245 * np.exp(-0.1 * v / _RTF) + 0.0353 * np.exp(-v / _RTF))
    )
    potential[:, :, PK] = _G_PK * _sigmoid((25.0 - v) / 5.98)
    u = LOWEST_MV + step_mv * np.arange(round((2.0 * HIGHEST_MV - LOWEST_MV) / step_mv) + 1)
    alpha = 0.1 * _sigmoid(0.06 * (u - 200.0))
    beta = (3.0 * np.exp(0.0002 * (u + 100.0)) + np.exp(0.1 * (u - 10.0))) * _sigmoid(-0.5 * u)
    return potential, _G_K1 * alpha / (alpha + beta) * u


@njit(**DEVICE, fastmath={"contract", "nsz", "arcp"})
def step(i, v, y, dt, inject, potential, rectifier, per_mv, parameters):
    """Advance one cell by a time step.

    Parameters
    ----------
    i : int
        Column of the cell in ``y``.
    v : float
        Potential, mV.
    y : ndarray (state, cell) float64
        Changed in place.
    dt : float
        Time step, ms: that of the tables.
    inject : float
        Stimulus that potassium carries into the cell, mV/ms.
    potential : ndarray (row, column) float64
        Table of the cell's kind (see :func:`tables`).
    rectifier : ndarray (row,) float64
    per_mv : float
        Rows per mV.
    parameters : ndarray (2,) float64
        Of the cell's kind, a row of :data:`PARAMETERS`.

    Returns
    -------
    float
        Potential after the step, mV.
    """
    place = min(max((v - LOWEST_MV) * per_mv, 0.0), potential.shape[0] - 1.0001)
    row = int(place)
    w = place - row
    low = potential[row]
    high = potential[row + 1]
    cai, casr, cass, nai, ki = y[CAI, i], y[CASR, i], y[CASS, i], y[NAI, i], y[KI, i]
    e_k = _RTF * math.log(_KO / ki)
    e_na = _RTF * math.log(_NAO / nai)
    e_ks = _RTF * math.log((_KO + _P_KNA * _NAO) / (ki + _P_KNA * nai))
    e_ca = 0.5 * _RTF * math.log(_CAO / cai)
    above = min(max((v - e_k - LOWEST_MV) * per_mv, 0.0), rectifier.shape[0] - 1.0001)
    k = int(above)
    i_k1 = rectifier[k] + (above - k) * (rectifier[k + 1] - rectifier[k])
    m = y[M, i]
    i_na = _G_NA * m * m * m * y[H, i] * y[J, i] * (v - e_na)
    i_bna = _G_BNA * (v - e_na)
    i_kr = _G_KR * y[XR1, i] * y[XR2, i] * (v - e_k)
    i_ks = parameters[G_KS] * y[XS, i] * y[XS, i] * (v - e_ks)
    i_to = parameters[G_TO] * y[R, i] * y[S, i] * (v - e_k)
    i_pk = (low[PK] + w * (high[PK] - low[PK])) * (v - e_k)
    open_cal = y[D, i] * y[F_GATE, i] * y[F2, i] * y[FCASS, i]
    i_cal = open_cal * (
        (low[CAL_A] + w * (high[CAL_A] - low[CAL_A])) * cass - (low[CAL_B] + w * (high[CAL_B] - low[CAL_B]))
    )
    i_nak = (low[NAK] + w * (high[NAK] - low[NAK])) * nai / (nai + _K_MNA)
    i_naca = (low[NACA_A] + w * (high[NACA_A] - low[NACA_A])) * nai * nai * nai - (
        low[NACA_B] + w * (high[NACA_B] - low[NACA_B])
    ) * cai
    i_pca = _G_PCA * cai / (cai + _K_PCA)
    i_bca = _G_BCA * (v - e_ca)
    # calcium
    ratio = _EC / casr
    kcasr = _MAX_SR - (_MAX_SR - _MIN_SR) / (1.0 + ratio * ratio)
    opened = _K1 / kcasr * cass * cass
    release = _V_REL * opened * y[RPRIME, i] / (_K3 + opened) * (casr - cass)
    uptake = _V_MAX_UP * cai * cai / (cai * cai + _K_UP * _K_UP)
    leak = _V_LEAK * (casr - cai)
    transfer = _V_XFER * (cass - cai)
    y[RPRIME, i] += dt * (_K4 * (1.0 - y[RPRIME, i]) - _K2 * kcasr * cass * y[RPRIME, i])
    free = (cai + _K_BUF_C) * (cai + _K_BUF_C)
    y[CAI, i] = cai + dt * free / (free + _BUF_C * _K_BUF_C) * (
        (leak - uptake) * (_VSR / _VC) + transfer - 0.5 * _CHARGE * (i_bca + i_pca - 2.0 * i_naca)
    )
    free = (casr + _K_BUF_SR) * (casr + _K_BUF_SR)
    y[CASR, i] = casr + dt * free / (free + _BUF_SR * _K_BUF_SR) * (uptake - release - leak)
    free = (cass + _K_BUF_SS) * (cass + _K_BUF_SS)
    y[CASS, i] = cass + dt * free / (free + _BUF_SS * _K_BUF_SS) * (
        release * (_VSR / _VSS) - transfer * (_VC / _VSS) - _CHARGE_SS * i_cal
    )
    y[NAI, i] = nai - dt * _CHARGE * (i_na + i_bna + 3.0 * (i_nak + i_naca))
    y[KI, i] = ki - dt * _CHARGE * (i_k1 + i_to + i_kr + i_ks + i_pk - 2.0 * i_nak - inject)
    # gates; the one of subspace calcium by the Pade form of its exponential (error below (dt/tau)^3/12)
    x = 1.0 / (1.0 + cass * cass * 400.0)
    half = 0.5 * dt / (80.0 * x + 2.0)
    y[FCASS, i] = ((1.0 - half) * y[FCASS, i] + 2.0 * half * (0.6 * x + 0.4)) / (1.0 + half)
    for g in range(GATES):
        a, b = low[2 * g], low[2 * g + 1]
        a += w * (high[2 * g] - a)
        b += w * (high[2 * g + 1] - b)
        y[g, i] = a + b * y[g, i]
    total = i_na + i_bna + i_k1 + i_to + i_kr + i_ks + i_pk + i_cal + i_nak + i_naca + i_pca + i_bca
    return v + dt * (inject - total)
