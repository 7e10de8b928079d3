"""How photons start: a point source with a rectangular field, or a CT tube on its path."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE, draw, philox4x32, uniform
from twinlab.kernels.sampling import alias_draw
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV

FIELD, GANTRY = 0, 1

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
_PER_UNIT = np.float32(1.0 / ENERGY_UNIT_KEV)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_NEXT = np.uint64(1)


@njit(**INLINE)
def emit(source, history, k0, k1):
    """First position, direction and energy of a history.

    FIELD: uniform per solid angle from a point through a parallelogram; ``geometry`` holds the source
    (3), a corner of the field relative to it (3), its two edges (3, 3) and the distance of its plane.
    GANTRY: a view from its alias table, gantry angle and table position uniform within the view, fan angle
    uniform within its bin (bin and energy from one joint alias table), cone angle uniform per solid angle;
    ``geometry`` holds radius, isocentre x and y, low fan angle, fan bin width, low and width of the sine
    of the cone angle.

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
    a, b, c, d = philox4x32(zero, history & _LOW, history >> _32, zero, k0, k1)
    step = zero + _NEXT
    joint = alias_draw(source.probability, source.alias, a, uniform(b))
    n_energy = np.int32(source.energy.shape[0])
    bin_ = joint % n_energy
    energy = np.int64((source.energy[bin_, 0] + uniform(c) * source.energy[bin_, 1]) * _PER_UNIT)
    if source.kind[0] == GANTRY:
        fan_bin = joint // n_energy
        p, q, r, s = draw(step, history, k0, k1)
        step += _NEXT
        view = alias_draw(source.view_probability, source.view_alias, d, p)
        angle = source.stations[view, 0] + (q - _HALF) * source.stations[view, 2]
        z = source.stations[view, 1] + (q - _HALF) * source.stations[view, 3]
        x = g[1] + g[0] * math.sin(angle)
        y = g[2] - g[0] * math.cos(angle)
        fan = g[3] + (np.float32(fan_bin) + r) * g[4]
        w = g[5] + s * g[6]
        level = math.sqrt(_ONE - w * w)
        # central direction (-sin b, cos b) turned by the fan angle towards (cos b, sin b)
        return x, y, z, level * math.sin(fan - angle), level * math.cos(fan - angle), w, energy, step
    while True:
        p, q, r, s = draw(step, history, k0, k1)
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
