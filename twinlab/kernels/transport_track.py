"""One photon history: Woodcock tracking with block majorants, interactions, list of deposits.

Between blocks the optical depth left over is carried on, which is exact because free paths have no memory.
The functions are scalar and shared by the CPU and GPU drivers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE
from twinlab.kernels.sampling import bound, incoherent, rayleigh, rotate
from twinlab.kernels.transport_data import (
    CUTOFF_KEV,
    ENERGY_UNIT_KEV,
    MAX_DEPOSITS,
    unpack,
)

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_LEAST = np.float32(1e-9)
_TINY = np.float32(1e-12)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_PER_UNIT = np.float32(1.0 / ENERGY_UNIT_KEV)
_CUTOFF = np.int64(CUTOFF_KEV / ENERGY_UNIT_KEV)
_CM = np.float32(0.1)
_NEXT = np.uint64(1)
_FULL = np.int32(MAX_DEPOSITS - 1)
_I0 = np.int32(0)
_I1 = np.int32(1)
_I3 = np.int32(3)
_24 = np.uint64(24)
_32 = np.uint64(32)
_NONE = np.uint64(0)
_BYTE = np.uint64(0xFF)
_REGIONS = np.int64(65536)

OUTSIDE = -1  # voxel index of a collision in the world's air
GONE = -2  # and of a photon that has left the world
VIRTUAL = -65536 * 3  # place of a collision that was none
STRAIGHT = np.float32(2.0)  # cosine where the direction stays


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
    size = grid.size
    shape = grid.shape
    block = grid.block
    majorant = grid.majorant
    bx, by, bz = size[6], size[7], size[8]
    ix = min(max(np.int32((x + start * u) * size[12]), _I0), shape[5] - _I3)
    iy = min(max(np.int32((y + start * v) * size[13]), _I0), shape[4] - _I3)
    iz = min(max(np.int32((z + start * w) * size[14]), _I0), shape[3] - _I3)
    at = (np.int64(iz + _I1) * shape[4] + (iy + _I1)) * shape[5] + (ix + _I1)
    ahead_x, ahead_y, ahead_z = iu > _ZERO, iv > _ZERO, iw > _ZERO
    sx = np.int64(1) if ahead_x else np.int64(-1)
    sy = np.int64(shape[5]) if ahead_y else -np.int64(shape[5])
    sz = np.int64(shape[4]) * shape[5]
    sz = sz if ahead_z else -sz
    tx = (np.float32(ix + np.int32(ahead_x)) * bx - x) * iu
    ty = (np.float32(iy + np.int32(ahead_y)) * by - y) * iv
    tz = (np.float32(iz + np.int32(ahead_z)) * bz - z) * iw
    dx, dy, dz = bx * abs(iu), by * abs(iv), bz * abs(iw)
    t = start
    while True:
        record = block[np.uint64(at)]
        top = majorant[np.uint64(row), (record >> _24) & _BYTE]
        end = min(min(tx, ty), min(tz, stop))
        cost = top * (end - t)
        if depth < cost:
            break
        depth -= cost
        t = end
        if end >= stop:
            return stop, np.int64(OUTSIDE), record, top, depth
        if tx <= end:
            at += sx
            tx += dx
        elif ty <= end:
            at += sy
            ty += dy
        else:
            at += sz
            tz += dz
    t += depth / top
    jx = min(max(np.int32((x + t * u) * size[9]), _I0), shape[2] - _I1)
    jy = min(max(np.int32((y + t * v) * size[10]), _I0), shape[1] - _I1)
    jz = min(max(np.int32((z + t * w) * size[11]), _I0), shape[0] - _I1)
    return t, (np.int64(jz) * shape[1] + jy) * shape[2] + jx, record, top, _ZERO


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
    world = grid.world
    ambient = np.uint64(np.float32(grid.air_density[0]).view(np.uint32)) << _32
    missed = stop <= start
    if missed:
        _, start = box(x, y, z, iu, iv, iw, world[0], world[1], world[2], world[3], world[4], world[5])
    t = depth / air
    if t < start:
        return t, start, np.int64(OUTSIDE), ambient, air
    if missed:
        return t, start, np.int64(GONE), ambient, air
    t, flat, record, top, depth = fly(
        x, y, z, u, v, w, iu, iv, iw, start, stop, depth - air * start, row, grid
    )  # fmt: skip
    if flat >= 0:
        return t, start, flat, record, top
    t += depth / air
    _, border = box(x, y, z, iu, iv, iw, world[0], world[1], world[2], world[3], world[4], world[5])
    return t, start, np.int64(OUTSIDE if t < border else GONE), ambient, air


@njit(**INLINE)
def fluoresce(pick, material, e, row, f, tables):
    """Energy of the K photon that follows a photoelectric absorption, 0 when there is none.

    ``pick`` is a uniform in (0, 1). The vacancy's other energy (electrons, lines of outer shells) stays.
    """
    for k in range(tables.line.shape[1]):
        if tables.line[material, k] == 0:
            break
        share = tables.line_share[material, k, row]
        share += f * (tables.line_share[material, k, row + 1] - share)
        if pick < share:
            line = tables.line[material, k]
            return line if line < e else np.int64(0)
    return np.int64(0)


@njit(**INLINE)
def interact(x, y, z, e, row, f, flat, record, top, b, c, d, grid, tables, step, history, k0, k1):
    """What happens at a tentative collision.

    Parameters
    ----------
    x, y, z : float32
        Position of the collision, mm.
    e : int64
        Energy, ``ENERGY_UNIT_KEV``.
    row, f, flat, record, top
        As from :func:`advance`.
    b, c, d : float32
        Unused uniforms.
    step, history, k0, k1 : uint64
        Stream of more random numbers.

    Returns
    -------
    place : int64
        See :func:`locate`; negative in the air around, ``VIRTUAL`` when nothing happened.
    lost, left : int64
        Energy deposited there, and that of the photon after it: 0 when it is absorbed.
    cosine : float32
        Of the angle by which the photon is scattered, ``STRAIGHT`` when it goes on.
    step : uint64
    """
    cross = tables.cross
    place, material, density = locate(x, y, z, flat, record, grid)
    total = cross[material, row, 0]
    total += f * (cross[material, row + 1, 0] - total)
    pick = b * top
    if pick >= total * density:
        return np.int64(VIRTUAL), np.int64(0), e, STRAIGHT, step
    pick /= density
    photo = cross[material, row, 1]
    photo += f * (cross[material, row + 1, 1] - photo)
    if pick < photo:
        left = fluoresce(pick / photo, material, e, row, f, tables)
        return place, e - left, left, _TWO * c - _ONE, step
    energy = np.float32(e) * _UNIT
    inelastic = cross[material, row, 2]
    inelastic += f * (cross[material, row + 1, 2] - inelastic)
    left = e
    if pick < inelastic:
        cosine, ratio, step = incoherent(energy, tables.scatter[material], c, d, step, history, k0, k1)
        if tables.shell.shape[1] > 0:
            ratio, step = bound(energy, cosine, ratio, material, tables, step, history, k0, k1)
        left = min(np.int64(energy * ratio * _PER_UNIT), e)
        if left < _CUTOFF:
            return place, e, np.int64(0), STRAIGHT, step
    else:
        area = cross[material, row, 3]
        area += f * (cross[material, row + 1, 3] - area)
        cosine, step = rayleigh(energy, area, tables.inverse_area[material], c, d, step, history, k0, k1)
    return place, e - left, left, cosine, step


@njit(**INLINE)
def collide(
    x, y, z, u, v, w, e, row, f, flat, record, top, b, c, d, turn, grid, tables, step, history, k0, k1
):
    """:func:`interact`, and the new direction instead of the cosine; ``turn`` is an unused uniform."""
    place, lost, left, cosine, step = interact(
        x, y, z, e, row, f, flat, record, top, b, c, d, grid, tables, step, history, k0, k1
    )
    u, v, w = deflect(u, v, w, cosine, turn)
    return place, lost, left, u, v, w, step


@njit(**INLINE)
def deflect(u, v, w, cosine, turn):
    """Direction after a collision; no branch in it, so that a loop over photons is vectorised."""
    a, b, c = rotate(u, v, w, min(cosine, _ONE), turn)
    straight = cosine > _ONE
    return u if straight else a, v if straight else b, w if straight else c


@njit(**INLINE)
def locate(px, py, pz, flat, record, grid):
    """Place (voxel index x 65536 + region), material and density at a point.

    ``flat`` is the index of its voxel (``OUTSIDE`` in the air around), and ``record`` that of its block; when
    that has a density, the block is uniform and no voxel need be fetched. Among solids the index and the
    region are 0 outside and k + 1 in row k of ``grid.rod``.
    """
    if flat < 0 or record >> _32 != _NONE:
        material, region, density = unpack(record)
        return flat * _REGIONS + region, material, density
    if grid.kind[0] == 0:
        material, region, density = unpack(grid.voxel[np.uint64(flat)])
        return flat * _REGIONS + region, material, density
    rod = grid.rod
    for k in range(
        rod.shape[0] - 1, -1, -1
    ):  # row 0 holds all others; where later rows overlap, the last wins
        dx = px - rod[k, 0]
        dy = py - rod[k, 1]
        if rod[k, 8] > _ZERO:
            within = abs(dx) < rod[k, 2] and abs(dy) < rod[k, 8]
        else:
            within = dx * dx + dy * dy < rod[k, 2] * rod[k, 2]
        if within and rod[k, 3] <= pz < rod[k, 4]:
            return np.int64(k + 1) * (_REGIONS + 1), np.int32(rod[k, 5]), rod[k, 6]
    return np.int64(0), _I0, grid.air_density[0]


@njit(**INLINE)
def deposit(place, e, n, outside, places, energies):
    """Append a deposit (a full list adds to its last entry); returns the deposits and the energy in air."""
    if e == 0:
        return n, outside
    if place < 0:
        return n, outside + e
    if n > 0 and places[n - _I1] == place:
        energies[n - _I1] += e
        return n, outside
    if n > _FULL:
        energies[_FULL] += e
        return n, outside
    places[n] = place
    energies[n] = e
    return n + _I1, outside


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
