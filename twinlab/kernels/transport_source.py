"""How photons start: a point source with a rectangular field, or CT tubes on their paths."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE, draw, philox7, uniform
from twinlab.kernels.sampling import alias_draw, cosine_sine
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV

FIELD, GANTRY = 0, 1
BEAM_VALUES = 12  # of ``geometry`` for each beam of a gantry
STATION_VALUES = 7

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
_PER_UNIT = np.float32(1.0 / ENERGY_UNIT_KEV)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_NEXT = np.uint64(1)


@njit(**INLINE)
def _alias_part(probability, alias, base, n, word, v):
    """Index within the alias table that starts at ``base`` of a stack of tables of ``n`` entries."""
    i = np.int32((word * np.uint64(n)) >> _32)
    if v >= probability[base + i]:
        i = alias[base + i]
    return i


@njit(**INLINE)
def _gantry(source, a, b, c, d, step, history, k0, k1):
    """A photon of a tube on its path, from the first four words of a history."""
    g = source.geometry
    p, q, r, s = draw(step, history, k0, k1)
    step += _NEXT
    view = alias_draw(source.view_probability, source.view_alias, d, p)
    beam = np.int32(0)
    low = _ZERO
    high = _ZERO
    blades = source.stations.shape[1] > 4
    if blades:
        beam = np.int32(source.stations[view, 4])
        low = source.stations[view, 5]
        high = source.stations[view, 6]
    o = beam * np.int32(BEAM_VALUES)
    n_energy = np.int32(source.energy.shape[0])
    n = np.int32(source.probability.shape[0]) // source.kind[1]
    n_fan = n // (n_energy * source.kind[2])
    spot = _ZERO
    across = _ZERO
    while True:
        joint = _alias_part(source.probability, source.alias, beam * n, n, a, uniform(b))
        if g[o + 7] > _ZERO or g[o + 8] > _ZERO:
            spot, across, _, _ = draw(step, history, k0, k1)
            step += _NEXT
            spot = (spot - _HALF) * g[o + 7]
            across = (across - _HALF) * g[o + 8]
        angular = joint // n_energy
        fan = g[o + 3] + (np.float32(angular % n_fan) + r) * g[o + 4]
        w = g[o + 5] + (np.float32(angular // n_fan) + s) * g[o + 6]
        level = math.sqrt(_ONE - w * w)
        if not blades:
            break
        slope = w / level
        if g[o + 10] > _ZERO:  # straight blades: z is the same at the same depth, not on the same arc
            slope /= cosine_sine(fan)[0]
        slope += spot * g[o + 9]
        if low <= slope <= high:
            break
        a, b, c, d = philox7(step, history & _LOW, history >> _32, step & np.uint64(0), k0, k1)
        step += _NEXT
        _, _, r, s = draw(step, history, k0, k1)
        step += _NEXT
    bin_ = joint % n_energy
    energy = np.int64((source.energy[bin_, 0] + uniform(c) * source.energy[bin_, 1]) * _PER_UNIT)
    angle = source.stations[view, 0] + (q - _HALF) * source.stations[view, 2]
    z = source.stations[view, 1] + (q - _HALF) * source.stations[view, 3]
    cosine, sine = cosine_sine(angle)
    x = g[o + 1] + g[o] * sine
    y = g[o + 2] - g[o] * cosine
    # central direction (-sin b, cos b) turned by the fan angle towards (cos b, sin b)
    ahead, aside = cosine_sine(fan - angle)
    u = level * aside
    v = level * ahead
    if g[o + 8] > _ZERO:
        x += across * cosine
        y += across * sine
    lean = g[o + 11]
    if lean != _ZERO:  # the gantry turns about an axis through the isocentre that leans in the y-z plane
        cosine, sine = cosine_sine(lean)
        dy = y - g[o + 2]
        y = g[o + 2] + cosine * dy - sine * spot
        z += sine * dy + cosine * spot
        v, w = cosine * v - sine * w, sine * v + cosine * w
    else:
        z += spot
    return x, y, z, u, v, w, energy, step


@njit(**INLINE)
def emit(source, history, k0, k1):
    """First position, direction and energy of a history.

    FIELD: uniform per solid angle from a point through a parallelogram; ``geometry`` holds the source
    (3), a corner of the field relative to it (3), its two edges (3, 3) and the distance of its plane.

    GANTRY: a view from its alias table, gantry angle and table position uniform within the view. The
    view's beam (``stations`` column 4) has an alias table over bins of cone angle, fan angle and energy;
    within a bin fan angle and sine of the cone angle are uniform. A photon that the collimator's blades
    stop is drawn again: it passes where the tangent of its cone angle, plus the place on the focal spot
    over the distance of the blades, lies within columns 5 and 6 of the view; with four columns there are one
    beam and no blades. ``geometry`` holds for each beam radius, isocentre x and y, low fan angle, fan bin
    width, low and bin width of the sine of the cone angle, length and width of the focal spot, 1 over the
    distance of the blades, whether these are straight, and the lean of the gantry; ``kind[1]`` is the number
    of beams, ``kind[2]`` that of cone bins.

    Returns
    -------
    x, y, z, u, v, w : float32
        mm and unit vector.
    energy : int64
        In ``ENERGY_UNIT_KEV``.
    step : uint64
        Next free step of the stream.
    """
    g = source.geometry
    zero = history & np.uint64(0)
    a, b, c, d = philox7(zero, history & _LOW, history >> _32, zero, k0, k1)
    step = zero + _NEXT
    if source.kind[0] == GANTRY:
        return _gantry(source, a, b, c, d, step, history, k0, k1)
    joint = alias_draw(source.probability, source.alias, a, uniform(b))
    n_energy = np.int32(source.energy.shape[0])
    bin_ = joint % n_energy
    energy = np.int64((source.energy[bin_, 0] + uniform(c) * source.energy[bin_, 1]) * _PER_UNIT)
    while True:
        p, q, r, _ = draw(step, history, k0, k1)
        step += _NEXT
        u = g[3] + p * g[6] + q * g[9]
        v = g[4] + p * g[7] + q * g[10]
        w = g[5] + p * g[8] + q * g[11]
        inverse = _ONE / math.sqrt(u * u + v * v + w * w)
        near = g[12] * inverse
        if (
            r <= near * near * near
        ):  # solid angle of an element of the plane falls as cos^3 / plane distance^2
            return g[0], g[1], g[2], u * inverse, v * inverse, w * inverse, energy, step
