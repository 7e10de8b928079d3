"""Many photon histories on one CPU thread: what they deposit is added up as integers."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from twinlab.kernels.philox import DEVICE, draw_five
from twinlab.kernels.sampling import free_path
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, MAX_DEPOSITS, energy_position
from twinlab.kernels.transport_lengths import CAPACITY, full, walk
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_track import GONE, advance, collide, deposit, score_fluence

N_SCALAR = 5  # emitted, escaped, left in the world's air, deposited in the grid, its squares
REGION = np.int64(0xFFFF)  # mask of the region in a place
VOXEL = np.int64(16)  # bits before the voxel's index
_SLOTS = 16  # photons of a thread under way at once
_SHIFT = np.int64(26)  # from (2**-20 keV)^2 to 2**-14 keV^2
_HALF_SQUARE = np.int64(2**25)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_NEXT = np.uint64(1)


@intrinsic
def _atomic_add(typingctx, array, index, value):
    """``array[index] += value`` for a 1-D int64 array, safe between threads."""
    signature = types.void(array, types.int64, types.int64)

    def codegen(context, builder, sig, args):
        from numba.np.arrayobj import make_array

        data = make_array(sig.args[0])(context, builder, args[0])
        builder.atomic_rmw("add", builder.gep(data.data, [args[1]]), args[2], "monotonic")
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _prefetch(typingctx, array, index):
    """Ask for ``array[index]`` of a 1-D array before it is needed."""
    signature = types.void(array, types.int64)

    def codegen(context, builder, sig, args):
        from numba.np.arrayobj import make_array

        data = make_array(sig.args[0])(context, builder, args[0])
        byte = ir.IntType(8).as_pointer()
        place = builder.bitcast(builder.gep(data.data, [args[1]]), byte)
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return signature, codegen


@njit(**DEVICE)
def _draw_all(uniforms, stream, k0, k1):
    """Mean free paths and four uniforms for every slot; vectorised."""
    for j in range(_SLOTS):
        a, b, c, d, turn = draw_five(stream[0, j], stream[1, j], k0, k1)
        uniforms[0, j] = free_path(a)
        uniforms[1, j] = b
        uniforms[2, j] = c
        uniforms[3, j] = d
        uniforms[4, j] = turn
        stream[0, j] += _NEXT


@njit(**DEVICE)
def square(e):
    """Square of an energy (below 2047 keV) in units of ``SQUARE_UNIT`` keV^2, rounded; integers throughout."""
    return (e * e + _HALF_SQUARE) >> _SHIFT


@njit(**DEVICE)
def _tally(n, place, energy, rods, scalars, region, fluence, total, touched, with_regions):
    """Add a history's deposits to its regions, then the sums and squares of what it touched."""
    m = 0
    deposited = np.int64(0)
    for j in range(n):
        k = place[j] & REGION
        deposited += energy[j]
        if with_regions:
            if total[k] == 0:
                touched[m] = k
                m += 1
            total[k] += energy[j]
    scalars[3] += deposited
    scalars[4] += square(deposited)
    for j in range(m):
        k = touched[j]
        region[k, 0] += total[k]
        region[k, 1] += square(total[k])
        total[k] = 0
    for k in range(rods.shape[0]):
        if rods[k] != 0:
            fluence[k, 0] += rods[k]
            fluence[k, 1] += square(rods[k])
            rods[k] = 0


@njit(**DEVICE)
def _tally_along(along, region):
    """Add a history's track-length scores to its regions, and start afresh."""
    for k in range(along.shape[0]):
        if along[k] != 0:
            region[k, 0] += along[k]
            region[k, 1] += square(along[k])
            along[k] = 0


@njit(**DEVICE)
def _empty(keys, values, used, n, flat):
    """Add a history's voxels to the dose map, and start afresh."""
    for i in range(n):
        h = used[i]
        at = 2 * keys[h]
        _atomic_add(flat, at, values[h])
        _atomic_add(flat, at + 1, square(values[h]))
        keys[h] = -1
    return np.int64(0)


@njit(**DEVICE)
def _tally_voxels(n, place, energy, flat):
    """Add a history's deposits to the dose map; deposits of one voxel are joined before squaring."""
    for j in range(n):
        if energy[j] == 0:
            continue
        e = energy[j]
        for i in range(j + 1, n):
            if place[i] == place[j]:
                e += energy[i]
                energy[i] = 0
        at = 2 * (place[j] >> VOXEL)
        _atomic_add(flat, at, e)
        _atomic_add(flat, at + 1, square(e))


