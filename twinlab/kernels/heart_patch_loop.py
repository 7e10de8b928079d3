"""Ventricles of muscle patches in the closed loop: trial pressures, steps and beats in compiled code."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.heart_loop import N_STATE, PERIOD, affine_pressures, stage
from twinlab.kernels.heart_patches import (
    ACTIVATION,
    DECAY,
    DURATION,
    KPA_PER_MMHG,
    RISE,
    activation_rates,
    sphere,
    triseg_balance,
)
from twinlab.kernels.heart_settle import DEPTH, extrapolated

# rows of the patches' state and work space (row, patch)
CONTRACTILE, LENGTH, AREA, STRAIN, STRESS, NEW_LENGTH, NEW_CONTRACTILE = range(7)
N_ROWS = 7


@njit(cache=True)
def contract(patches, rows, time_ms, dt_ms, period_ms):
    """Contractility at the end of a step (semi-implicit), from the committed state."""
    for i in range(patches.shape[0]):
        phase = (time_ms - 0.5 * dt_ms - patches[i, ACTIVATION]) % period_ms
        source, decay = activation_rates(
            rows[LENGTH, i], phase, patches[i, RISE], patches[i, DECAY], patches[i, DURATION]
        )
        rows[NEW_CONTRACTILE, i] = (rows[CONTRACTILE, i] + dt_ms * source) / (1.0 + dt_ms * decay)


@njit(cache=True)
def _balance(left, right, septum, y, patches, borders, rows, dt_ms, out):
    triseg_balance(
        left, right, septum, y, patches, borders, rows[NEW_CONTRACTILE], rows[LENGTH], dt_ms, rows[AREA],
        rows[STRAIN], rows[STRESS], rows[NEW_LENGTH], out,
    )  # fmt: skip


@njit(cache=True)
def trial(left, right, patches, borders, rows, geometry, dt_ms, pressure, slope):
    """Pressures (2,), mmHg, and derivatives (2, 2) at two volumes; False where no balance was found.

    One wall (``borders[1] == borders[3]``): a sphere, the left ventricle; the right entries are not touched. Three
    walls: ``geometry`` holds septal cap volume, ml, and junction radius, cm, as first guess and result.
    """
    if borders[1] == borders[3]:
        p, dp = sphere(
            left, patches, rows[NEW_CONTRACTILE], rows[LENGTH], dt_ms, rows[AREA], rows[STRAIN], rows[STRESS],
            rows[NEW_LENGTH],
        )  # fmt: skip
        pressure[0], slope[0, 0] = p / KPA_PER_MMHG, dp / KPA_PER_MMHG
        return math.isfinite(p)
    here, moved, by = np.empty(4), np.empty(4), np.empty((4, 4))
    found = False
    for _ in range(40):
        septum, y = geometry[0], geometry[1]
        _balance(left, right, septum, y, patches, borders, rows, dt_ms, here)
        for k, eps in ((0, 1e-3), (1, 1e-4)):
            _balance(left, right, septum + (eps if k == 0 else 0.0), y + (eps if k == 1 else 0.0), patches, borders,
                     rows, dt_ms, moved)  # fmt: skip
            for j in range(4):
                by[j, k] = (moved[j] - here[j]) / eps
        det = by[0, 0] * by[1, 1] - by[0, 1] * by[1, 0]
        if not math.isfinite(det) or det == 0.0:
            return False
        dseptum = -(by[1, 1] * here[0] - by[0, 1] * here[1]) / det
        dy = -(by[0, 0] * here[1] - by[1, 0] * here[0]) / det
        damp = min(1.0, 4.0 / max(abs(dseptum), 1e-12), 0.3 / max(abs(dy), 1e-12))
        geometry[0] = septum + damp * dseptum
        geometry[1] = max(0.5, y + damp * dy)
        if abs(dseptum) < 1e-6 and abs(dy) < 1e-7:
            found = True
            break
    septum, y = geometry[0], geometry[1]
    for k in range(2):
        _balance(left + (1e-3 if k == 0 else 0.0), right + (1e-3 if k == 1 else 0.0), septum, y, patches, borders, rows,
                 dt_ms, moved)  # fmt: skip
        for j in range(4):
            by[j, 2 + k] = (moved[j] - here[j]) / 1e-3
    _balance(left, right, septum, y, patches, borders, rows, dt_ms, here)
    for k in range(2):
        # implicit function theorem: the junction moves so that the forces stay balanced
        ds = -(by[1, 1] * by[0, 2 + k] - by[0, 1] * by[1, 2 + k]) / det
        dy = -(by[0, 0] * by[1, 2 + k] - by[1, 0] * by[0, 2 + k]) / det
        for j in range(2):
            slope[j, k] = (by[2 + j, 2 + k] + by[2 + j, 0] * ds + by[2 + j, 1] * dy) / KPA_PER_MMHG
    for j in range(2):
        pressure[j] = here[2 + j] / KPA_PER_MMHG
    return found and math.isfinite(pressure[0]) and math.isfinite(pressure[1])


@njit(cache=True)
def accept(rows):
    """Take the trial's contractile lengths and contractilities as the state."""
    rows[CONTRACTILE] = rows[NEW_CONTRACTILE]
    rows[LENGTH] = rows[NEW_LENGTH]


