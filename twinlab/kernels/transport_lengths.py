"""Track-length estimate of the energy that photons leave along their way, voxel by voxel.

A flight of length l in a voxel is expected to leave ``E l mu_abs`` there whether it collides or not: thin or light
regions, in which few photons collide, get their dose from every photon that passes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE, INLINE
from twinlab.kernels.transport_data import unpack
from twinlab.kernels.transport_track import box, inverse

CAPACITY = 4096  # voxels of one history that are joined before squaring; more are scored as another history
_FULL = CAPACITY * 3 // 4
_FREE = np.int64(-1)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_TOP = np.uint64(64 - 12)
_MASK = np.int64(CAPACITY - 1)
_ZERO = np.float32(0.0)
_I0 = np.int32(0)
_I1 = np.int32(1)


@njit(**DEVICE)
def join(flat, energy, keys, values, used, n):
    """Add to a voxel's sum in a small hash table; returns how many voxels it holds."""
    h = np.int64((np.uint64(flat) * _SPREAD) >> _TOP)
    while keys[h] != flat and keys[h] != _FREE:
        h = (h + 1) & _MASK
    if keys[h] == _FREE:
        keys[h] = flat
        values[h] = 0
        used[n] = h
        n += 1
    values[h] += energy
    return n


@njit(**INLINE)
def walk(x, y, z, u, v, w, start, end, e, row, f, grid, tables, total, joined, keys, values, used, n):
    """Score one flight from ``start`` to ``end`` (or the grid's far face) in regions, and voxels where asked for.

    Parameters
    ----------
    x, y, z, u, v, w, start, end : float32
        Origin, direction, and distances on it, mm.
    e : int64
        Energy, ``ENERGY_UNIT_KEV``.
    row, f : int32, float32
        Energy position.
    grid, tables : Grid, Tables
    total : (n_region,) int64, added to
    joined : bool
        Also voxels.
    keys, values, used : (CAPACITY,) int64
        Table of the history's voxels.
    n : int64
        Voxels in it.

    Returns
    -------
    n : int64

    References
    ----------
    Williamson J F 1987, Med. Phys. 14:567.
    """
    size, shape = grid.size, grid.shape
    iu, iv, iw = inverse(u), inverse(v), inverse(w)
    _, stop = box(x, y, z, iu, iv, iw, _ZERO, _ZERO, _ZERO, size[0], size[1], size[2])
    end = min(end, stop)
    ix = min(max(np.int32((x + start * u) * size[9]), _I0), shape[2] - _I1)
    iy = min(max(np.int32((y + start * v) * size[10]), _I0), shape[1] - _I1)
    iz = min(max(np.int32((z + start * w) * size[11]), _I0), shape[0] - _I1)
    sx = 1 if iu > _ZERO else -1
    sy = 1 if iv > _ZERO else -1
    sz = 1 if iw > _ZERO else -1
    tx = (np.float32(ix + (1 if sx > 0 else 0)) * size[3] - x) * iu
    ty = (np.float32(iy + (1 if sy > 0 else 0)) * size[4] - y) * iv
    tz = (np.float32(iz + (1 if sz > 0 else 0)) * size[5] - z) * iw
    dx, dy, dz = size[3] * abs(iu), size[4] * abs(iv), size[5] * abs(iw)
    energy = np.float32(e)
    t = start
    while t < end:
        flat = (np.int64(iz) * shape[1] + iy) * shape[2] + ix
        material, region, density = unpack(grid.voxel[flat])
        near = min(min(tx, ty), min(tz, end))
        share = tables.absorption[material, row]
        share += f * (tables.absorption[material, row + 1] - share)
        left = np.int64(energy * share * density * (near - t))
        if left > 0:
            total[region] += left
            if joined:
                n = join(flat, left, keys, values, used, n)
        t = near
        if tx <= near:
            ix += sx
            tx += dx
            if ix < 0 or ix >= shape[2]:
                break
        elif ty <= near:
            iy += sy
            ty += dy
            if iy < 0 or iy >= shape[1]:
                break
        else:
            iz += sz
            tz += dz
            if iz < 0 or iz >= shape[0]:
                break
    return n


@njit(**DEVICE)
def full(n):
    """Whether a table of ``n`` voxels should be emptied before the next flight."""
    return n > _FULL
