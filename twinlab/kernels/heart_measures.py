"""Measures of one beat of the circulation, taken from the trace that every loop model writes."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.variables_heart import LOOP_MEASURES

N_MEASURES = len(LOOP_MEASURES)
_JOULE_PER_MMHG_ML = 133.322387415e-6


@njit(cache=True)
def _ventricle(pressure, volume, atrium, step_s):
    top, low = volume[0], volume[0]
    filled, ed = -math.inf, math.nan
    steepest, steepest_fall, work, highest = -math.inf, math.inf, 0.0, -math.inf
    for i in range(1, volume.size):
        if atrium[i] > pressure[i] and volume[i] > filled:
            filled, ed = volume[i], pressure[i]  # the fullest moment with the inlet valve still open
        top, low = max(top, volume[i]), min(low, volume[i])
        highest = max(highest, pressure[i])
        rate = (pressure[i] - pressure[i - 1]) / step_s
        steepest, steepest_fall = max(steepest, rate), min(steepest_fall, rate)
        work -= 0.5 * (pressure[i] + pressure[i - 1]) * (volume[i] - volume[i - 1])
    return top, low, ed, highest, steepest, steepest_fall, work * _JOULE_PER_MMHG_ML


@njit(cache=True)
def measure(trace, passed, period_s, out):
    """Fill ``out`` (order of :data:`LOOP_MEASURES`) from a trace (steps + 1, 24) and the volumes passed (8,)."""
    step = period_s / (trace.shape[0] - 1)
    left = _ventricle(trace[:, 1], trace[:, 9], trace[:, 0], step)
    right = _ventricle(trace[:, 5], trace[:, 13], trace[:, 4], step)
    stroke = passed[1]
    systemic, pulmonary = trace[1:, 2], trace[1:, 6]
    out[0], out[1], out[2] = left[0], left[1], 100.0 * (left[0] - left[1]) / left[0]
    out[3], out[4], out[5] = right[0], right[1], 100.0 * (right[0] - right[1]) / right[0]
    out[6], out[7] = stroke, stroke / period_s * 0.06
    out[8], out[9], out[10], out[11] = left[3], left[2], right[3], right[2]
    out[12], out[13], out[14] = systemic.max(), systemic.min(), systemic.mean()
    out[15], out[16], out[17] = pulmonary.max(), pulmonary.min(), pulmonary.mean()
    out[18], out[19] = trace[1:, 0].mean(), trace[1:, 4].mean()
    out[20], out[21], out[22] = left[4], left[5], right[4]
    out[23], out[24] = left[6], right[6]
    out[25] = (passed.max() - passed.min()) / max(abs(stroke), 1e-9)


def measures_of(trace: np.ndarray, passed: np.ndarray, period_s: float) -> np.ndarray:
    """:func:`measure` as a function that returns."""
    out = np.empty(N_MEASURES)
    measure(trace, passed, period_s, out)
    return out
