"""Reference for the tests: equations of ten Tusscher and Panfilov 2006 as published, and a cable of such cells.

No tables, no splitting, no element: membrane equations in double precision, second differences in space, and
LSODA (variable order, error control) on all unknowns at once. Nothing of the package is used.

References
----------
ten Tusscher K H W J, Panfilov A V 2006, Am. J. Physiol. Heart Circ. Physiol. 291, H1088, appendix (epicardium).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.integrate import LSODA

# v, m, h, j, xr1, xr2, xs, r, s, d, f, f2, fcass, cai, casr, cass, r', nai, ki
START = np.array(
    [-85.23, 0.00172, 0.7444, 0.7045, 0.00621, 0.4712, 0.0095, 2.42e-8, 0.999998, 3.373e-5, 0.7888, 0.9755]
    + [0.9953, 0.000126, 3.64, 0.00036, 0.9073, 8.604, 136.89]
)
R, T, F = 8314.472, 310.0, 96485.3415
KO, NAO, CAO = 5.4, 140.0, 2.0
CM, VC, VSR, VSS = 0.185, 0.016404, 0.001094, 0.00005468
COLUMNS = len(START)


def gates(v, cass):
    """Steady state and time constant (ms) of m, h, j, xr1, xr2, xs, r, s, d, f, f2, fcass."""
    e = np.exp
    low = v < -40.0
    vl, vh = np.minimum(v, -40.0), np.maximum(v, -40.0)  # each branch on its own side
    tau_m = 1 / (1 + e((-60 - v) / 5)) * (0.1 / (1 + e((v + 35) / 5)) + 0.1 / (1 + e((v - 50) / 200)))
    a_h = np.where(low, 0.057 * e(-(vl + 80) / 6.8), 0.0)
    b_h = np.where(
        low, 2.7 * e(0.079 * vl) + 3.1e5 * e(0.3485 * vl), 0.77 / (0.13 * (1 + e(-(vh + 10.66) / 11.1)))
    )
    a_j = (-2.5428e4 * e(0.2444 * vl) - 6.948e-6 * e(-0.04391 * vl)) * (vl + 37.78)
    a_j = np.where(low, a_j / (1 + e(0.311 * (vl + 79.23))), 0.0)
    b_j = np.where(
        low,
        0.02424 * e(-0.01052 * vl) / (1 + e(-0.1378 * (vl + 40.14))),
        0.6 * e(0.057 * vh) / (1 + e(-0.1 * (vh + 32))),
    )
    hj = 1 / (1 + e((v + 71.55) / 7.43)) ** 2
    tau_d = (1.4 / (1 + e((-35 - v) / 13)) + 0.25) * 1.4 / (1 + e((v + 5) / 5)) + 1 / (1 + e((50 - v) / 20))
    tau_f = (
        1102.5 * e(-((v + 27) ** 2) / 225) + 200 / (1 + e((13 - v) / 10)) + 180 / (1 + e((v + 30) / 10)) + 20
    )
    tau_f2 = 562 * e(-((v + 27) ** 2) / 240) + 31 / (1 + e((25 - v) / 10)) + 80 / (1 + e((v + 30) / 10))
    sub = 1 / (1 + (cass / 0.05) ** 2)
    return [
        (1 / (1 + e((-56.86 - v) / 9.03)) ** 2, tau_m),
        (hj, 1 / (a_h + b_h)),
        (hj, 1 / (a_j + b_j)),
        (1 / (1 + e((-26 - v) / 7)), 450 / (1 + e((-45 - v) / 10)) * 6 / (1 + e((v + 30) / 11.5))),
        (1 / (1 + e((v + 88) / 24)), 3 / (1 + e((-60 - v) / 20)) * 1.12 / (1 + e((v - 60) / 20))),
        (1 / (1 + e((-5 - v) / 14)), 1400 / np.sqrt(1 + e((5 - v) / 6)) / (1 + e((v - 35) / 15)) + 80),
        (1 / (1 + e((20 - v) / 6)), 9.5 * e(-((v + 40) ** 2) / 1800) + 0.8),
        (1 / (1 + e((v + 20) / 5)), 85 * e(-((v + 45) ** 2) / 320) + 5 / (1 + e((v - 20) / 5)) + 3),
        (1 / (1 + e((-8 - v) / 7.5)), tau_d),
        (1 / (1 + e((v + 20) / 7)), tau_f),
        (0.67 / (1 + e((v + 35) / 7)) + 0.33, tau_f2),
        (0.6 * sub + 0.4, 80 * sub + 2),
    ]


def currents(y):
    """Currents by name, pA/pF."""
    v, m, h, j, xr1, xr2, xs, r, s, d, f, f2, fcass, cai, _, cass, _, nai, ki = y
    e, rtf = np.exp, R * T / F
    e_na, e_k, e_ca = rtf * np.log(NAO / nai), rtf * np.log(KO / ki), 0.5 * rtf * np.log(CAO / cai)
    e_ks = rtf * np.log((KO + 0.03 * NAO) / (ki + 0.03 * nai))
    a_k1 = 0.1 / (1 + e(0.06 * (v - e_k - 200)))
    b_k1 = (3 * e(0.0002 * (v - e_k + 100)) + e(0.1 * (v - e_k - 10))) / (1 + e(-0.5 * (v - e_k)))
    w = (v - 15) / rtf
    w = np.where(np.abs(w) < 1e-7, 1e-7, w)
    q = v / rtf
    return {
        "na": 14.838 * m**3 * h * j * (v - e_na),
        "k1": 5.405 * a_k1 / (a_k1 + b_k1) * (v - e_k),
        "to": 0.294 * r * s * (v - e_k),
        "kr": 0.153 * xr1 * xr2 * (v - e_k),
        "ks": 0.392 * xs**2 * (v - e_ks),
        "cal": 3.98e-5 * d * f * f2 * fcass * 4 * w * F * (0.25 * cass * e(2 * w) - CAO) / (e(2 * w) - 1),
        "naca": 1000
        * (e(0.35 * q) * nai**3 * CAO - e(-0.65 * q) * NAO**3 * cai * 2.5)
        / ((87.5**3 + NAO**3) * (1.38 + CAO) * (1 + 0.1 * e(-0.65 * q))),
        "nak": 2.724 * KO * nai / ((KO + 1) * (nai + 40) * (1 + 0.1245 * e(-0.1 * q) + 0.0353 * e(-q))),
        "pca": 0.1238 * cai / (0.0005 + cai),
        "pk": 0.0146 * (v - e_k) / (1 + e((25 - v) / 5.98)),
        "bna": 0.00029 * (v - e_na),
        "bca": 0.000592 * (v - e_ca),
    }


def rates(y):
    """Time derivative of all unknowns, ``y`` (unknown, cell), per ms."""
    i = currents(y)
    out = np.empty_like(y)
    out[0] = -sum(i.values())
    for k, (steady, tau) in enumerate(gates(y[0], y[15]), start=1):
        out[k] = (steady - y[k]) / tau
    cai, casr, cass, rest = y[13:17]
    up = 0.006375 / (1 + (0.00025 / cai) ** 2)
    leak, transfer = 0.00036 * (casr - cai), 0.0038 * (cass - cai)
    k_casr = 2.5 - 1.5 / (1 + (1.5 / casr) ** 2)
    k1, k2 = 0.15 / k_casr, 0.045 * k_casr
    release = 0.102 * k1 * cass**2 * rest / (0.06 + k1 * cass**2) * (casr - cass)
    out[13] = (leak - up) * VSR / VC + transfer - (i["bca"] + i["pca"] - 2 * i["naca"]) * CM / (2 * VC * F)
    out[13] /= 1 + 0.2 * 0.001 / (cai + 0.001) ** 2
    out[14] = (up - release - leak) / (1 + 10 * 0.3 / (casr + 0.3) ** 2)
    out[15] = release * VSR / VSS - transfer * VC / VSS - i["cal"] * CM / (2 * VSS * F)
    out[15] /= 1 + 0.4 * 0.00025 / (cass + 0.00025) ** 2
    out[16] = 0.005 * (1 - rest) - k2 * cass * rest
    out[17] = -(i["na"] + i["bna"] + 3 * i["nak"] + 3 * i["naca"]) * CM / (VC * F)
    out[18] = -(i["k1"] + i["to"] + i["kr"] + i["ks"] + i["pk"] - 2 * i["nak"]) * CM / (VC * F)
    return out


@cache
def cable_velocity(diffusivity, h_mm, length_mm, rtol=1e-6):
    """Velocity (mm/ms) of a wave along a cable, from 0.45 to 0.8 of its length, by second differences.

    One sixth of the cable (1.5 mm at most) is stimulated as in the N-version benchmark: 50 uA/mm3 for 2 ms.
    """
    n = round(length_mm / h_mm) + 1
    x = np.arange(n) * h_mm
    stimulus = 50.0 / (140.0 * 0.01) * (x <= min(1.5, length_mm / 6.0))

    def slope(t, z):
        y = z.reshape(n, COLUMNS).T
        out, v = rates(y), y[0]
        out[0, 1:-1] += diffusivity / h_mm**2 * (v[2:] - 2.0 * v[1:-1] + v[:-2])
        out[0, 0] += diffusivity / h_mm**2 * 2.0 * (v[1] - v[0])
        out[0, -1] += diffusivity / h_mm**2 * 2.0 * (v[-2] - v[-1])
        if t < 2.0:
            out[0] += stimulus
        return np.ascontiguousarray(out.T).ravel()

    absolute = np.tile(np.r_[1e-4, np.full(12, 1e-7), 1e-9, 1e-6, 1e-8, 1e-7, 1e-5, 1e-5], n)
    state, now, active = np.tile(START, n), 0.0, np.full(n, np.nan)
    for end, longest in ((2.0, 0.02), (400.0, 0.05)):  # the stimulus ends at a restart
        run = LSODA(
            slope,
            now,
            state,
            end,
            rtol=rtol,
            atol=absolute,
            lband=COLUMNS,
            uband=COLUMNS,
            max_step=longest,
        )
        while run.status == "running" and np.isnan(active).any():
            before, then = run.y[::COLUMNS].copy(), run.t
            run.step()
            v = run.y[::COLUMNS]
            new = (v >= 0.0) & np.isnan(active)
            active[new] = then + (run.t - then) * before[new] / (before[new] - v[new])
        state, now = run.y.copy(), run.t
    chosen = (x > 0.45 * length_mm) & (x < 0.8 * length_mm)
    return float(np.polyfit(active[chosen], x[chosen], 1)[0])


# diffusivity (mm2/ms) of the benchmark, harmonic means over chi Cm, then step and length (mm) of a cable
CABLES = {
    "along": (0.17 * 0.62 / (0.17 + 0.62) / 1.4, 0.1, 10.0),
    "across": (0.019 * 0.24 / (0.019 + 0.24) / 1.4, 0.05, 4.0),
}


def limit_velocity(direction):
    """Velocity along or across the fibre for a vanishing voxel: two steps, second order (Richardson)."""
    d, h, length = CABLES[direction]
    coarse, fine = (cable_velocity(d, step, length) for step in (h, 0.5 * h))
    return fine + (fine - coarse) / 3.0
