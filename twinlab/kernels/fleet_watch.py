"""What a watcher makes of a noisy indicator: smoothing, alarm, level and rate, chance of failure, remaining life.

Nothing here knows a unit's hidden level or rate: only its daily indicator and a :class:`Watch` learnt from units that
failed before. Level and rate are followed by a Kalman filter: the level moves by rate * use, with a variance
proportional to use, as that of the wear process; the rate of a unit is constant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE, INLINE

LEVEL, RATE, V_LEVEL, V_BOTH, V_RATE, SMOOTH, V_SMOOTH, COUNT, ALARM = range(9)
STATE = 9
WEIGHT = 0.1  # of a day in the smoothed indicator, once ten days are there
RAISE, DROP = 4.0, 1.0  # standard deviations at which an alarm begins and ends


class Watch(NamedTuple):
    """What was learnt of each mode from units that failed, arrays (mode,)."""

    noise: np.ndarray  # sd of a day's indicator
    wander: np.ndarray  # variance of the level in a day of use, around the unit's straight line
    rate: np.ndarray  # mean growth rate of a defect, 1 a day of use
    rate_variance: np.ndarray


@njit(**DEVICE)
def observe(state, reading, use, noise, wander, rate, rate_variance):
    """Take in one day's indicator; ``state`` (STATE,) is changed in place, all zero for a new unit."""
    state[COUNT] += 1.0
    weight = max(WEIGHT, 1.0 / state[COUNT])
    state[SMOOTH] += weight * (reading - state[SMOOTH])
    state[V_SMOOTH] = (1.0 - weight) ** 2 * state[V_SMOOTH] + weight * weight * noise * noise
    spread = math.sqrt(state[V_SMOOTH])
    if state[ALARM] == 0.0:
        if state[SMOOTH] > RAISE * spread:
            state[ALARM] = 1.0
            state[LEVEL], state[V_LEVEL] = state[SMOOTH], state[V_SMOOTH]
            state[RATE], state[V_RATE], state[V_BOTH] = rate, rate_variance, 0.0
        return
    if state[SMOOTH] < DROP * spread:
        state[ALARM] = 0.0
        return
    state[LEVEL] += state[RATE] * use
    v_level = state[V_LEVEL] + 2.0 * use * state[V_BOTH] + use * use * state[V_RATE] + wander * use
    v_both = state[V_BOTH] + use * state[V_RATE]
    total = v_level + noise * noise
    gain_level, gain_rate = v_level / total, v_both / total
    surprise = reading - state[LEVEL]
    state[LEVEL] += gain_level * surprise
    state[RATE] += gain_rate * surprise
    state[V_LEVEL] = (1.0 - gain_level) * v_level
    state[V_BOTH] = (1.0 - gain_level) * v_both
    state[V_RATE] -= gain_rate * v_both


@njit(**INLINE)
def failure_chance(state, ahead, wander):
    """Probability that the level passes 1 within ``ahead`` days of use; 0 without an alarm.

    The hidden level never falls, so that having failed by then is being above 1 then.
    """
    if state[ALARM] == 0.0:
        return 0.0
    middle = state[LEVEL] + state[RATE] * ahead
    variance = state[V_LEVEL] + 2.0 * ahead * state[V_BOTH] + ahead * ahead * state[V_RATE] + wander * ahead
    return 0.5 * math.erfc((1.0 - middle) / math.sqrt(2.0 * max(variance, 1e-12)))


@njit(**DEVICE)
def remaining_life(state, chance, wander, longest):
    """Days of use within which the unit fails with this probability; ``longest`` where it is not reached."""
    if state[ALARM] == 0.0 or failure_chance(state, longest, wander) < chance:
        return longest
    low, high = 0.0, longest
    for _ in range(40):
        middle = 0.5 * (low + high)
        if failure_chance(state, middle, wander) < chance:
            low = middle
        else:
            high = middle
    return high
