"""Single units watched until they fail: the history from which a service learns, and the test of its forecasts."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from twinlab.kernels.fleet_watch import ALARM, SMOOTH, STATE, observe, remaining_life
from twinlab.kernels.fleet_wear import grown, new_unit, normals, stream
from twinlab.kernels.philox import draw


@njit(cache=True, parallel=True, nogil=True)
def watch_units(modes, mode, use, k0, k1, readings, life, seen):
    """Daily indicators of units of one mode from installation to failure.

    Parameters
    ----------
    modes : Modes
    mode : int
    use : float
        Days of use in a day.
    k0, k1 : uint64
        Key words of the seed.
    readings : array (unit, day)
        Filled up to failure; NaN from then on.
    life : array (unit,)
        Days of use at failure, filled; NaN where the unit outlives the days.
    seen : array (unit,) of bool
        Whether the indicator showed the wear, filled; for tests, not known to a watcher.
    """
    for unit in prange(readings.shape[0]):
        history = stream(unit, mode, 0, modes.part.size)
        onset, rate, shows = new_unit(modes, mode, history, k0, k1)
        seen[unit] = shows
        life[unit] = np.nan
        level, clock = 0.0, 0.0
        for day in range(readings.shape[1]):
            a, b, c, d = draw(np.uint64(2 + day), history, k0, k1)
            z, error = normals(a, b)
            level = grown(level, clock, use, onset, rate, modes.ripple[mode], z, c)
            if level >= 1.0:
                life[unit] = clock + d * use
                readings[unit, day:] = np.nan
                break
            clock += use
            readings[unit, day] = modes.noise[mode] * error + (level if shows else 0.0)


@njit(cache=True, parallel=True, nogil=True)
def follow(readings, use, noise, wander, rate, rate_variance, chances, longest, states, lives):
    """What a watcher thinks of units on every day.

    Parameters
    ----------
    readings : array (unit, day)
        NaN after failure.
    use : float
    noise, wander, rate, rate_variance : float
        Learnt numbers of the mode.
    chances : array (chance,)
        Probabilities at which the remaining life is asked.
    longest : float
    states : array (unit, day, STATE)
        Filled in.
    lives : array (unit, day, chance)
        Remaining life, days of use, filled in; NaN without an alarm.
    """
    for unit in prange(readings.shape[0]):
        state = np.zeros(STATE)
        for day in range(readings.shape[1]):
            states[unit, day] = np.nan
            lives[unit, day] = np.nan
            if np.isnan(readings[unit, day]):
                continue
            observe(state, readings[unit, day], use, noise, wander, rate, rate_variance)
            states[unit, day] = state
            if state[ALARM] > 0.0:
                for i in range(chances.size):
                    lives[unit, day, i] = remaining_life(state, chances[i], wander, longest)


@njit(cache=True, parallel=True, nogil=True)
def last_alarms(readings, noise, start, level):
    """When the alarm began that was on when a unit failed.

    Parameters
    ----------
    readings : array (unit, day)
        NaN after failure.
    noise : float
    start, level : array (unit,)
        Day and smoothed indicator then, filled; -1 without an alarm.
    """
    for unit in prange(readings.shape[0]):
        state = np.zeros(STATE)
        on = False
        start[unit] = -1
        for day in range(readings.shape[1]):
            if np.isnan(readings[unit, day]):
                break
            observe(state, readings[unit, day], 1.0, noise, 0.0, 0.0, 0.0)
            if state[ALARM] > 0.0 and not on:
                start[unit], level[unit] = day, state[SMOOTH]
            on = state[ALARM] > 0.0
        if not on:
            start[unit] = -1
