"""Many photon histories on one CPU thread: what they deposit is added up as integers."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from twinlab.kernels.philox import DEVICE, INLINE, draw, draw_five
from twinlab.kernels.sampling import free_path
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, MAX_DEPOSITS, energy_position
from twinlab.kernels.transport_lengths import CAPACITY, full, join, walk
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_splitting import branch, importance, recall, room
from twinlab.kernels.transport_track import (
    GONE,
    STRAIGHT,
    advance,
    ambience,
    approach,
    deflect,
    deposit,
    interact,
    score_fluence,
)

N_SCALAR = 5  # emitted, escaped, left in the world's air, deposited in the grid, its squares
REGION = np.int64(0xFFFF)  # mask of the region in a place
VOXEL = np.int64(16)  # bits before the voxel's index
_SLOTS = 16  # photons of a thread under way at once
_SHIFT = np.int64(26)  # from (2**-20 keV)^2 to 2**-14 keV^2
_HALF_SQUARE = np.int64(2**25)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_NEXT = np.uint64(1)
_ZERO = np.float32(0.0)
# what the slots hold, one after the other in one array: the compiler then sees that they lie apart
(
    _X, _Y, _Z, _U, _V, _W, _F, _TOP, _IU, _IV, _IW, _START, _STOP, _AIR, _A, _B, _C, _D, _TURN, _COSINE,
) = range(0, 20 * _SLOTS, _SLOTS)  # fmt: skip


@intrinsic
def _atomic_add(typingctx, array, index, value):
    """``array[index] += value`` for a 1-D int64 array, safe between threads."""
    signature = types.void(array, types.int64, types.int64)

    def codegen(context, builder, sig, args):
        from numba.np.arrayobj import make_array

        data = make_array(sig.args[0])(context, builder, args[0])
        builder.atomic_rmw("add", builder.gep(data.data, [args[1]]), args[2], "monotonic")
        return context.get_dummy_value()  # nothing: the function is void

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
        return context.get_dummy_value()  # nothing: the function is void

    return signature, codegen


@njit(**INLINE)
def _prepare_all(real, energy, row, stream, k0, k1, grid, tables):
    """Random numbers, energy position and way to the grid of every slot; vectorised."""
    for j in range(_SLOTS):
        a, b, c, d, turn = draw_five(stream[j], stream[_SLOTS + j], k0, k1)
        real[_A + j] = free_path(a)
        real[_B + j] = b
        real[_C + j] = c
        real[_D + j] = d
        real[_TURN + j] = turn
        stream[j] += _NEXT
    for j in range(_SLOTS):
        k, f = energy_position(np.float32(energy[j]) * _UNIT)
        row[j] = k
        real[_F + j] = f
        real[_AIR + j] = ambience(k, f, grid, tables)
    for j in range(_SLOTS):
        real[_IU + j], real[_IV + j], real[_IW + j], real[_START + j], real[_STOP + j] = approach(
            real[_X + j], real[_Y + j], real[_Z + j], real[_U + j], real[_V + j], real[_W + j], grid
        )


@njit(**INLINE)
def _deflect_all(real):
    """New direction of every slot; vectorised."""
    for j in range(_SLOTS):
        real[_U + j], real[_V + j], real[_W + j] = deflect(
            real[_U + j], real[_V + j], real[_W + j], real[_COSINE + j], real[_TURN + j]
        )


@njit(**INLINE)
def square(e):
    """Square of an energy (below 2047 keV) in units of ``SQUARE_UNIT`` keV^2, rounded; integers throughout."""
    return (e * e + _HALF_SQUARE) >> _SHIFT


@njit(**INLINE)
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


@njit(**INLINE)
def _tally_reached(along, reached, region):
    """As :func:`_tally_along` for the ``reached[0]`` regions that ``reached[1:]`` lists."""
    for i in range(1, reached[0] + 1):
        k = reached[i]
        region[k, 0] += along[k]
        region[k, 1] += square(along[k])
        along[k] = 0
    reached[0] = 0


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


@njit(**INLINE)
def _branch(
    j, place, lost, e, step, real, stream, k0, k1, rule, waiting,
    scalars, left_in, along, reached, with_voxels, keys, values, used, n_used,
):  # fmt: skip
    """Score a collision by its photon's weight, then split the photon or play roulette with it.

    Returns
    -------
    n_used : int64
        Voxels of the history.
    goes_on : bool
    """
    lost >>= waiting.level[j]
    if lost > 0:
        if place < 0:
            scalars[2] += lost
        else:
            left_in[j] += lost
            k = place & REGION
            if along[k] == 0:
                reached[0] += 1
                reached[reached[0]] = k
            along[k] += lost
            if with_voxels:
                n_used = join(place >> VOXEL, lost, keys, values, used, n_used)
    stream[j] = step
    if e == 0:
        return n_used, False
    if importance(real[_Z + j], rule) == waiting.level[j]:
        return n_used, True
    pick, _, _, _ = draw(step, stream[_SLOTS + j], k0, k1)
    stream[j] += _NEXT
    real[_U + j], real[_V + j], real[_W + j] = deflect(
        real[_U + j], real[_V + j], real[_W + j], real[_COSINE + j], real[_TURN + j]
    )
    real[_COSINE + j] = STRAIGHT
    goes_on = branch(
        waiting, j, real[_X + j], real[_Y + j], real[_Z + j], real[_U + j], real[_V + j], real[_W + j],
        e, pick, rule,
    )  # fmt: skip
    return n_used, goes_on


@njit(cache=True, nogil=True, error_model="numpy")
def follow(
    low, high, k0, k1, grid, tables, source, scalars, region, fluence, lengths, with_voxels, voxel_flat, rule
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
    real = np.ones(20 * _SLOTS, np.float32)
    stream = np.zeros(2 * _SLOTS, np.uint64)
    energy = np.zeros(_SLOTS, np.int64)
    row = np.zeros(_SLOTS, np.int32)
    flat = np.zeros(_SLOTS, np.int64)
    record = np.zeros(_SLOTS, np.uint64)
    count = np.zeros(_SLOTS, np.int32)
    split = rule.ndim == 2
    law = rule.reshape(-1)
    waiting = room(_SLOTS if split else 0)
    left_in = np.zeros(_SLOTS, np.int64)  # the grid, by the histories whose photons are split
    n_length = region.shape[0] if lengths or split else 0
    reached = np.zeros((_SLOTS, n_length + 1), np.int64)
    n_join = CAPACITY if (lengths or split) and with_voxels else 0
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
            (
                real[_X + j], real[_Y + j], real[_Z + j], real[_U + j], real[_V + j], real[_W + j], e, step,
            ) = emit(source, np.uint64(following), k0, k1)  # fmt: skip
            stream[j], stream[_SLOTS + j] = step, np.uint64(following)
            energy[j], count[j] = e, 0
            scalars[0] += e
            following += 1
        _prepare_all(real, energy, row, stream, k0, k1, grid, tables)
        for i in range(active):
            j = live[i]
            x, y, z, u, v, w = (
                real[_X + j],
                real[_Y + j],
                real[_Z + j],
                real[_U + j],
                real[_V + j],
                real[_W + j],
            )
            t, start, at, record[j], real[_TOP + j] = advance(
                x, y, z, u, v, w, real[_IU + j], real[_IV + j], real[_IW + j],
                real[_START + j], real[_STOP + j], real[_AIR + j], row[j], real[_A + j], grid,
            )  # fmt: skip
            if n_rod > 0:
                score_fluence(
                    x, y, z, u, v, w, start, t, energy[j], row[j], real[_F + j], grid.rod, tables.kerma, rods[j]
                )  # fmt: skip
            if lengths and start < t:
                n_used[j] = walk(
                    x, y, z, u, v, w, start, t, energy[j], row[j], real[_F + j], grid, tables,
                    along[j], with_voxels, keys[j], values[j], used[j], n_used[j],
                )  # fmt: skip
                if with_voxels and full(n_used[j]):
                    n_used[j] = _empty(keys[j], values[j], used[j], n_used[j], voxel_flat)
            real[_X + j], real[_Y + j], real[_Z + j] = x + t * u, y + t * v, z + t * w
            flat[j] = at
            if at >= 0 and grid.kind[0] == 0:
                _prefetch(grid.voxel, at)
        fresh = np.int64(0)
        i = np.int64(0)
        while i < active - fresh:
            j = live[i]
            outside = np.int64(0)
            if flat[j] != GONE:
                place, lost, e, real[_COSINE + j], step = interact(
                    real[_X + j], real[_Y + j], real[_Z + j], energy[j], row[j], real[_F + j],
                    flat[j], record[j], real[_TOP + j], real[_B + j], real[_C + j], real[_D + j],
                    grid, tables, stream[j], stream[_SLOTS + j], k0, k1,
                )  # fmt: skip
                if split:
                    n_used[j], goes_on = _branch(
                        j, place, lost, e, step, real, stream, k0, k1, law, waiting,
                        scalars, left_in, along[j], reached[j], with_voxels, keys[j], values[j], used[j], n_used[j],
                    )  # fmt: skip
                    if with_voxels and full(n_used[j]):
                        n_used[j] = _empty(keys[j], values[j], used[j], n_used[j], voxel_flat)
                    if goes_on:
                        energy[j] = e
                        i += 1
                        continue
                else:
                    count[j], outside = deposit(place, lost, count[j], outside, places[j], energies[j])
                    scalars[2] += outside
                    if e > 0:
                        energy[j], stream[j] = e, step
                        i += 1
                        continue
            elif split:
                scalars[1] += energy[j] >> waiting.level[j]
            else:
                scalars[1] += energy[j]
            if split:
                (
                    real[_X + j], real[_Y + j], real[_Z + j], real[_U + j], real[_V + j], real[_W + j], e,
                ) = recall(waiting, j)  # fmt: skip
                real[_COSINE + j] = STRAIGHT
                if e > 0:
                    energy[j] = e
                    i += 1
                    continue
                scalars[3] += left_in[j]
                scalars[4] += square(left_in[j])
                left_in[j] = 0
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
                not (lengths or split),
            )
            if lengths or split:
                if split:
                    _tally_reached(along[j], reached[j], region)
                else:
                    _tally_along(along[j], region)
                if with_voxels:
                    n_used[j] = _empty(keys[j], values[j], used[j], n_used[j], voxel_flat)
            elif with_voxels:
                _tally_voxels(count[j], places[j], energies[j], voxel_flat)
            fresh += 1
            live[i], live[active - fresh] = live[active - fresh], live[i]
        _deflect_all(real)
        left = high - following
        if fresh > left:
            active -= fresh - left
            # the slots that wait lie at the end: the last of them get nothing more
            fresh = left
