"""One photon history: Woodcock tracking with block majorants, interactions, list of deposits.

Between blocks the optical depth left over is carried on, which is exact because free paths have no memory.
The functions are scalar and shared by the CPU and GPU drivers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE, INLINE, draw
from twinlab.kernels.sampling import compton, rayleigh, rotate
from twinlab.kernels.transport_data import (
    CUTOFF_KEV,
    ENERGY_UNIT_KEV,
    MAX_DEPOSITS,
    energy_position,
)
from twinlab.kernels.transport_source import emit

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_FAR = np.float32(1e9)
_TINY = np.float32(1e-12)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_PER_UNIT = np.float32(1.0 / ENERGY_UNIT_KEV)
_CUTOFF = np.int64(CUTOFF_KEV / ENERGY_UNIT_KEV)
_CM = np.float32(0.1)
_NEXT = np.uint64(1)
_FULL = np.int32(MAX_DEPOSITS - 1)
_I0 = np.int32(0)
_I1 = np.int32(1)

OUTSIDE = -1  # voxel index of a deposit in the world's air


@njit(**DEVICE)
def _slab(p, d, low, high):
    """Distances at which a ray enters and leaves one slab of a box."""
    if abs(d) < _TINY:
        if p < low or p >= high:
            return _FAR, -_FAR
        return -_FAR, _FAR
    a = (low - p) / d
    b = (high - p) / d
    return min(a, b), max(a, b)


@njit(**INLINE)
def box(x, y, z, u, v, w, size):
    """Entry (0 when inside) and exit distance of the grid box; exit <= entry when the ray misses."""
    a, b = _slab(x, u, _ZERO, size[0])
    c, d = _slab(y, v, _ZERO, size[1])
    e, f = _slab(z, w, _ZERO, size[2])
    return max(max(a, c), max(e, _ZERO)), min(b, min(d, f))


@njit(**INLINE)
def _world_exit(x, y, z, u, v, w, world):
    _, b = _slab(x, u, world[0], world[3])
    _, d = _slab(y, v, world[1], world[4])
    _, f = _slab(z, w, world[2], world[5])
    return max(min(b, min(d, f)), _ZERO)


@njit(**INLINE)
def locate(px, py, pz, grid):
    """Voxel (flat index), material and density at a point of the grid box.

    For a cylinder with rods the flat index is 0 outside and k + 1 in row k of ``grid.rod``.
    """
    size = grid.size
    if grid.kind[0] == 0:
        nz, ny, nx = grid.material.shape
        ix = min(max(np.int32(px / size[3]), _I0), np.int32(nx) - _I1)
        iy = min(max(np.int32(py / size[4]), _I0), np.int32(ny) - _I1)
        iz = min(max(np.int32(pz / size[5]), _I0), np.int32(nz) - _I1)
        flat = (np.int64(iz) * ny + iy) * nx + ix
        return flat, np.int32(grid.material[iz, iy, ix]), grid.density[iz, iy, ix]
    rod = grid.rod
    for k in range(rod.shape[0] - 1, -1, -1):  # row 0 is the cylinder itself; later rows lie in it
        dx = px - rod[k, 0]
        dy = py - rod[k, 1]
        if dx * dx + dy * dy < rod[k, 2] * rod[k, 2] and rod[k, 3] <= pz < rod[k, 4]:
            return np.int64(k + 1), np.int32(rod[k, 5]), rod[k, 6]
    return np.int64(0), _I0, grid.air_density[0]


@njit(**INLINE)
def chord(x, y, z, u, v, w, length, rod, k):
    """Length of a flight inside rod ``k`` (a cylinder along z with ends)."""
    dx = x - rod[k, 0]
    dy = y - rod[k, 1]
    a = u * u + v * v
    low = _ZERO
    high = length
    if a > _TINY:
        b = dx * u + dy * v
        c = dx * dx + dy * dy - rod[k, 2] * rod[k, 2]
        disc = b * b - a * c
        if disc <= _ZERO:
            return _ZERO
        root = math.sqrt(disc)
        low = max(low, (-b - root) / a)
        high = min(high, (-b + root) / a)
    elif dx * dx + dy * dy > rod[k, 2] * rod[k, 2]:
        return _ZERO
    a, b = _slab(z, w, rod[k, 3], rod[k, 4])
    return max(min(high, b) - max(low, a), _ZERO)


@njit(**INLINE)
def fly(x, y, z, u, v, w, start, stop, depth, r, c, d, row, f, grid, tables, step, history, k0, k1):
    """Travel through the grid box until a real collision or its far face.

    Parameters
    ----------
    start, stop : float32
        Distances of entry and exit from (x, y, z), mm.
    depth : float32
        Optical depth to go.
    r, c, d : float32
        Unused uniforms.
    row, f : int32, float32
        Energy position.

    Returns
    -------
    distance : float32
        To the collision, or ``stop``.
    flat : int64
        Voxel of the collision, -1 when the photon left.
    material : int32
    pick : float32
        Uniform in (0, total cross section per density): chooses the interaction.
    depth : float32
        Left over when the photon left.
    step : uint64
    """
    size = grid.size
    blocks = grid.block_class
    majorant = grid.majorant
    nz, ny, nx = blocks.shape
    bx, by, bz = size[6], size[7], size[8]
    ix = min(max(np.int32((x + start * u) / bx), _I0), np.int32(nx - 1))
    iy = min(max(np.int32((y + start * v) / by), _I0), np.int32(ny - 1))
    iz = min(max(np.int32((z + start * w) / bz), _I0), np.int32(nz - 1))
    sx = _I1 if u > _ZERO else -_I1
    sy = _I1 if v > _ZERO else -_I1
    sz = _I1 if w > _ZERO else -_I1
    iu = _ONE / u if abs(u) > _TINY else _FAR
    iv = _ONE / v if abs(v) > _TINY else _FAR
    iw = _ONE / w if abs(w) > _TINY else _FAR
    tx = (np.float32(ix + (sx > 0)) * bx - x) * iu if abs(u) > _TINY else _FAR
    ty = (np.float32(iy + (sy > 0)) * by - y) * iv if abs(v) > _TINY else _FAR
    tz = (np.float32(iz + (sz > 0)) * bz - z) * iw if abs(w) > _TINY else _FAR
    t = start
    spare = True
    while True:
        kind = blocks[iz, iy, ix]
        top = majorant[kind, row]
        top += f * (majorant[kind, row + 1] - top)
        end = min(min(tx, ty), min(tz, stop))
        cost = top * (end - t)
        if depth >= cost:
            depth -= cost
            t = end
            if end >= stop:
                return stop, np.int64(-1), _I0, _ZERO, depth, step
            if tx <= end:
                ix += sx
                tx += bx * abs(iu)
                if ix < 0 or ix >= nx:
                    return t, np.int64(-1), _I0, _ZERO, depth, step
            elif ty <= end:
                iy += sy
                ty += by * abs(iv)
                if iy < 0 or iy >= ny:
                    return t, np.int64(-1), _I0, _ZERO, depth, step
            else:
                iz += sz
                tz += bz * abs(iw)
                if iz < 0 or iz >= nz:
                    return t, np.int64(-1), _I0, _ZERO, depth, step
            continue
        t += depth / top
        flat, material, density = locate(x + t * u, y + t * v, z + t * w, grid)
        total = tables.cross[material, row, 0]
        total += f * (tables.cross[material, row + 1, 0] - total)
        pick = r * top
        if pick < total * density:
            return t, flat, material, pick / density, _ZERO, step
        # virtual: two uniforms of the last four are still unused every other time
        if spare:
            a = c
            r = d
            spare = False
        else:
            a, r, c, d = draw(step, history, k0, k1)
            step += _NEXT
            spare = True
        depth = -math.log(a)


@njit(**INLINE)
def trace(history, k0, k1, grid, tables, source, voxel, energy_list, fluence):
    """Follow one photon from the source to absorption, cut-off or escape.

    Parameters
    ----------
    history, k0, k1 : uint64
        Identity of the history and the seed's words.
    grid, tables, source : Grid, Tables, Source
    voxel : (MAX_DEPOSITS,) int64, written
        Flat index of each deposit.
    energy_list : (MAX_DEPOSITS,) int64, written
        Energy of each deposit, ``ENERGY_UNIT_KEV``.
    fluence : (n_rod,) int64, added to
        Collision kerma of the scored rods: track length [cm] x E x mu_en/rho, ``ENERGY_UNIT_KEV`` cm3/g.

    Returns
    -------
    n : int32
        Deposits written.
    emitted, escaped, outside : int64
        Energy emitted, carried out of the world, and left in the world's air, ``ENERGY_UNIT_KEV``.
        emitted = escaped + outside + sum of the deposits, exactly.
    """
    x, y, z, u, v, w, e, step = emit(source, history, k0, k1)
    emitted = e
    outside = np.int64(0)
    n = _I0
    cross = tables.cross
    while True:
        energy = np.float32(e) * _UNIT
        row, f = energy_position(energy)
        start, stop = box(x, y, z, u, v, w, grid.size)
        border = _world_exit(x, y, z, u, v, w, grid.world)
        missed = stop <= start
        if missed:
            start = border
        a, b, c, d = draw(step, history, k0, k1)
        step += _NEXT
        depth = -math.log(a)
        air = cross[0, row, 0]
        air = (air + f * (cross[0, row + 1, 0] - air)) * grid.air_density[0]
        pick = b * air / grid.air_density[0]
        flat = np.int64(OUTSIDE)
        material = _I0
        free = depth / air
        if free < start:
            t = free
        elif missed:
            return n, emitted, e, outside
        else:
            depth -= air * start
            t, flat, material, got, depth, step = fly(
                x, y, z, u, v, w, start, stop, depth, b, c, d, row, f, grid, tables, step, history, k0, k1
            )
            if grid.kind[0] == 1:
                _score_fluence(x, y, z, u, v, w, start, t, energy, row, f, grid.rod, tables.kerma, fluence)
            if flat >= 0:
                pick = got
            else:
                t += depth / air
                if t >= border:
                    return n, emitted, e, outside
        x += t * u
        y += t * v
        z += t * w
        photo = cross[material, row, 1]
        photo += f * (cross[material, row + 1, 1] - photo)
        if pick < photo:
            return _deposit(flat, e, n, outside, voxel, energy_list, emitted)
        inelastic = cross[material, row, 2]
        inelastic += f * (cross[material, row + 1, 2] - inelastic)
        if pick < inelastic:
            cosine, ratio, turn, step = compton(energy, tables.scatter[material], step, history, k0, k1)
            left = min(np.int64(energy * ratio * _PER_UNIT), e)
            if left < _CUTOFF:
                return _deposit(flat, e, n, outside, voxel, energy_list, emitted)
            n, _, _, outside = _deposit(flat, e - left, n, outside, voxel, energy_list, emitted)
            e = left
        else:
            area = cross[material, row, 3]
            area += f * (cross[material, row + 1, 3] - area)
            cosine, turn, step = rayleigh(energy, area, tables.inverse_area[material], step, history, k0, k1)
        u, v, w = rotate(u, v, w, cosine, turn)


@njit(**INLINE)
def _deposit(flat, e, n, outside, voxel, energy_list, emitted):
    """Append a deposit (a full list adds to its last entry); returns as :func:`trace` does."""
    if flat < 0:
        return n, emitted, np.int64(0), outside + e
    if n > 0 and voxel[n - _I1] == flat:
        energy_list[n - _I1] += e
        return n, emitted, np.int64(0), outside
    if n > _FULL:
        energy_list[_FULL] += e
        return n, emitted, np.int64(0), outside
    voxel[n] = flat
    energy_list[n] = e
    return n + _I1, emitted, np.int64(0), outside


@njit(**INLINE)
def _score_fluence(x, y, z, u, v, w, start, stop, energy, row, f, rod, kerma, fluence):
    """Track-length estimate of collision kerma in the rods that ask for it."""
    px = x + start * u
    py = y + start * v
    pz = z + start * w
    factor = kerma[row]
    factor = (factor + f * (kerma[row + 1] - factor)) * energy * _CM * _PER_UNIT
    for k in range(rod.shape[0]):
        if rod[k, 7] > _ZERO:
            fluence[k] += np.int64(chord(px, py, pz, u, v, w, stop - start, rod, k) * factor)
