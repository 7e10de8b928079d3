"""Scalar ray geometry: one ray through one grid of voxels.

Plain ``njit`` functions without allocation, so that CPU drivers and ``cuda.jit`` kernels call the same
objects. They work in the floating type of their arguments: literals are float32 and indices are turned into
float32 before they meet a coordinate, which is exact for both types and keeps float64 out of GPU code.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_FAR = np.float32(3.0e38)


@njit(cache=True)
def clip_axis(origin, step, low, high, first, last):
    """Part of the ray ``origin + t*step``, ``first <= t <= last``, within ``low <= coordinate <= high``.

    Returns
    -------
    tuple of float
        ``(first, last)`` of the part; empty when ``last <= first``. A ray parallel to the planes is inside
        when its coordinate lies in the half-open interval ``[low, high)``, so that it belongs to one voxel.
    """
    if step == _ZERO:
        if origin < low or origin >= high:
            last = first - _ONE
        return first, last
    a = (low - origin) / step
    b = (high - origin) / step
    return max(first, min(a, b)), min(last, max(a, b))


@njit(cache=True)
def first_cell(position, low, spacing, n):
    """Index of the voxel at a position, kept within the grid."""
    return min(max(np.int32(math.floor((position - low) / spacing)), 0), n - 1)


@njit(cache=True)
def next_plane(index, origin, step, low, spacing):
    """Ray parameter at which the ray leaves voxel ``index`` along one axis."""
    if step > _ZERO:
        return (low + np.float32(index + 1) * spacing - origin) / step
    if step < _ZERO:
        return (low + np.float32(index) * spacing - origin) / step
    return _FAR + _ZERO * origin


@njit(cache=True)
def siddon(volumes, z0, y0, x0, dz, dy, dx, sz, sy, sx, ez, ey, ex, out):
    """Exact line integrals of piecewise constant volumes along a segment; added to ``out``.

    Parameters
    ----------
    volumes : array (n_basis, nz, ny, nx)
    z0, y0, x0 : float
        Lower corner of the grid (not the centre of voxel 0) [mm].
    dz, dy, dx : float
        Voxel size [mm].
    sz, sy, sx, ez, ey, ex : float
        Start and end of the segment [mm].
    out : array (n_basis,)
        Grows by the integral of value times length [value mm]. A zero step along an axis is allowed.

    References
    ----------
    R. L. Siddon, Med. Phys. 12, 252 (1985); incremental form after J. Amanatides and A. Woo, Eurographics
    1987.
    """
    nk, nz, ny, nx = volumes.shape
    vz, vy, vx = ez - sz, ey - sy, ex - sx
    length = math.sqrt(vz * vz + vy * vy + vx * vx)
    first, last = clip_axis(sx, vx, x0, x0 + np.float32(nx) * dx, _ZERO * sx, _ONE + _ZERO * sx)
    first, last = clip_axis(sy, vy, y0, y0 + np.float32(ny) * dy, first, last)
    first, last = clip_axis(sz, vz, z0, z0 + np.float32(nz) * dz, first, last)
    if last <= first:
        return
    ix = first_cell(sx + first * vx, x0, dx, nx)
    iy = first_cell(sy + first * vy, y0, dy, ny)
    iz = first_cell(sz + first * vz, z0, dz, nz)
    t = first
    tx = next_plane(ix, sx, vx, x0, dx)
    ty = next_plane(iy, sy, vy, y0, dy)
    tz = next_plane(iz, sz, vz, z0, dz)
    while True:
        end = min(min(tx, ty), min(tz, last))
        step = (end - t) * length
        if step > _ZERO:
            for k in range(nk):
                out[k] += step * volumes[k, iz, iy, ix]
            t = end
        if end >= last:
            return
        if tx <= ty and tx <= tz:
            ix += 1 if vx > _ZERO else -1
            if ix < 0 or ix >= nx:
                return
            tx = next_plane(ix, sx, vx, x0, dx)
        elif ty <= tz:
            iy += 1 if vy > _ZERO else -1
            if iy < 0 or iy >= ny:
                return
            ty = next_plane(iy, sy, vy, y0, dy)
        else:
            iz += 1 if vz > _ZERO else -1
            if iz < 0 or iz >= nz:
                return
            tz = next_plane(iz, sz, vz, z0, dz)


@njit(cache=True)
def source_position(view_angle, radius, x0, y0):
    """(x, y) of the focal spot; angle 0 is anterior (negative y), growing towards positive x."""
    return x0 + radius * math.sin(view_angle), y0 - radius * math.cos(view_angle)


@njit(cache=True)
def channel_direction(view_angle, forward, lateral):
    """(x, y) from the focal spot to the detector for components along and across the central ray."""
    s, c = math.sin(view_angle), math.cos(view_angle)
    return -forward * s + lateral * c, forward * c + lateral * s
