"""Walls of muscle patches: sarcomere of Lumens et al. 2009, patches that share a wall's tension and curvature.

Units: kPa, ml, cm, ms, um. A wall's midwall area is in cm2 and its tension in kPa cm, so that twice tension times
curvature is a pressure in kPa.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# columns of the patches' table
WALL_VOLUME, REFERENCE_AREA, ACTIVATION, CONTRACTILITY, STIFFNESS, RISE, DECAY, DURATION = range(8)
N_PATCH = 8

REFERENCE_LENGTH = 2.0  # um
SERIES_LENGTH = 0.04  # um, of the series elastic element at isometric stress
SHORTENING = 0.007  # um/ms, unloaded
LEAST_LENGTH = 1.51  # um, contractile element without active stress
REST = 0.02  # contractility in diastole
KPA_PER_MMHG = 0.133322387415
_SHARED = 1e-6  # relative change of a patch's area at which the shares of a wall count as found


@njit(cache=True)
def activation_rates(length, phase_ms, rise_ms, decay_ms, duration_ms):
    """Source and decay rate (1/ms) of contractility (Lumens et al. 2009, eqs. A3 to A7)."""
    x = min(8.0, max(0.0, phase_ms / rise_ms))
    rise = 0.02 * x**3 * (8.0 - x) ** 2 * math.exp(-x)
    overlap = math.tanh(4.0 * max(0.0, length - LEAST_LENGTH) ** 2)
    end = duration_ms * (0.29 + 0.3 * length)
    fall = 1.0 / (1.0 + math.exp(min(60.0, (end - phase_ms) / decay_ms)))
    return overlap * rise / rise_ms + REST * fall / decay_ms, fall / decay_ms


@njit(cache=True)
def fibre_stress(strain, contractility, length, patch, dt_ms):
    """Stress at the end of a step and its derivative by strain, kPa; contractile length then, um.

    The contractile element follows its law ``dL/dt = ((Ls - L)/series - 1) v`` by backward Euler.
    """
    sarcomere = REFERENCE_LENGTH * math.exp(strain)
    rate = dt_ms * SHORTENING / SERIES_LENGTH
    new = (length + rate * (sarcomere - SERIES_LENGTH)) / (1.0 + rate)
    dnew = rate / (1.0 + rate) * sarcomere
    scale = patch[CONTRACTILITY] * contractility / SERIES_LENGTH
    above = max(0.0, new - LEAST_LENGTH)
    series = max(0.0, sarcomere - new)
    active = scale * above * series
    dactive = 0.0
    if active > 0.0:
        dactive = scale * (dnew * series + above * (sarcomere - dnew))
    over = max(0.0, strain - 0.1)
    stiff = 0.0025 * math.exp(min(30.0 * strain, 30.0))
    passive = patch[STIFFNESS] * (36.0 * over * over + 0.1 * (strain - 0.1) + stiff)
    dpassive = patch[STIFFNESS] * (72.0 * over + 0.1 + 30.0 * stiff)
    return active + passive, dactive + dpassive, new


@njit(cache=True)
def patch_tension(area, curvature, patch, contractility, length, dt_ms):
    """Midwall tension of a patch, kPa cm, its derivative by area, strain, stress and contractile length."""
    half = patch[WALL_VOLUME] / (2.0 * area)
    z = 3.0 * curvature * half
    z2 = z * z
    strain = 0.5 * math.log(area / patch[REFERENCE_AREA]) - z2 / 12.0 - 0.019 * z2 * z2
    dstrain = 0.5 / area + (z2 / 6.0 + 0.076 * z2 * z2) / area
    stress, dstress, new = fibre_stress(strain, contractility, length, patch, dt_ms)
    shape = 1.0 + z2 / 3.0 + z2 * z2 / 5.0
    dshape = -(2.0 * z2 / 3.0 + 4.0 * z2 * z2 / 5.0) / area
    tension = half * stress * shape
    slope = half * (dstress * dstrain * shape + stress * dshape - stress * shape / area)
    return tension, slope, strain, stress, new


@njit(cache=True)
def wall_tension(
    area, curvature, patches, first, last, contractility, length, dt_ms, areas, strain, stress, new
):
    """Share a wall's area among its patches so that all have one tension; that tension, kPa cm, and its slope.

    ``areas`` holds the first guess and is replaced; ``strain``, ``stress`` and ``new`` (contractile length) are
    filled. The slope is by the area at fixed curvature. NaN where no shares are found: the step is refused then.
    """
    total = 0.0
    for i in range(first, last):
        total += areas[i]
    for i in range(first, last):
        areas[i] *= area / total
    tension, ease, worst = 0.0, 1.0, 0.0
    if last - first == 1:
        t, slope, strain[first], stress[first], new[first] = patch_tension(
            area, curvature, patches[first], contractility[first], length[first], dt_ms
        )
        return t, slope
    step = np.empty(last - first)
    value = np.empty(last - first)
    for _ in range(60):
        ease, pull, total = 0.0, 0.0, 0.0
        for i in range(first, last):
            t, slope, strain[i], stress[i], new[i] = patch_tension(
                areas[i], curvature, patches[i], contractility[i], length[i], dt_ms
            )
            give = 1.0 / max(slope, 1e-6)
            step[i - first], value[i - first] = give, t
            ease += give
            pull += give * t
            total += areas[i]
        tension = (area - total + pull) / ease
        worst = 0.0
        for i in range(first, last):
            change = step[i - first] * (tension - value[i - first])
            limit = 0.1 * areas[i]
            change = min(limit, max(-limit, change))
            areas[i] += change
            worst = max(worst, abs(change) / areas[i])
        if worst < 1e-9:
            return tension, 1.0 / ease
    if worst > _SHARED:
        return math.nan, math.nan
    return tension, 1.0 / ease


@njit(cache=True)
def sphere(volume_ml, patches, contractility, length, dt_ms, areas, strain, stress, new):
    """Pressure of a closed sphere of patches and its derivative by volume, kPa and kPa/ml."""
    wall = 0.0
    for i in range(patches.shape[0]):
        wall += patches[i, WALL_VOLUME]
    middle = max(volume_ml, 0.0) + 0.5 * wall
    n = patches.shape[0]
    pressure = np.empty(2)
    eps = 1e-4 * middle
    for k in range(2):
        volume = middle + (eps if k == 0 else 0.0)
        radius = (3.0 * volume / (4.0 * math.pi)) ** (1.0 / 3.0)
        area = 4.0 * math.pi * radius * radius
        tension, _ = wall_tension(
            area, 1.0 / radius, patches, 0, n, contractility, length, dt_ms, areas, strain, stress, new
        )
        pressure[k] = 2.0 * tension / radius
    return pressure[1], (pressure[0] - pressure[1]) / eps


@njit(cache=True)
def cap_height(volume, y):
    """Height of a spherical cap of a volume over a circle of radius y: the real root of a cubic."""
    q = 3.0 * volume / math.pi
    root = math.sqrt(q * q + y**6)
    if q >= 0.0:
        big = (q + root) ** (1.0 / 3.0)
        return big - y * y / big
    big = (-q + root) ** (1.0 / 3.0)
    return y * y / big - big


@njit(cache=True)
def triseg_balance(
    left_ml,
    right_ml,
    septum,
    y,
    patches,
    borders,
    contractility,
    length,
    dt_ms,
    areas,
    strain,
    stress,
    new,
    out,
):
    """Forces at the junction and pressures of three walls (Lumens et al. 2009, eqs. 1 to 12).

    ``borders`` (4,): first patch of the left free wall, septum, right free wall, and the end. ``septum``: volume of
    the septal cap, ml, ``y``: radius of the junction, cm. ``out`` gets both sums of forces, kPa cm, and the left and
    right pressure, kPa.
    """
    wall = np.zeros(3)
    for w in range(3):
        for i in range(borders[w], borders[w + 1]):
            wall[w] += patches[i, WALL_VOLUME]
    out[:] = 0.0
    for w in range(3):
        volume = septum
        if w == 0:
            volume = septum - left_ml - 0.5 * (wall[0] + wall[1])
        elif w == 2:
            volume = septum + right_ml + 0.5 * (wall[2] + wall[1])
        x = cap_height(volume, y)
        square = x * x + y * y
        tension, _ = wall_tension(
            math.pi * square, 2.0 * x / square, patches, borders[w], borders[w + 1], contractility, length, dt_ms,
            areas, strain, stress, new,
        )  # fmt: skip
        along = 2.0 * x * y / square * tension
        out[0] += along
        out[1] += (y * y - x * x) / square * tension
        if w == 0:
            out[2] = -2.0 * along / y
        elif w == 2:
            out[3] = 2.0 * along / y
