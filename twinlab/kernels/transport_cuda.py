"""GPU driver of the photon transport: the CPU's scalar functions behind ``cuda.grid``.

The stream of a history, the tables and the integer scores are those of the CPU driver, so both give the
same tally up to float32 rounding of elementary functions. Needs the ``gpu`` extra; the module itself can be
imported anywhere, and compiled (not run) with the ``test`` extra.
"""

from __future__ import annotations

import numpy as np

from twinlab.kernels.philox import key
from twinlab.kernels.transport import Tally
from twinlab.kernels.transport_data import MAX_DEPOSITS, Grid, Source, Tables
from twinlab.kernels.transport_history import trace
from twinlab.kernels.transport_tally import REGION, VOXEL, square

try:
    from numba import cuda, int64
except ImportError:  # a Numba without CUDA; available() says so
    cuda = None  # type: ignore[assignment]

THREADS = 128  # of a block; registers limit the occupancy, not this
COPIES = 64  # of the region scores, so that threads seldom wait for each other
MAX_RODS = 64


def kernel(first, count, k0, k1, grid, tables, source, with_voxels, scalars, region, rods, voxels):
    """CUDA kernel, uncompiled: a thread follows every gridsize-th history."""
    places = cuda.local.array(MAX_DEPOSITS, int64)
    energy = cuda.local.array(MAX_DEPOSITS, int64)
    fluence = cuda.local.array(MAX_RODS, int64)
    n_rod = grid.rod.shape[0]
    copy = cuda.blockIdx.x % COPIES
    for k in range(n_rod):
        fluence[k] = 0
    for h in range(cuda.grid(1), count, cuda.gridsize(1)):
        history = np.uint64(first + h)
        n, emitted, escaped, outside = trace(history, k0, k1, grid, tables, source, places, energy, fluence)
        deposited = np.int64(0)
        for j in range(n):
            deposited += energy[j]
        cuda.atomic.add(scalars, (copy, 0), emitted)
        cuda.atomic.add(scalars, (copy, 1), escaped)
        cuda.atomic.add(scalars, (copy, 2), outside)
        cuda.atomic.add(scalars, (copy, 3), deposited)
        cuda.atomic.add(scalars, (copy, 4), square(deposited, history))
        for k in range(n_rod):
            if fluence[k] != 0:
                cuda.atomic.add(rods, (copy, k, 0), fluence[k])
                cuda.atomic.add(rods, (copy, k, 1), square(fluence[k], history))
                fluence[k] = 0
        # join deposits of one voxel, then of one region, before squaring
        if with_voxels:
            for j in range(n):
                e = energy[j]
                seen = False
                for i in range(j):
                    if places[i] == places[j]:
                        seen = True
                if not seen:
                    for i in range(j + 1, n):
                        if places[i] == places[j]:
                            e += energy[i]
                    cuda.atomic.add(voxels, (places[j] >> VOXEL, 0), e)
                    cuda.atomic.add(voxels, (places[j] >> VOXEL, 1), square(e, history))
        for j in range(n):
            k = places[j] & REGION
            e = energy[j]
            seen = False
            for i in range(j):
                if places[i] & REGION == k:
                    seen = True
            if not seen:
                for i in range(j + 1, n):
                    if places[i] & REGION == k:
                        e += energy[i]
                cuda.atomic.add(region, (copy, k, 0), e)
                cuda.atomic.add(region, (copy, k, 1), square(e, history))


def available() -> str:
    """Empty when a CUDA device can be used, else the reason why not."""
    if cuda is None:
        return "numba-cuda is not installed"
    try:
        if not cuda.is_available():
            return "no CUDA device"
    except Exception as error:  # a missing or broken driver shows itself in many ways
        return f"no CUDA: {error}"
    return ""


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
) -> Tally:
    """Transport photons on a CUDA device; parameters and result as :func:`twinlab.kernels.transport.run`.

    Raises
    ------
    RuntimeError
        No CUDA device, or more than 64 rods.
    """
    reason = available()
    if reason:
        raise RuntimeError(f"transport on cuda: {reason}")
    n_rod = grid.rod.shape[0]
    if n_rod > MAX_RODS:
        raise RuntimeError(f"transport on cuda: expected at most {MAX_RODS} rods; got {n_rod}")
    compiled = cuda.jit(kernel, fastmath=True)
    k0, k1 = key(seed)
    on_device = [
        type(part)(*(cuda.to_device(np.ascontiguousarray(a)) for a in part))
        for part in (grid, tables, source)
    ]
    scalars = cuda.to_device(np.zeros((COPIES, 5), np.int64))
    region = cuda.to_device(np.zeros((COPIES, n_region, 2), np.int64))
    rods = cuda.to_device(np.zeros((COPIES, max(n_rod, 1), 2), np.int64))
    voxels = cuda.to_device(np.zeros((grid.voxel.size if voxel_map else 1, 2), np.int64))
    blocks = 32 * cuda.get_current_device().MULTIPROCESSOR_COUNT
    compiled[blocks, THREADS](
        first_history,
        histories,
        k0,
        k1,
        *on_device,
        voxel_map,
        scalars,
        region,
        rods,
        voxels,
    )
    return Tally(
        histories,
        scalars.copy_to_host().sum(axis=0),
        region.copy_to_host().sum(axis=0),
        rods.copy_to_host().sum(axis=0)[:n_rod],
        voxels.copy_to_host(),
    )
