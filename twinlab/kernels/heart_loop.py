"""Closed loop of the circulation: eight compartments in a ring, one implicit stage at a time.

Compartments (ring order) and the links that lead out of them::

    0 left atrium      -- mitral valve ----->  1 left ventricle   -- aortic valve ----->
    2 systemic arteries -- resistance + inertia -> 3 systemic veins -- resistance + inertia ->
    4 right atrium     -- tricuspid valve -->  5 right ventricle  -- pulmonary valve -->
    6 pulmonary arteries -- resistance + inertia -> 7 pulmonary veins -- resistance + inertia -> 0

Within a stage every pressure is linear in the volumes (exactly so for elastances and vessels; a linearisation
for other ventricles), valves are ideal diodes, so that a stage is a linear system per set of open valves.
Unknowns are volumes and the four flows with inertia: their sum is kept to rounding.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.heart_measures import measure

# Flat parameters: see twinlab.cardiac.circulation.parameters, which writes them in this order.
PERIOD = 0
CHAMBERS = (
    1  # four of (active elastance, passive elastance, contraction, relaxation, onset, unstressed volume)
)
VALVES = 25  # four of (open resistance, closed resistance)
BEDS = 33  # two of (R arteries, C arteries, R veins, C veins, L arteries, L veins)
N_PARAMETERS = 45

CHAMBER_NODE = (0, 1, 4, 5)
VALVE_LINK = (0, 1, 4, 5)
INERTIA_LINK = (2, 3, 6, 7)
GAMMA = 1.0 - math.sqrt(0.5)  # two-stage diagonally implicit scheme of order two, L-stable (Alexander 1977)
N_STATE = 12
N_TRACE = 24  # 8 pressures, 8 volumes, 8 flows


@njit(cache=True)
def activation(time_s, onset_s, contraction_s, relaxation_s, period_s):
    """Activation of a chamber in [0, 1]: half cosines up and down (Blanco and Feijoo 2010)."""
    phase = (time_s - onset_s) % period_s
    if phase < contraction_s:
        return 0.5 * (1.0 - math.cos(math.pi * phase / contraction_s))
    phase -= contraction_s
    if phase < relaxation_s:
        return 0.5 * (1.0 + math.cos(math.pi * phase / relaxation_s))
    return 0.0


@njit(cache=True)
def affine_pressures(par, time_s, offset, slope):
    """Fill ``pressure = offset + slope @ volume`` of all compartments; ``slope`` (8, 8) is diagonal here."""
    slope[:] = 0.0
    for c in range(4):
        k = CHAMBERS + 6 * c
        elastance = par[k + 1] + par[k] * activation(time_s, par[k + 4], par[k + 2], par[k + 3], par[PERIOD])
        node = CHAMBER_NODE[c]
        slope[node, node] = elastance
        offset[node] = -elastance * par[k + 5]
    for bed in range(2):
        k = BEDS + 6 * bed
        arteries = 2 + 4 * bed
        offset[arteries] = offset[arteries + 1] = 0.0
        slope[arteries, arteries] = 1.0 / par[k + 1]
        slope[arteries + 1, arteries + 1] = 1.0 / par[k + 3]


@njit(cache=True)
def solve_dense(a, b):
    """Solve a small system in place, with row exchange; the solution lies in ``b``."""
    n = b.size
    for i in range(n):
        pivot = i
        for j in range(i + 1, n):
            if abs(a[j, i]) > abs(a[pivot, i]):
                pivot = j
        if pivot != i:
            for j in range(i, n):
                a[i, j], a[pivot, j] = a[pivot, j], a[i, j]
            b[i], b[pivot] = b[pivot], b[i]
        for j in range(i + 1, n):
            if a[j, i] != 0.0:
                factor = a[j, i] / a[i, i]
                for k in range(i + 1, n):
                    a[j, k] -= factor * a[i, k]
                b[j] -= factor * b[i]
    for i in range(n - 1, -1, -1):
        total = b[i]
        for k in range(i + 1, n):
            total -= a[i, k] * b[k]
        b[i] = total / a[i, i]


@njit(cache=True)
def stage(par, base, h, offset, slope, valve_open, state, pressure, flow, a):
    """Solve ``state = base + h * rate(state)`` with linear pressures and diodes.

    Parameters
    ----------
    par : array (45,)
    base : array (12,)
        Eight volumes, ml, then four flows with inertia, ml/s.
    h : float
        Step of the stage, s.
    offset, slope : arrays (8,), (8, 8)
        Pressures, mmHg, linear in the volumes.
    valve_open : bool array (4,)
        First guess, replaced by what was found.
    state, pressure, flow : arrays (12,), (8,), (8,)
        Filled.
    a : array (8, 8)
        Work space.

    Returns
    -------
    bool
        Whether the set of open valves is consistent with the pressures.
    """
    push = np.empty(8)
    g = np.empty(8)
    for i in range(4):
        link = INERTIA_LINK[i]
        k = BEDS + 6 * (i // 2)
        resistance, inertance = par[k + 2 * (i % 2)], par[k + 4 + i % 2]
        below = inertance + h * resistance
        push[link] = base[8 + i] * inertance / below
        g[link] = h / below
    for _ in range(24):
        for i in range(4):
            link = VALVE_LINK[i]
            push[link] = 0.0
            g[link] = 1.0 / par[VALVES + 2 * i + (0 if valve_open[i] else 1)]
        rhs = state[:8]
        for k in range(8):
            before, after = (k + 7) % 8, (k + 1) % 8
            rhs[k] = base[k] + h * (
                push[before]
                - push[k]
                + g[before] * (offset[before] - offset[k])
                - g[k] * (offset[k] - offset[after])
            )
            for j in range(8):
                a[k, j] = h * (
                    -g[before] * slope[before, j] + (g[before] + g[k]) * slope[k, j] - g[k] * slope[after, j]
                )
            a[k, k] += 1.0
        solve_dense(a, rhs)
        for k in range(8):
            pressure[k] = offset[k]
            for j in range(8):
                pressure[k] += slope[k, j] * state[j]
        same = True
        for i in range(4):
            link = VALVE_LINK[i]
            opens = pressure[link] > pressure[link + 1]
            same = same and opens == valve_open[i]
            valve_open[i] = opens
        if same:
            break
    for k in range(8):
        flow[k] = push[k] + g[k] * (pressure[k] - pressure[(k + 1) % 8])
    for i in range(4):
        state[8 + i] = flow[INERTIA_LINK[i]]
    return same


@njit(cache=True)
def run_beat(par, state, steps, trace, passed):
    """One beat of the elastance model from ``state``, which is moved on; trace and integrated flows are filled.

    Parameters
    ----------
    par : array (45,)
    state : array (12,)
    steps : int
    trace : array (steps + 1, 24)
        Pressures, volumes and flows at the ends of all steps; row 0 is the last row of the beat before.
    passed : array (8,)
        Volume that went through every link, ml, summed as the scheme does.

    Returns
    -------
    bool
        False when a step found no consistent set of valves or no finite state.
    """
    h = par[PERIOD] / steps
    offset, slope, work = np.empty(8), np.zeros((8, 8)), np.empty((8, 8))
    middle, base = np.empty(N_STATE), np.empty(N_STATE)
    pressure, flow, early = np.empty(8), np.empty(8), np.empty(8)
    valve_open = np.zeros(4, np.bool_)
    good = True
    trace[0] = trace[steps]
    passed[:] = 0.0
    for step in range(steps):
        time = step * h
        affine_pressures(par, time + GAMMA * h, offset, slope)
        good &= stage(par, state, GAMMA * h, offset, slope, valve_open, middle, pressure, early, work)
        for k in range(N_STATE):
            base[k] = state[k] + (1.0 - GAMMA) / GAMMA * (middle[k] - state[k])
        affine_pressures(par, time + h, offset, slope)
        good &= stage(par, base, GAMMA * h, offset, slope, valve_open, state, pressure, flow, work)
        for k in range(8):
            passed[k] += h * ((1.0 - GAMMA) * early[k] + GAMMA * flow[k])
            trace[step + 1, k] = pressure[k]
            trace[step + 1, 8 + k] = state[k]
            trace[step + 1, 16 + k] = flow[k]
    return good and math.isfinite(state.sum())


@njit(cache=True, nogil=True)
def run_loop(par, start, steps, least_beats, most_beats, tolerance_ml, trace, passed):
    """Beats until all volumes repeat within the tolerance.

    Returns
    -------
    beats : int
        How many were run; negative: a step failed in that beat.
    change_ml : float
        Greatest change of a volume over the last beat.
    """
    state = start.copy()
    before = np.empty(N_STATE)
    change = math.inf
    for beat in range(1, most_beats + 1):
        before[:] = state
        if not run_beat(par, state, steps, trace, passed):
            return -beat, change
        change = 0.0
        for k in range(8):
            change = max(change, abs(state[k] - before[k]))
        if beat == 1:
            continue  # row 0 of the trace is known from the second beat on
        if change <= tolerance_ml and beat >= least_beats:
            break
    return beat, change


@njit(cache=True, parallel=True)
def run_many(pars, starts, steps, least_beats, most_beats, tolerance_ml, result, beats, change):
    """Fill the measures (case, measure), beats and last change of volume (case,) of cases, each run alone."""
    for case in prange(pars.shape[0]):
        trace, passed = np.empty((steps + 1, N_TRACE)), np.empty(8)
        beats[case], change[case] = run_loop(
            pars[case], starts[case], steps, least_beats, most_beats, tolerance_ml, trace, passed
        )
        if beats[case] > 0:
            measure(trace, passed, pars[case, PERIOD], result[case])
    return result, beats, change
