"""Hours of the clinic and of the engineer. Time is in hours since a Monday, 0:00."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE


class Hours(NamedTuple):
    """When the clinic scans and when an engineer may come."""

    open: float  # hour of the day
    clinic: np.ndarray  # (7,) hours from opening to closing, Monday first
    before: np.ndarray  # (8,) clinic hours of the week before each day, and of the whole week
    engineer_from: float
    engineer_to: float
    engineer_days: int  # from Monday on


@njit(**INLINE)
def clinic_hours(t, hours):
    """Clinic hours from time 0 to time ``t``."""
    week = math.floor(t / 168.0)
    rest = t - 168.0 * week
    day = min(int(rest / 24.0), 6)
    today = min(max(rest - 24.0 * day - hours.open, 0.0), hours.clinic[day])
    return week * hours.before[7] + hours.before[day] + today


@njit(**INLINE)
def next_engineer(t, hours):
    """First time from ``t`` on at which an engineer may begin; what was begun is finished."""
    for _ in range(9):
        day = math.floor(t / 24.0)
        hour = t - 24.0 * day
        if day % 7 < hours.engineer_days:
            if hour < hours.engineer_from:
                return 24.0 * day + hours.engineer_from
            if hour <= hours.engineer_to:
                return t
        t = 24.0 * (day + 1)
    return t
