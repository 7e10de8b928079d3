"""CPU driver of the photon transport, and its tally."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from twinlab.kernels.philox import key
from twinlab.kernels.threads import one_parallel_region
from twinlab.kernels.transport_batch import N_SCALAR, follow
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, SQUARE_UNIT, Grid, Source, Tables
from twinlab.kernels.transport_forcing import run_forcing
from twinlab.kernels.transport_splitting import Splitting, steps
from twinlab.schema import refuse

_CHUNK = 2048  # histories of one task: short enough to balance threads, long enough to hide its buffers

ESTIMATORS = ("collision", "track_length")


class Tally(NamedTuple):
    """Integer scores of a run; sums of tallies of disjoint history ranges are the tally of their union."""

    histories: int
    energy: (
        np.ndarray
    )  # (5,) int64: emitted, escaped, left in the world's air, deposited in the grid, its squares
    region: np.ndarray  # (n_region, 2) int64: sum, sum of squares per history
    fluence: np.ndarray  # (n_rod, 2) int64
    voxel: np.ndarray  # (n_voxel, 2) int64, or (1, 2) when not asked for


@njit(cache=True, nogil=True, parallel=True)
def _run(first, count, k0, k1, grid, tables, source, n_region, lengths, with_voxels, voxel_flat, rule):
    n_chunk = (count + _CHUNK - 1) // _CHUNK
    n_rod = grid.rod.shape[0]
    scalars = np.zeros((n_chunk, N_SCALAR), np.int64)
    region = np.zeros((n_chunk, n_region, 2), np.int64)
    fluence = np.zeros((n_chunk, n_rod, 2), np.int64)
    for chunk in prange(n_chunk):
        low = first + np.int64(chunk) * _CHUNK
        high = min(low + _CHUNK, first + count)
        follow(
            low, high, k0, k1, grid, tables, source,
            scalars[chunk], region[chunk], fluence[chunk], lengths, with_voxels, voxel_flat, rule,
        )  # fmt: skip
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
    estimator: str = "collision",
    splitting: Splitting | None = None,
    forcing: bool = False,
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
    estimator : str
        ``"collision"``: regions and voxels get the energy that photons leave where they collide.
        ``"track_length"``: what they are expected to leave along every flight; better in thin or light regions,
        slower, for voxels only. Both have the same mean; ``energy`` is scored by collisions always.
    splitting : Splitting, optional
        Split photons beyond the beam, which favours organs far from it. The energies emitted, escaped and
        deposited then balance on average only.
    forcing : bool
        Let every photon that meets the grid collide there, by the weight of doing so: for targets that most photons
        would fly through. Energies balance to rounding.
    batch : int
        Histories between two calls of ``progress``.
    progress : callable, optional
        Called with the number of histories just done.

    Returns
    -------
    Tally
        Integers; :func:`mean_sd` turns them into values.

    Raises
    ------
    InputError
        Fewer than one history, an unknown estimator, track lengths among solids, or splitting or forcing with either
        or together.
    """
    if histories < 1:
        refuse("transport: histories", "1 or more", histories)
    if estimator not in ESTIMATORS:
        refuse("transport: estimator", f"one of {', '.join(ESTIMATORS)}", repr(estimator))
    if estimator == "track_length" and int(grid.kind[0]) != 0:
        refuse("transport: track_length", "a grid of voxels (solids score fluence)", "solids")
    if splitting is not None and (estimator != "collision" or int(grid.kind[0]) != 0):
        refuse("transport: splitting", "collisions scored in a grid of voxels", f"{estimator} or solids")
    if forcing and (estimator != "collision" or int(grid.kind[0]) != 0 or splitting is not None):
        refuse(
            "transport: forcing",
            "collisions scored in a grid of voxels, no splitting",
            f"{estimator} or solids",
        )
    rule = steps(splitting)
    k0, k1 = key(seed)
    voxel = np.zeros((grid.voxel.size if voxel_map else 1, 2), np.int64)
    energy = np.zeros(N_SCALAR, np.int64)
    region = np.zeros((n_region, 2), np.int64)
    fluence = np.zeros((grid.rod.shape[0], 2), np.int64)
    done = 0
    while done < histories:
        count = min(batch, histories - done)
        first = first_history + done
        with one_parallel_region():
            if forcing:
                scores = run_forcing(
                    first, count, k0, k1, grid, tables, source, n_region, voxel_map, voxel.reshape(-1)
                )
                parts = (*scores, 0)
            else:
                parts = _run(
                    first,
                    count,
                    k0,
                    k1,
                    grid,
                    tables,
                    source,
                    n_region,
                    estimator == "track_length",
                    voxel_map,
                    voxel.reshape(-1),
                    rule,
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
