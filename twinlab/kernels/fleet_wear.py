"""How one unit wears: a hidden defect begins, grows as an inverse Gaussian process, and fails at level 1.

Every unit is a stream of random numbers of its own (seed, scanner, mode, how many were there before), and its
days of work count the steps of that stream. So a unit has the same life under every policy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE, INLINE, draw

UNITS = 4096  # room for units of one mode in one scanner
_TWO_PI = 2.0 * math.pi


class Modes(NamedTuple):
    """Laws of the ways to fail, arrays (mode,); times in days of use."""

    part: np.ndarray  # index of the part that is replaced
    onset_shape: np.ndarray  # Weibull law of the time to the defect
    onset_scale: np.ndarray  # 0: the defect grows from the first day
    growth: np.ndarray  # median time from defect to failure
    spread: np.ndarray  # sd of the logarithm of the growth rate between units
    ripple: np.ndarray  # sd of the level at failure around the unit's own straight line
    noise: np.ndarray  # sd of a day's indicator
    seen: np.ndarray  # share of units whose wear the indicator shows


@njit(**INLINE)
def normals(a, b):
    """Two independent standard normals of two uniforms in (0, 1)."""
    radius = math.sqrt(-2.0 * math.log(a))
    return radius * math.cos(_TWO_PI * b), radius * math.sin(_TWO_PI * b)


@njit(**INLINE)
def stream(scanner, mode, unit, modes):
    """Number of a unit's stream; ``mode`` may be the number of modes, for what belongs to the scanner."""
    return np.uint64((scanner * (modes + 1) + mode) * UNITS + unit)


@njit(**DEVICE)
def new_unit(modes, mode, history, k0, k1):
    """Draw what a unit is: time of its defect, growth rate (1 a day), and whether the indicator shows it."""
    a, b, c, d = draw(np.uint64(0), history, k0, k1)
    z, _ = normals(a, b)
    onset = 0.0
    if modes.onset_scale[mode] > 0.0:
        onset = modes.onset_scale[mode] * (-math.log(c)) ** (1.0 / modes.onset_shape[mode])
    rate = math.exp(modes.spread[mode] * z) / modes.growth[mode]
    return onset, rate, d < modes.seen[mode]


@njit(**INLINE)
def increment(mean, variance, z, u):
    """Inverse Gaussian of this mean and variance from a standard normal and a uniform.

    References
    ----------
    Michael, Schucany and Haas, Am. Stat. 30 (1976) 88.
    """
    if variance <= 0.0:
        return mean
    shape = mean * mean * mean / variance
    w = mean * z * z
    half = 0.5 * mean / shape
    x = mean + half * w - half * math.sqrt(w * (4.0 * shape + w))
    if x <= 0.0:  # cancellation: the small root is mean^2 over the large one
        x = mean * mean / (mean + half * w + half * math.sqrt(w * (4.0 * shape + w)))
    return x if u <= mean / (mean + x) else mean * mean / x


@njit(**INLINE)
def grown(level, clock, use, onset, rate, ripple, z, u):
    """Level after ``use`` more days of use; mean rate * time and variance ripple^2 * rate * time."""
    growing = min(use, clock + use - onset)
    if growing <= 0.0:
        return level
    mean = rate * growing
    return level + increment(mean, ripple * ripple * mean, z, u)


@njit(**DEVICE)
def used_unit(modes, mode, age, history, k0, k1):
    """Level at an age of a unit installed before the simulation began, from one draw of its whole past."""
    onset, rate, seen = new_unit(modes, mode, history, k0, k1)
    a, b, c, _ = draw(np.uint64(1), history, k0, k1)
    z, _ = normals(a, b)
    return grown(0.0, 0.0, age, onset, rate, modes.ripple[mode], z, c), onset, rate, seen