@njit(cache=True, nogil=True)
def run_patches(
    par,
    patches,
    borders,
    start,
    rows,
    geometry,
    steps,
    least_beats,
    most_beats,
    tolerance_ml,
    trace,
    passed,
    muscle,
):
    """Beats of the closed loop with patches as ventricles; backward Euler.

    With a tolerance, beats start from the extrapolation of :mod:`twinlab.kernels.heart_settle`; the last one follows
    its predecessor without a jump. With a negative one every beat goes on where the last ended.

    Parameters
    ----------
    par, start, steps, least_beats, most_beats, tolerance_ml, trace, passed
        As :func:`twinlab.kernels.heart_loop.run_loop`.
    patches : array (patch, 8)
    borders : int array (4,)
    rows : array (7, patch)
        State, moved on.
    geometry : array (2,)
    muscle : array (2, steps + 1, patch)
        Fibre strain and stress (kPa) over the last beat.

    Returns
    -------
    beats, change_ml
        Negative beats: a step could not be solved.
    """
    h, period_ms = par[PERIOD] / steps, 1000.0 * par[PERIOD]
    dt = 1000.0 * h
    one_wall = borders[1] == borders[3]
    state, before, guess, new = start.copy(), np.empty(N_STATE), np.empty(N_STATE), np.empty(N_STATE)
    offset, slope, work = np.empty(8), np.zeros((8, 8)), np.empty((8, 8))
    pressure, flow, valve_open = np.empty(8), np.empty(8), np.zeros(4, np.bool_)
    p, dp = np.zeros(2), np.zeros((2, 2))
    change, beat = math.inf, 0
    starts, ends = np.zeros((DEPTH + 1, N_STATE)), np.zeros((DEPTH + 1, N_STATE))
    jumped = False
    for beat in range(1, most_beats + 1):
        before[:] = state
        trace[0] = trace[steps]
        muscle[:, 0] = muscle[:, steps]
        passed[:] = 0.0
        for step in range(steps):
            affine_pressures(par, (step + 1) * h, offset, slope)
            contract(patches, rows, (step + 1) * dt, dt, period_ms)
            guess[:] = state
            solved = False
            for _ in range(40):
                if not trial(guess[1], guess[5], patches, borders, rows, geometry, dt, p, dp):
                    break
                slope[1, 1], offset[1] = dp[0, 0], p[0] - dp[0, 0] * guess[1]
                if not one_wall:
                    slope[1, 5], slope[5, 1], slope[5, 5] = dp[0, 1], dp[1, 0], dp[1, 1]
                    offset[1] -= dp[0, 1] * guess[5]
                    offset[5] = p[1] - dp[1, 0] * guess[1] - dp[1, 1] * guess[5]
                settled = stage(par, state, h, offset, slope, valve_open, new, pressure, flow, work)
                left = new[1] - guess[1]
                right = 0.0 if one_wall else new[5] - guess[5]
                worst = max(abs(left), abs(right))
                if worst < 1e-6:
                    solved = settled
                    break
                damp = min(1.0, 10.0 / worst)
                guess[:] = new
                guess[1] -= (1.0 - damp) * left
                guess[5] -= (1.0 - damp) * right
            if not solved:
                return -beat, change
            accept(rows)
            state[:] = new
            for k in range(8):
                passed[k] += h * flow[k]
                trace[step + 1, k] = pressure[k]
                trace[step + 1, 8 + k] = state[k]
                trace[step + 1, 16 + k] = flow[k]
            muscle[0, step + 1] = rows[STRAIN]
            muscle[1, step + 1] = rows[STRESS]
        change = 0.0
        for k in range(8):
            change = max(change, abs(state[k] - before[k]))
        within = change <= tolerance_ml and beat >= least_beats
        if beat > 1 and within and not jumped:
            break
        jumped = False
        if tolerance_ml >= 0.0 and not within and beat < most_beats - 1:
            for k in range(DEPTH, 0, -1):
                starts[k], ends[k] = starts[k - 1], ends[k - 1]
            starts[0], ends[0] = before, state
            jumped = extrapolated(starts, ends, beat, state)
    return beat, change