@njit(cache=True, nogil=True, error_model="numpy")
def follow(
    low, high, k0, k1, grid, tables, source, scalars, region, fluence, lengths, with_voxels, voxel_flat
):
    """Follow a range of histories, ``_SLOTS`` at a time, and add up their scores.

    What a collision waits for is the voxel's record from memory. So all photons under way fly to their next
    tentative collision and ask for their record; when the last has asked, the first has its answer.
    """
    n_rod = fluence.shape[0]
    total = np.zeros(region.shape[0], np.int64)
    touched = np.empty(MAX_DEPOSITS, np.int64)
    rods = np.zeros((_SLOTS, n_rod), np.int64)
    places = np.empty((_SLOTS, MAX_DEPOSITS), np.int64)
    energies = np.empty((_SLOTS, MAX_DEPOSITS), np.int64)
    space = np.zeros((_SLOTS, 8), np.float32)
    uniforms = np.zeros((5, _SLOTS), np.float32)
    stream = np.zeros((2, _SLOTS), np.uint64)
    energy = np.zeros(_SLOTS, np.int64)
    row = np.zeros(_SLOTS, np.int32)
    flat = np.zeros(_SLOTS, np.int64)
    record = np.zeros(_SLOTS, np.uint64)
    count = np.zeros(_SLOTS, np.int32)
    n_length = region.shape[0] if lengths else 0
    n_join = CAPACITY if lengths and with_voxels else 0
    along = np.zeros((_SLOTS, n_length), np.int64)
    keys = np.full((_SLOTS, n_join), np.int64(-1))
    values = np.zeros((_SLOTS, n_join), np.int64)
    used = np.zeros((_SLOTS, n_join), np.int64)
    n_used = np.zeros(_SLOTS, np.int64)
    live = np.arange(_SLOTS)
    fresh = np.int64(min(_SLOTS, high - low))  # slots at the end of the live ones that want a new history
    active = fresh
    following = low
    while active > 0:
        for i in range(active - fresh, active):
            j = live[i]
            x, y, z, u, v, w, e, step = emit(source, np.uint64(following), k0, k1)
            space[j, 0], space[j, 1], space[j, 2], space[j, 3], space[j, 4], space[j, 5] = x, y, z, u, v, w
            stream[0, j], stream[1, j] = step, np.uint64(following)
            energy[j], count[j] = e, 0
            scalars[0] += e
            following += 1
        _draw_all(uniforms, stream, k0, k1)
        for i in range(active):
            j = live[i]
            x, y, z, u, v, w = space[j, 0], space[j, 1], space[j, 2], space[j, 3], space[j, 4], space[j, 5]
            k, f = energy_position(np.float32(energy[j]) * _UNIT)
            t, start, at, block, top = advance(x, y, z, u, v, w, k, f, uniforms[0, j], grid, tables)
            if n_rod > 0:
                score_fluence(
                    x, y, z, u, v, w, start, t, energy[j], k, f, grid.rod, tables.kerma, rods[j]
                )  # fmt: skip
            if lengths and start < t:
                n_used[j] = walk(
                    x, y, z, u, v, w, start, t, energy[j], k, f, grid, tables,
                    along[j], with_voxels, keys[j], values[j], used[j], n_used[j],
                )  # fmt: skip
                if with_voxels and full(n_used[j]):
                    n_used[j] = _empty(keys[j], values[j], used[j], n_used[j], voxel_flat)
            space[j, 0], space[j, 1], space[j, 2], space[j, 6], space[j, 7] = (
                x + t * u,
                y + t * v,
                z + t * w,
                f,
                top,
            )
            row[j], flat[j], record[j] = k, at, block
            if at >= 0 and grid.kind[0] == 0:
                _prefetch(grid.voxel, at)
        fresh = np.int64(0)
        i = np.int64(0)
        while i < active - fresh:
            j = live[i]
            outside = np.int64(0)
            if flat[j] != GONE:
                x, y, z, u, v, w = (
                    space[j, 0],
                    space[j, 1],
                    space[j, 2],
                    space[j, 3],
                    space[j, 4],
                    space[j, 5],
                )
                place, lost, e, u, v, w, step = collide(
                    x, y, z, u, v, w, energy[j], row[j], space[j, 6], flat[j], record[j], space[j, 7],
                    uniforms[1, j], uniforms[2, j], uniforms[3, j], uniforms[4, j],
                    grid, tables, stream[0, j], stream[1, j], k0, k1,
                )  # fmt: skip
                count[j], outside = deposit(place, lost, count[j], outside, places[j], energies[j])
                scalars[2] += outside
                if e > 0:
                    space[j, 3], space[j, 4], space[j, 5] = u, v, w
                    energy[j], stream[0, j] = e, step
                    i += 1
                    continue
            else:
                scalars[1] += energy[j]
            _tally(
                count[j],
                places[j],
                energies[j],
                rods[j],
                scalars,
                region,
                fluence,
                total,
                touched,
                not lengths,
            )
            if lengths:
                _tally_along(along[j], region)
                if with_voxels:
                    n_used[j] = _empty(keys[j], values[j], used[j], n_used[j], voxel_flat)
            elif with_voxels:
                _tally_voxels(count[j], places[j], energies[j], voxel_flat)
            fresh += 1
            live[i], live[active - fresh] = live[active - fresh], live[i]
        left = high - following
        if fresh > left:
            active -= fresh - left
            # the slots that wait lie at the end: the last of them get nothing more
            fresh = left
