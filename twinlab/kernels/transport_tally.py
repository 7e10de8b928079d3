"""What histories leave, added up as integers: regions, voxels, and their squares by history."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from twinlab.kernels.philox import DEVICE, INLINE

REGION = np.int64(0xFFFF)  # mask of the region in a place
VOXEL = np.int64(16)  # bits before the voxel's index
_SHIFT = np.int64(26)  # from (2**-20 keV)^2 to 2**-14 keV^2
_BELOW = np.uint64(2**26 - 1)
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)


@intrinsic
def atomic_add(typingctx, array, index, value):
    """``array[index] += value`` for a 1-D int64 array, safe between threads."""
    signature = types.void(array, types.int64, types.int64)

    def codegen(context, builder, sig, args):
        from numba.np.arrayobj import make_array

        data = make_array(sig.args[0])(context, builder, args[0])
        builder.atomic_rmw("add", builder.gep(data.data, [args[1]]), args[2], "monotonic")
        return context.get_dummy_value()  # nothing: the function is void

    return signature, codegen


@njit(**INLINE)
def square(e, history):
    """Square of an energy (below 2047 keV) in units of ``SQUARE_UNIT`` keV^2; integers throughout.

    It is rounded up or down by chance, so that sums are right on average where single squares are far below the unit.
    The chance hangs on energy and history only: the same on any thread.

    References
    ----------
    Steele G L et al. 2014, Proc. OOPSLA:453 (the mixing of bits).
    """
    bits = np.uint64(history) * _GOLDEN + np.uint64(e)
    bits = (bits ^ (bits >> _30)) * _MIX_1
    bits = (bits ^ (bits >> _27)) * _MIX_2
    bits ^= bits >> _31
    return (e * e + np.int64(bits & _BELOW)) >> _SHIFT


@njit(**INLINE)
def tally(history, n, place, energy, rods, scalars, region, fluence, total, touched, with_regions):
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
    scalars[4] += square(deposited, history)
    for j in range(m):
        k = touched[j]
        region[k, 0] += total[k]
        region[k, 1] += square(total[k], history)
        total[k] = 0
    for k in range(rods.shape[0]):
        if rods[k] != 0:
            fluence[k, 0] += rods[k]
            fluence[k, 1] += square(rods[k], history)
            rods[k] = 0


@njit(**DEVICE)
def tally_along(history, along, region):
    """Add a history's track-length scores to its regions, and start afresh."""
    for k in range(along.shape[0]):
        if along[k] != 0:
            region[k, 0] += along[k]
            region[k, 1] += square(along[k], history)
            along[k] = 0


@njit(**INLINE)
def tally_reached(history, along, reached, region):
    """As :func:`tally_along` for the ``reached[0]`` regions that ``reached[1:]`` lists."""
    for i in range(1, reached[0] + 1):
        k = reached[i]
        region[k, 0] += along[k]
        region[k, 1] += square(along[k], history)
        along[k] = 0
    reached[0] = 0


@njit(**DEVICE)
def empty(history, keys, values, used, n, flat):
    """Add a history's voxels to the dose map, and start afresh."""
    for i in range(n):
        h = used[i]
        at = 2 * keys[h]
        atomic_add(flat, at, values[h])
        atomic_add(flat, at + 1, square(values[h], history))
        keys[h] = -1
    return np.int64(0)


@njit(**DEVICE)
def tally_voxels(history, n, place, energy, flat):
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
        atomic_add(flat, at, e)
        atomic_add(flat, at + 1, square(e, history))
