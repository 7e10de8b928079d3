"""One-dimensional pulse wave in an elastic vessel: finite volumes of order two for area and flow.

``dA/dt + dQ/dx = 0``, ``dQ/dt + d/dx (Q^2/A + beta A^(3/2) / (3 rho A0)) = -2 (zeta + 2) pi nu Q/A`` with
``p = p0 + beta/A0 (sqrt A - sqrt A0)``; SI units.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def _rates(area, flow, dx, beta, area0, rho, friction, left, right, da, dq):
    """Rates of all cells by the Rusanov flux on linear states; ``left``, ``right``: (area, flow) at the ends.

    Slopes are not limited: pulses are smooth.
    """
    n = area.size
    elastic = beta / (3.0 * rho * area0)
    before_a = before_q = 0.0
    for face in range(n + 1):
        if face == 0 or face == n:
            a, q = left if face == 0 else right
            flux_a, flux_q = q, q * q / a + elastic * a**1.5
        else:
            i, j = face - 1, face
            ai, qi, aj, qj = area[i], flow[i], area[j], flow[j]
            if i > 0:
                ai += 0.25 * (area[j] - area[i - 1])
                qi += 0.25 * (flow[j] - flow[i - 1])
            if j < n - 1:
                aj -= 0.25 * (area[j + 1] - area[i])
                qj -= 0.25 * (flow[j + 1] - flow[i])
            speed = max(
                abs(qi / ai) + math.sqrt(1.5 * elastic * math.sqrt(ai)),
                abs(qj / aj) + math.sqrt(1.5 * elastic * math.sqrt(aj)),
            )
            flux_a = 0.5 * (qi + qj) - 0.5 * speed * (aj - ai)
            flux_q = 0.5 * (
                qi * qi / ai + elastic * ai**1.5 + qj * qj / aj + elastic * aj**1.5
            ) - 0.5 * speed * (qj - qi)
        if face > 0:
            da[face - 1] = (before_a - flux_a) / dx
            dq[face - 1] = (before_q - flux_q) / dx - friction * flow[face - 1] / area[face - 1]
        before_a, before_q = flux_a, flux_q


@njit(cache=True)
def _speed(area, beta, area0, rho):
    return math.sqrt(0.5 * beta * math.sqrt(area) / (rho * area0))


@njit(cache=True)
def _inlet(area, flow, wanted, beta, area0, rho):
    """State at the inlet of a given flow: the backward characteristic from inside leaves through it (Newton)."""
    leaving = flow / area - 4.0 * _speed(area, beta, area0, rho)
    a = area
    for _ in range(20):
        c = _speed(a, beta, area0, rho)
        wrong = wanted / a - 4.0 * c - leaving
        a -= wrong / (-wanted / (a * a) - c / a)
        if abs(wrong) < 1e-12 * c:
            break
    return a, wanted


@njit(cache=True)
def _outlet(area, flow, pressure, resistance, beta, area0, rho, p0):
    """State at the outlet where ``p - pressure = resistance Q``; negative resistance: nothing comes back."""
    rest = 4.0 * _speed(area0, beta, area0, rho)
    going = flow / area + 4.0 * _speed(area, beta, area0, rho)
    if resistance < 0.0:
        # the incoming characteristic is that of rest: u - 4 c = -4 c0
        u = 0.5 * (going - rest)
        c = 0.125 * (going + rest)
        a = (2.0 * rho * area0 * c * c / beta) ** 2
        return a, u * a
    a = area
    for _ in range(30):
        c = _speed(a, beta, area0, rho)
        q = a * (going - 4.0 * c)
        wrong = p0 + beta / area0 * (math.sqrt(a) - math.sqrt(area0)) - pressure - resistance * q
        slope = 0.5 * beta / (area0 * math.sqrt(a)) - resistance * (going - 5.0 * c)
        step = wrong / slope
        a = max(0.2 * a, a - step)
        if abs(step) < 1e-13 * area0:
            break
    return a, a * (going - 4.0 * _speed(a, beta, area0, rho))


@njit(cache=True, nogil=True)
def run_wave(area, flow, dx, dt, steps, every, inflow, beta, area0, rho, friction, p0, load, out_a, out_q):
    """Steps of Heun's method; the state every so many steps.

    Parameters
    ----------
    area, flow : arrays (cell,)
        m2 and m3/s, moved on.
    inflow : array (2 * steps + 1,)
        m3/s at half steps.
    load : array (5,)
        Characteristic resistance (negative: no reflection), peripheral resistance, compliance, venous pressure and
        pressure over the compliance (moved on); SI.
    out_a, out_q : arrays (steps // every, cell)

    Returns
    -------
    bool
        False when the area left its range.
    """
    n = area.size
    a1, q1 = np.empty(n), np.empty(n)
    da, dq, ea, eq = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for step in range(steps):
        left = _inlet(
            1.5 * area[0] - 0.5 * area[1], 1.5 * flow[0] - 0.5 * flow[1], inflow[2 * step], beta, area0, rho
        )
        right = _outlet(
            1.5 * area[n - 1] - 0.5 * area[n - 2],
            1.5 * flow[n - 1] - 0.5 * flow[n - 2],
            load[4],
            load[0],
            beta,
            area0,
            rho,
            p0,
        )
        _rates(area, flow, dx, beta, area0, rho, friction, left, right, da, dq)
        for i in range(n):
            a1[i], q1[i] = area[i] + dt * da[i], flow[i] + dt * dq[i]
            if not 0.2 * area0 < a1[i] < 5.0 * area0:
                return False
        held = load[4]
        if load[0] >= 0.0 and load[1] > 0.0:
            # compliance charged by the outflow and emptied through the peripheral resistance, exact for constant flow
            full = load[3] + load[1] * right[1]
            held = full + (held - full) * math.exp(-dt / (load[1] * load[2]))
        left = _inlet(
            1.5 * a1[0] - 0.5 * a1[1], 1.5 * q1[0] - 0.5 * q1[1], inflow[2 * step + 2], beta, area0, rho
        )
        right = _outlet(
            1.5 * a1[n - 1] - 0.5 * a1[n - 2],
            1.5 * q1[n - 1] - 0.5 * q1[n - 2],
            held,
            load[0],
            beta,
            area0,
            rho,
            p0,
        )
        _rates(a1, q1, dx, beta, area0, rho, friction, left, right, ea, eq)
        for i in range(n):
            area[i] += 0.5 * dt * (da[i] + ea[i])
            flow[i] += 0.5 * dt * (dq[i] + eq[i])
            if not 0.2 * area0 < area[i] < 5.0 * area0:
                return False
        load[4] = held
        if (step + 1) % every == 0:
            out_a[(step + 1) // every - 1] = area
            out_q[(step + 1) // every - 1] = flow
    return True
