"""Ventricular cell of Bueno-Orovio, Cherry and Fenton 2008 (four variables): one time step of one cell.

The potential ``u`` is dimensionless in the paper; ``V = 85.7 u - 84`` mV. Gates advance by Rush and Larsen's
exponential step (table of the smooth functions of ``u``, thresholds as they are), the potential by Euler's.
:func:`step` is shared by the processor and CUDA.

References
----------
Bueno-Orovio A, Cherry E M, Fenton F H 2008, J. Theor. Biol. 253, 544 (equations 1 to 4, table 1).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE

STATES = ("v", "w", "s")
REST = np.array([1.0, 1.0, 0.0])
SCALE_MV, REST_MV = 85.7, -84.0
LOWEST_MV, HIGHEST_MV = -120.0, 120.0

(U_O, U_U, THETA_V, THETA_W, THETA_VM, THETA_O, TAU_V1, TAU_V2, TAU_VP, TAU_W1, TAU_W2, K_W, U_W, TAU_WP) = (
    range(14)
)
(TAU_FI, TAU_O1, TAU_O2, TAU_SO1, TAU_SO2, K_SO, U_SO, TAU_S1, TAU_S2, K_S, U_S, TAU_SI, TAU_WINF, W_INF) = (
    range(14, 28)
)
# table 1, its columns in the order above: epicardium, endocardium, middle
PARAMETERS = np.array(
    [
        [0, 1.55, 0.3, 0.13, 0.006, 0.006, 60, 1150, 1.4506, 60, 15, 65, 0.03, 200]
        + [0.11, 400, 6, 30.0181, 0.9957, 2.0458, 0.65, 2.7342, 16, 2.0994, 0.9087, 1.8875, 0.07, 0.94],
        [0, 1.56, 0.3, 0.13, 0.2, 0.006, 75, 10, 1.4506, 6, 140, 200, 0.016, 280]
        + [0.1, 470, 6, 40, 1.2, 2, 0.65, 2.7342, 2, 2.0994, 0.9087, 2.9013, 0.0273, 0.78],
        [0, 1.61, 0.3, 0.13, 0.1, 0.005, 80, 1.4506, 1.4506, 70, 8, 200, 0.016, 280]
        + [0.078, 410, 7, 91, 0.8, 2.1, 0.6, 2.7342, 4, 2.0994, 0.9087, 3.3849, 0.01, 0.5],
    ]
)

# columns of the table: 1/tau_so, steady state of s, decay of s below and above theta_w, decay of w below
SO, S_INF, S_LOW, S_HIGH, W_LOW = range(5)
COLUMNS = 5


def tables(dt_ms: float, step_mv: float) -> tuple[np.ndarray, np.ndarray]:
    """Look-up tables for one time step: (kind 3, row, column), and an array that other cells need."""
    rows = round((HIGHEST_MV - LOWEST_MV) / step_mv) + 1
    u = (LOWEST_MV + step_mv * np.arange(rows) - REST_MV) / SCALE_MV
    table = np.zeros((3, rows, COLUMNS))
    for kind, p in enumerate(PARAMETERS):
        tau_so = p[TAU_SO1] + (p[TAU_SO2] - p[TAU_SO1]) * (1.0 + np.tanh(p[K_SO] * (u - p[U_SO]))) / 2.0
        tau_w = p[TAU_W1] + (p[TAU_W2] - p[TAU_W1]) * (1.0 + np.tanh(p[K_W] * (u - p[U_W]))) / 2.0
        table[kind, :, SO] = 1.0 / tau_so
        table[kind, :, S_INF] = (1.0 + np.tanh(p[K_S] * (u - p[U_S]))) / 2.0
        table[kind, :, S_LOW] = np.exp(-dt_ms / p[TAU_S1])
        table[kind, :, S_HIGH] = np.exp(-dt_ms / p[TAU_S2])
        table[kind, :, W_LOW] = np.exp(-dt_ms / tau_w)
    return table, np.zeros(2)


@njit(**DEVICE, fastmath={"contract", "nsz", "arcp"})
def step(i, v_mv, y, dt, inject, table, _unused, per_mv, p):
    """Advance one cell by a time step; parameters and result as :func:`twinlab.kernels.heart_tp06.step`."""
    place = min(max((v_mv - LOWEST_MV) * per_mv, 0.0), table.shape[0] - 1.0001)
    row = int(place)
    f = place - row
    low = table[row]
    high = table[row + 1]
    u = (v_mv - REST_MV) / SCALE_MV
    v, w, s = y[0, i], y[1, i], y[2, i]
    fast = 0.0
    if u >= p[THETA_V]:
        fast = -v * (u - p[THETA_V]) * (p[U_U] - u) / p[TAU_FI]
        y[0, i] = v / (1.0 + dt / p[TAU_VP])
    else:
        tau, steady = p[TAU_V1], 1.0
        if u >= p[THETA_VM]:
            tau, steady = p[TAU_V2], 0.0
        y[0, i] = (v + dt / tau * steady) / (1.0 + dt / tau)
    s_inf = low[S_INF] + f * (high[S_INF] - low[S_INF])
    if u >= p[THETA_W]:
        slow_out = low[SO] + f * (high[SO] - low[SO])
        slow_in = -w * s / p[TAU_SI]
        y[1, i] = w / (1.0 + dt / p[TAU_WP])
        y[2, i] = s_inf + (s - s_inf) * low[S_HIGH]
    else:
        slow_in = 0.0
        if u >= p[THETA_O]:
            slow_out = (u - p[U_O]) / p[TAU_O2]
            w_inf = p[W_INF]
        else:
            slow_out = (u - p[U_O]) / p[TAU_O1]
            w_inf = 1.0 - u / p[TAU_WINF]
        decay = low[W_LOW] + f * (high[W_LOW] - low[W_LOW])
        y[1, i] = w_inf + (w - w_inf) * decay
        y[2, i] = s_inf + (s - s_inf) * low[S_LOW]
    return v_mv + dt * (inject - SCALE_MV * (fast + slow_out + slow_in))
