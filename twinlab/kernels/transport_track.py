"""Flights of a photon: Woodcock tracking with block majorants.

Between blocks the optical depth left over is carried on, which is exact because free paths have no memory.
The functions are scalar and shared by the CPU and GPU drivers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE

_ZERO = np.float32(0.0)
_BEFORE = np.float32(-1e30)  # distance of a flight through the grid that does not take place
_ONE = np.float32(1.0)
_LEAST = np.float32(1e-9)
_TINY = np.float32(1e-12)
_CM = np.float32(0.1)
_I0 = np.int32(0)
_I1 = np.int32(1)
_I3 = np.int32(3)
_24 = np.uint64(24)
_32 = np.uint64(32)
_BYTE = np.uint64(0xFF)

OUTSIDE = -1  # voxel index of a collision in the world's air
GONE = -2  # and of a photon that has left the world


@njit(**INLINE)
def inverse(d):
    """Reciprocal of a component of a direction; far, not infinite, for a ray along the other axes."""
    return _ONE / math.copysign(max(abs(d), _LEAST), d)


@njit(**INLINE)
def box(x, y, z, iu, iv, iw, low_x, low_y, low_z, high_x, high_y, high_z):
    """Entry (0 when inside) and exit distance of a box; exit <= entry when the ray misses.

    ``iu, iv, iw`` are the inverse components of the ray's direction, see :func:`inverse`.
    """
    a, b = (low_x - x) * iu, (high_x - x) * iu
    c, d = (low_y - y) * iv, (high_y - y) * iv
    e, f = (low_z - z) * iw, (high_z - z) * iw
    near = max(max(min(a, b), min(c, d)), max(min(e, f), _ZERO))
    return near, min(max(a, b), min(max(c, d), max(e, f)))


@njit(**INLINE)
def chord(x, y, z, u, v, w, length, rod, k):
    """Length of a flight inside solid ``k``: a cylinder along z with ends, or a box."""
    iw = inverse(w)
    low, high = (rod[k, 3] - z) * iw, (rod[k, 4] - z) * iw
    low, high = max(min(low, high), _ZERO), min(max(low, high), length)
    dx = x - rod[k, 0]
    dy = y - rod[k, 1]
    if rod[k, 8] > _ZERO:
        iu, iv = inverse(u), inverse(v)
        a, b = (-rod[k, 2] - dx) * iu, (rod[k, 2] - dx) * iu
        c, d = (-rod[k, 8] - dy) * iv, (rod[k, 8] - dy) * iv
        low = max(low, max(min(a, b), min(c, d)))
        return max(min(high, min(max(a, b), max(c, d))) - low, _ZERO)
    a = u * u + v * v
    c = dx * dx + dy * dy - rod[k, 2] * rod[k, 2]
    if a > _TINY:
        b = dx * u + dy * v
        disc = b * b - a * c
        if disc <= _ZERO:
            return _ZERO
        root = math.sqrt(disc)
        low = max(low, (-b - root) / a)
        high = min(high, (-b + root) / a)
    elif c > _ZERO:
        return _ZERO
    return max(high - low, _ZERO)


@njit(**INLINE)
def fly(x, y, z, u, v, w, iu, iv, iw, start, stop, depth, row, grid):
    """Travel through the grid box until a tentative collision or its far face.

    Parameters
    ----------
    iu, iv, iw : float32
        See :func:`inverse`.
    start, stop : float32
        Distances of entry and exit from (x, y, z), mm.
    depth : float32
        Optical depth to go.
    row : int32
        Energy step.

    Returns
    -------
    distance : float32
        To the collision, or ``stop``.
    flat : int64
        Index of the voxel of the collision, -1 when the photon left.
    record : uint64
        Of its block.
    top : float32
        Majorant there, mm-1.
    depth : float32
        Left over when the photon left.
    """
    at, tx, ty, tz = enter(x, y, z, u, v, w, iu, iv, iw, start, grid)
    t = start
    going = True
    while going:
        t, depth, at, tx, ty, tz, going = stride(t, depth, at, tx, ty, tz, stop, iu, iv, iw, row, grid)
    return land(x, y, z, u, v, w, t, depth, at, stop, row, grid)


@njit(**INLINE)
def enter(x, y, z, u, v, w, iu, iv, iw, start, grid):
    """Block at a distance on a ray: its index, and the distances at which the ray leaves it along x, y and z."""
    size, shape = grid.size, grid.shape
    ix = min(max(np.int32((x + start * u) * size[12]), _I0), shape[5] - _I3)
    iy = min(max(np.int32((y + start * v) * size[13]), _I0), shape[4] - _I3)
    iz = min(max(np.int32((z + start * w) * size[14]), _I0), shape[3] - _I3)
    at = ((iz + _I1) * shape[4] + (iy + _I1)) * shape[5] + (ix + _I1)
    tx = (np.float32(ix + np.int32(iu > _ZERO)) * size[6] - x) * iu
    ty = (np.float32(iy + np.int32(iv > _ZERO)) * size[7] - y) * iv
    tz = (np.float32(iz + np.int32(iw > _ZERO)) * size[8] - z) * iw
    return np.int32(at), tx, ty, tz


@njit(**INLINE)
def stride(t, depth, at, tx, ty, tz, stop, iu, iv, iw, row, grid):
    """Go on to the next block, unless the depth ends before it or the grid does.

    No branch in it, so that a loop over photons is vectorised. Once a photon has arrived, nothing changes any more;
    it has left the grid when ``t >= stop``.

    Returns
    -------
    t, depth, at, tx, ty, tz
        As they went in, one block further.
    going : bool
        False when the photon has arrived.
    """
    size, shape = grid.size, grid.shape
    top = grid.majorant[np.uint64(row), (grid.block[np.uint64(at)] >> _24) & _BYTE]
    near = min(min(tx, ty), min(tz, stop))
    cost = top * (near - t)
    hit = depth < cost
    depth = depth if hit else depth - cost
    t = t if hit else near
    going = (not hit) & (near < stop)
    on_x = going & (tx <= near)
    on_y = going & (not on_x) & (ty <= near)
    on_z = going & (not on_x) & (not on_y)
    sx = _I1 if iu > _ZERO else -_I1
    sy = shape[5] if iv > _ZERO else -shape[5]
    sz = shape[4] * shape[5]
    sz = sz if iw > _ZERO else -sz
    step = sx if on_x else _I0
    step = sy if on_y else step
    step = sz if on_z else step
    next_x, next_y, next_z = tx + size[6] * abs(iu), ty + size[7] * abs(iv), tz + size[8] * abs(iw)
    tx = next_x if on_x else tx
    ty = next_y if on_y else ty
    tz = next_z if on_z else tz
    return t, depth, np.int32(at + step), tx, ty, tz, going


@njit(**INLINE)
def land(x, y, z, u, v, w, t, depth, at, stop, row, grid):
    """Where a flight has ended; see :func:`fly` for what it returns."""
    size, shape = grid.size, grid.shape
    record = grid.block[np.uint64(at)]
    top = grid.majorant[np.uint64(row), (record >> _24) & _BYTE]
    left = t >= stop
    end = t if left else t + depth / top
    t = _ZERO if left else end
    jx = min(max(np.int32((x + t * u) * size[9]), _I0), shape[2] - _I1)
    jy = min(max(np.int32((y + t * v) * size[10]), _I0), shape[1] - _I1)
    jz = min(max(np.int32((z + t * w) * size[11]), _I0), shape[0] - _I1)
    flat = (np.int64(jz) * shape[1] + jy) * shape[2] + jx
    return end, np.int64(OUTSIDE) if left else flat, record, top, depth if left else _ZERO


@njit(**INLINE)
def approach(x, y, z, u, v, w, grid):
    """What a flight needs to know before it starts.

    Returns
    -------
    iu, iv, iw : float32
        See :func:`inverse`.
    start, stop : float32
        Distances of entry to and exit from the grid box, mm; stop <= start when the flight misses it.
    """
    size = grid.size
    iu, iv, iw = inverse(u), inverse(v), inverse(w)
    start, stop = box(x, y, z, iu, iv, iw, _ZERO, _ZERO, _ZERO, size[0], size[1], size[2])
    return iu, iv, iw, start, stop


@njit(**INLINE)
def ambience(row, f, grid, tables):
    """Attenuation of the air around, mm-1."""
    air = tables.cross[0, row, 0]
    return (air + f * (tables.cross[0, row + 1, 0] - air)) * grid.air_density[0]


@njit(**INLINE)
def advance(x, y, z, u, v, w, iu, iv, iw, start, stop, air, row, depth, grid):
    """Travel to the next tentative collision, in the grid or in the air around it.

    Parameters
    ----------
    x, y, z, u, v, w : float32
        Position, mm, and direction.
    iu, iv, iw, start, stop, air : float32
        See :func:`approach` and :func:`ambience`.
    row : int32
        Energy step.
    depth : float32
        Mean free paths to go.

    Returns
    -------
    t, start : float32
        Distance travelled, and where on it the grid box begins, mm.
    flat : int64
        Voxel, ``OUTSIDE`` for a collision in the air around, ``GONE`` when the photon has left the world.
    record : uint64
        Of the block, or of the air.
    top : float32
        Majorant there, mm-1.
    """
    border = world_exit(x, y, z, iu, iv, iw, grid)
    begin, end, rest = first_leg(start, stop, border, air, depth)
    flat, record, top = np.int64(OUTSIDE), np.uint64(0), air
    t = end
    if end > begin:
        t, flat, record, top, rest = fly(x, y, z, u, v, w, iu, iv, iw, begin, end, rest, row, grid)
    t, flat, record, top = last_leg(start, stop, border, air, depth, t, flat, record, top, rest, grid)
    return t, border if stop <= start else start, flat, record, top


@njit(**INLINE)
def world_exit(x, y, z, iu, iv, iw, grid):
    """Distance at which a ray leaves the world, mm."""
    world = grid.world
    _, border = box(x, y, z, iu, iv, iw, world[0], world[1], world[2], world[3], world[4], world[5])
    return border


@njit(**INLINE)
def first_leg(start, stop, border, air, depth):
    """Entry and exit distance of the grid and the depth left there; entry = exit where it is not reached."""
    missed = stop <= start
    rest = depth - air * start
    unreached = missed | (depth / air < start)
    return _BEFORE if unreached else start, _BEFORE if unreached else stop, _ZERO if unreached else rest


@njit(**INLINE)
def last_leg(start, stop, border, air, depth, t, flat, record, top, rest, grid):
    """Where a photon collides that has ``rest`` left after its flight through the grid, as :func:`advance`."""
    ambient = np.uint64(np.float32(grid.air_density[0]).view(np.uint32)) << _32
    missed = stop <= start
    alone = depth / air
    early = alone < (border if missed else start)
    beyond = stop + rest / air
    out = early | missed | (flat < 0)
    t = beyond if out else t
    t = alone if early | missed else t
    inside = early | (t < border)
    gone = missed & (not early)
    where = np.int64(OUTSIDE) if inside & (not gone) else np.int64(GONE)
    return t, where if out else flat, ambient if out else record, air if out else top


@njit(**INLINE)
def score_fluence(x, y, z, u, v, w, start, stop, e, row, f, rod, kerma, fluence):
    """Track-length estimate of collision kerma in the rods that ask for it."""
    px = x + start * u
    py = y + start * v
    pz = z + start * w
    factor = kerma[row]
    factor = (factor + f * (kerma[row + 1] - factor)) * np.float32(e) * _CM
    for k in range(rod.shape[0]):
        if rod[k, 7] > _ZERO:
            fluence[k] += np.int64(chord(px, py, pz, u, v, w, stop - start, rod, k) * factor)
