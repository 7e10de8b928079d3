"""CPU driver of the photon transport, tallies, and the block majorants that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange, types
from numba.extending import intrinsic

from twinlab.kernels.philox import DEVICE, key
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, MAX_DEPOSITS, SQUARE_UNIT, Grid, Source, Tables
from twinlab.kernels.transport_track import trace

_CHUNK = 2048  # histories of one task: short enough to balance threads, long enough to hide its buffers
_SHIFT = np.int64(26)  # from (2**-20 keV)^2 to 2**-14 keV^2
_HALF_SQUARE = np.int64(2**25)
_N_SCALAR = 5


class Tally(NamedTuple):
    """Integer scores of a run; sums of tallies of disjoint history ranges are the tally of their union."""

    histories: int
    energy: (
        np.ndarray
    )  # (5,) int64: emitted, escaped, left in the world's air, deposited in the grid, its squares
    region: np.ndarray  # (n_region, 2) int64: sum, sum of squares per history
    fluence: np.ndarray  # (n_rod, 2) int64
    voxel: np.ndarray  # (n_voxel, 2) int64, or (1, 2) when not asked for


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


@njit(**DEVICE)
def square(e):
    """Square of an energy (below 2047 keV) in units of ``SQUARE_UNIT`` keV^2, rounded; integers throughout."""
    return (e * e + _HALF_SQUARE) >> _SHIFT


@njit(**DEVICE)
def _tally_regions(n, voxel, energy, region_of, region, total, touched):
    """Add a history's deposits to its regions, then the sums and squares of the regions touched."""
    m = 0
    for j in range(n):
        k = region_of[voxel[j]]
        if total[k] == 0:
            touched[m] = k
            m += 1
        total[k] += energy[j]
    for j in range(m):
        k = touched[j]
        region[k, 0] += total[k]
        region[k, 1] += square(total[k])
        total[k] = 0


@njit(**DEVICE)
def _tally_voxels(n, voxel, energy, flat):
    """Add a history's deposits to the dose map; deposits of one voxel are joined before squaring."""
    for j in range(n):
        if energy[j] == 0:
            continue
        e = energy[j]
        for i in range(j + 1, n):
            if voxel[i] == voxel[j]:
                e += energy[i]
                energy[i] = 0
        _atomic_add(flat, 2 * voxel[j], e)
        _atomic_add(flat, 2 * voxel[j] + 1, square(e))


@njit(cache=True, nogil=True, parallel=True)
def _run(first, count, k0, k1, grid, tables, source, region_of, n_region, with_voxels, voxel_flat):
    n_chunk = (count + _CHUNK - 1) // _CHUNK
    n_rod = grid.rod.shape[0]
    scalars = np.zeros((n_chunk, _N_SCALAR), np.int64)
    region = np.zeros((n_chunk, n_region, 2), np.int64)
    fluence = np.zeros((n_chunk, n_rod, 2), np.int64)
    for chunk in prange(n_chunk):
        voxel = np.empty(MAX_DEPOSITS, np.int64)
        energy = np.empty(MAX_DEPOSITS, np.int64)
        touched = np.empty(MAX_DEPOSITS, np.int64)
        total = np.zeros(n_region, np.int64)
        rods = np.zeros(n_rod, np.int64)
        low = np.int64(chunk) * _CHUNK
        for h in range(low, min(low + _CHUNK, count)):
            n, emitted, escaped, outside = trace(
                np.uint64(first + h), k0, k1, grid, tables, source, voxel, energy, rods
            )
            scalars[chunk, 0] += emitted
            scalars[chunk, 1] += escaped
            scalars[chunk, 2] += outside
            deposited = np.int64(0)
            for j in range(n):
                deposited += energy[j]
            scalars[chunk, 3] += deposited
            scalars[chunk, 4] += square(deposited)
            _tally_regions(n, voxel, energy, region_of, region[chunk], total, touched)
            for k in range(n_rod):
                if rods[k] != 0:
                    fluence[chunk, k, 0] += rods[k]
                    fluence[chunk, k, 1] += square(rods[k])
                    rods[k] = 0
            if with_voxels:
                _tally_voxels(n, voxel, energy, voxel_flat)
    return scalars.sum(axis=0), region.sum(axis=0), fluence.sum(axis=0)


def run(
    grid: Grid,
    tables: Tables,
    source: Source,
    *,
    histories: int,
    seed: int,
    n_region: int,
    first_history: int = 0,
    voxel_map: bool = False,
    batch: int = 1_000_000,
    progress: Callable[[int], Any] | None = None,
) -> Tally:
    """Transport photons on the CPU.

    Parameters
    ----------
    grid, tables, source : Grid, Tables, Source
    histories : int
        Photons to start.
    seed : int
        Key of the random numbers. A history's fate depends on (seed, its index) only, so the tally is the
        same for any number of threads and any division into batches.
    n_region : int
        Scored regions; ``grid.region`` holds indices below it. With a cylinder the regions are: outside,
        cylinder, rods.
    first_history : int
        Index of the first history, to continue an earlier run.
    voxel_map : bool
        Also score every voxel (16 bytes each, about 10 % slower).
    batch : int
        Histories between two calls of ``progress``.
    progress : callable, optional
        Called with the number of histories just done.

    Returns
    -------
    Tally
        Integers; :func:`mean_sd` turns them into values.
    """
    k0, k1 = key(seed)
    if int(grid.kind[0]) == 0:
        region_of = grid.region.reshape(-1)
    else:
        region_of = np.arange(max(n_region, grid.rod.shape[0] + 1), dtype=np.uint16)
    voxel = np.zeros((grid.material.size if voxel_map else 1, 2), np.int64)
    energy = np.zeros(_N_SCALAR, np.int64)
    region = np.zeros((n_region, 2), np.int64)
    fluence = np.zeros((grid.rod.shape[0], 2), np.int64)
    done = 0
    while done < histories:
        count = min(batch, histories - done)
        parts = _run(
            first_history + done,
            count,
            k0,
            k1,
            grid,
            tables,
            source,
            region_of,
            n_region,
            voxel_map,
            voxel.reshape(-1),
        )
        energy += parts[0]
        region += parts[1]
        fluence += parts[2]
        done += count
        if progress is not None:
            progress(count)
    return Tally(histories, energy, region, fluence, voxel)


def threads() -> int:
    """Threads that :func:`run` will use."""
    return int(get_num_threads())


def mean_sd(scores: np.ndarray, histories: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean energy per history and its standard uncertainty from integer scores.

    Parameters
    ----------
    scores : (..., 2) int64
        Sums and sums of squares.
    histories : int
        Histories behind them.

    Returns
    -------
    mean, sd : (...) float64
        keV per history; sd from the history-by-history variance.

    References
    ----------
    Walters B R B, Kawrakow I, Rogers D W O 2002, Med. Phys. 29:2745.
    """
    mean = scores[..., 0] * (ENERGY_UNIT_KEV / histories)
    square = scores[..., 1] * (SQUARE_UNIT / histories)
    variance = np.maximum(square - mean * mean, 0.0) / max(histories - 1, 1)
    return mean, np.sqrt(variance)
