"""Interaction forcing: every photon that meets the grid collides in it, by the weight of doing so.

The first flight through the grid is divided in two: a part that has its next tentative collision in the grid, with
weight ``1 - exp(-T)`` (T the depth of the majorants along the ray), and one that passes with weight ``exp(-T)`` and
goes on behind. Both belong to one history. It pays where most photons would fly through.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import DEVICE, INLINE, draw_five
from twinlab.kernels.sampling import free_path
from twinlab.kernels.transport_batch import N_SCALAR
from twinlab.kernels.transport_collision import collide, deposit
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, MAX_DEPOSITS, energy_position
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_tally import REGION, VOXEL, atomic_add, square
from twinlab.kernels.transport_track import GONE, advance, ambience, approach

CHUNK = 2048  # histories of one task

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_SMALL = np.float32(0.05)
_HALF = np.float32(0.5)
_THIRD = np.float32(1.0 / 3.0)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_NEXT = np.uint64(1)
_I0 = np.int32(0)
_I1 = np.int32(1)
_I3 = np.int32(3)
_24 = np.uint64(24)
_BYTE = np.uint64(0xFF)


@njit(**INLINE)
def majorant_depth(x, y, z, u, v, w, iu, iv, iw, start, stop, row, grid):
    """Depth of the majorants of the blocks between two distances on a ray; the walk is that of ``fly``."""
    size, shape = grid.size, grid.shape
    ix = min(max(np.int32((x + start * u) * size[12]), _I0), shape[5] - _I3)
    iy = min(max(np.int32((y + start * v) * size[13]), _I0), shape[4] - _I3)
    iz = min(max(np.int32((z + start * w) * size[14]), _I0), shape[3] - _I3)
    at = (np.int64(iz + _I1) * shape[4] + (iy + _I1)) * shape[5] + (ix + _I1)
    ahead_x, ahead_y, ahead_z = iu > _ZERO, iv > _ZERO, iw > _ZERO
    sx = np.int64(1) if ahead_x else np.int64(-1)
    sy = np.int64(shape[5]) if ahead_y else -np.int64(shape[5])
    sz = np.int64(shape[4]) * shape[5]
    sz = sz if ahead_z else -sz
    tx = (np.float32(ix + np.int32(ahead_x)) * size[6] - x) * iu
    ty = (np.float32(iy + np.int32(ahead_y)) * size[7] - y) * iv
    tz = (np.float32(iz + np.int32(ahead_z)) * size[8] - z) * iw
    dx, dy, dz = size[6] * abs(iu), size[7] * abs(iv), size[8] * abs(iw)
    t, sum_ = start, _ZERO
    while t < stop:
        top = grid.majorant[np.uint64(row), (grid.block[np.uint64(at)] >> _24) & _BYTE]
        end = min(min(tx, ty), min(tz, stop))
        sum_ += top * max(end - t, _ZERO)
        t = end
        if tx <= end:
            at += sx
            tx += dx
        elif ty <= end:
            at += sy
            ty += dy
        else:
            at += sz
            tz += dz
    return sum_


@njit(**INLINE)
def _share(depth):
    """``1 - exp(-depth)``, and exact for small depths."""
    if depth < _SMALL:
        return depth * (_ONE - _HALF * depth * (_ONE - _THIRD * depth))
    return _ONE - math.exp(-depth)


@njit(**INLINE)
def _part_depth(uniform, share):
    """Depth of a collision, given that there is one: ``-log(1 - uniform share)``, exact for small shares."""
    s = uniform * share
    if s < _SMALL:
        return s * (_ONE + s * (_HALF + _THIRD * s))
    return free_path(_ONE - s)


@njit(**INLINE)
def _weigh(energy, weight):
    return np.int64(np.float64(energy) * weight + 0.5)


@njit(**INLINE)
def _branch(x, y, z, u, v, w, e, step, depth, history, k0, k1, grid, tables, weight, n, places, energies):
    """Follow a photon of some weight to its end; ``depth`` is that of its first flight.

    Returns
    -------
    n : int32
        Deposits in the lists.
    escaped, outside : int64
        Weighted energies carried out of the world and left in its air.
    step : uint64
    """
    first, outside = n, np.int64(0)
    while True:
        row, f = energy_position(np.float32(e) * _UNIT)
        a, b, c, d, turn = draw_five(step, history, k0, k1)
        step += _NEXT
        if depth < _ZERO:
            depth = free_path(a)
        iu, iv, iw, start, stop = approach(x, y, z, u, v, w, grid)
        air = ambience(row, f, grid, tables)
        t, start, flat, record, top = advance(
            x, y, z, u, v, w, iu, iv, iw, start, stop, air, row, depth, grid
        )
        if flat == GONE:
            break
        x += t * u
        y += t * v
        z += t * w
        depth = -_ONE
        place, lost, e, u, v, w, step = collide(
            x, y, z, u, v, w, e, row, f, flat, record, top, b, c, d, turn, grid, tables, step, history, k0, k1
        )  # fmt: skip
        n, outside = deposit(place, lost, n, outside, places, energies)
        if e == 0:
            break
    for i in range(first, n):
        energies[i] = _weigh(energies[i], weight)
    return n, _weigh(e, weight), _weigh(outside, weight), step


@njit(**DEVICE)
def trace_forced(history, k0, k1, grid, tables, source, places, energies):
    """A history whose first flight through the grid is forced.

    Parameters
    ----------
    history, k0, k1, grid, tables, source, places, energies
        As of :func:`twinlab.kernels.transport_history.trace`.

    Returns
    -------
    n : int32
    emitted, escaped, outside : int64
        emitted = escaped + outside + sum of the deposits, but for the rounding of each weighted energy.
    """
    x, y, z, u, v, w, e, step = emit(source, history, k0, k1)
    row, f = energy_position(np.float32(e) * _UNIT)
    iu, iv, iw, start, stop = approach(x, y, z, u, v, w, grid)
    a, b, _, _, _ = draw_five(step, history, k0, k1)
    step += _NEXT
    before = ambience(row, f, grid, tables) * start
    depth = free_path(a)
    weight, past = 1.0, 0.0
    if stop > start and depth > before:
        share = _share(majorant_depth(x, y, z, u, v, w, iu, iv, iw, start, stop, row, grid))
        depth = before + _part_depth(b, share)
        weight, past = np.float64(share), 1.0 - np.float64(share)
    n, escaped, outside, step = _branch(
        x, y, z, u, v, w, e, step, depth, history, k0, k1, grid, tables, weight, _I0, places, energies
    )
    if past > 0.0:
        if n > 0 and n < MAX_DEPOSITS:  # a mark, so that deposits of different weight are not joined
            places[n], energies[n] = np.int64(-1), np.int64(0)
            n += _I1
        n, beyond, left, step = _branch(
            x + stop * u, y + stop * v, z + stop * w, u, v, w, e, step, -_ONE,
            history, k0, k1, grid, tables, past, n, places, energies,
        )  # fmt: skip
        escaped += beyond
        outside += left
    return n, e, escaped, outside


@njit(**INLINE)
def _score(history, n, places, energies, scalars, region, total, with_voxels, voxel):
    """Join a history's deposits by region and by voxel, and add them and their squares."""
    deposited = np.int64(0)
    for i in range(n):
        if energies[i] > 0:
            total[places[i] & REGION] += energies[i]
            deposited += energies[i]
    scalars[3] += deposited
    scalars[4] += square(deposited, history)
    for i in range(n):
        if energies[i] == 0:
            continue
        k = places[i] & REGION
        if total[k] != 0:
            region[k, 0] += total[k]
            region[k, 1] += square(total[k], history)
            total[k] = 0
    if not with_voxels:
        return
    for i in range(n):
        e = energies[i]
        for j in range(i + 1, n):
            if places[j] == places[i]:
                e += energies[j]
                energies[j] = 0
        if e > 0:
            at = 2 * (places[i] >> VOXEL)
            atomic_add(voxel, at, e)
            atomic_add(voxel, at + 1, square(e, history))
        energies[i] = 0


@njit(cache=True, nogil=True, parallel=True)
def run_forcing(first, count, k0, k1, grid, tables, source, n_region, with_voxels, voxel):
    """Scalars and regions of some histories, as of :func:`twinlab.kernels.transport.run`."""
    n_chunk = (count + CHUNK - 1) // CHUNK
    scalars = np.zeros((n_chunk, N_SCALAR), np.int64)
    region = np.zeros((n_chunk, n_region, 2), np.int64)
    for chunk in prange(n_chunk):
        low = first + np.int64(chunk) * CHUNK
        high = min(low + CHUNK, first + count)
        total = np.zeros(n_region, np.int64)
        places = np.empty(MAX_DEPOSITS, np.int64)
        energies = np.empty(MAX_DEPOSITS, np.int64)
        own = scalars[chunk]
        for h in range(low, high):
            n, emitted, escaped, outside = trace_forced(
                np.uint64(h), k0, k1, grid, tables, source, places, energies
            )
            own[0] += emitted
            own[1] += escaped
            own[2] += outside
            _score(np.uint64(h), n, places, energies, own, region[chunk], total, with_voxels, voxel)
    return scalars.sum(axis=0), region.sum(axis=0)
