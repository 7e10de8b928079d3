"""Transport cell by cell: the energy that regions get from each small part of a tube's path and cone.

Doses of any protocol are sums over cells, so cells are followed once and weighted later
(:mod:`twinlab.dose.response`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import key
from twinlab.kernels.threads import one_parallel_region
from twinlab.kernels.transport_batch import N_SCALAR, follow
from twinlab.kernels.transport_data import Grid, Source, Tables
from twinlab.kernels.transport_splitting import steps


@njit(cache=True, nogil=True, parallel=True)
def _run(first, count, k0, k1, grid, tables, source, stations, region, no_rods, no_map, rule):
    for cell in prange(stations.shape[0]):
        here = Source(
            source.kind,
            source.geometry,
            source.probability,
            source.alias,
            source.energy,
            source.view_probability,
            source.view_alias,
            stations[cell : cell + 1],
        )
        scalars = np.zeros(N_SCALAR, np.int64)
        low = np.int64(first + cell) * count
        follow(
            low, low + count, k0, k1, grid, tables, here, scalars, region[cell], no_rods, False, False, no_map, rule
        )  # fmt: skip


def run_cells(
    grid: Grid,
    tables: Tables,
    source: Source,
    *,
    histories: int,
    seed: int,
    n_region: int,
    batch: int = 512,
    progress: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """Scores of every region for every station of a gantry source.

    Parameters
    ----------
    grid, tables : Grid, Tables
        Voxels.
    source : Source
        Its stations are the cells, each followed equally often; its alias table over views is not used.
    histories : int
        Of each cell. The random numbers of a cell depend on seed, its number and this only.
    seed, n_region : int
    batch : int
        Cells between two calls of ``progress``.
    progress : callable, optional
        Called with the number of histories just done.

    Returns
    -------
    (cell, n_region, 2) int64
        Sums and sums of squares, as :func:`twinlab.kernels.transport.mean_sd` takes them.
    """
    k0, k1 = key(seed)
    stations = source.stations
    one = source._replace(
        view_probability=np.ones_like(source.view_probability[:1]),
        view_alias=np.zeros_like(source.view_alias[:1]),
    )
    region = np.zeros((len(stations), n_region, 2), np.int64)
    no_rods, no_map, rule = np.zeros((0, 2), np.int64), np.zeros(1, np.int64), steps(None)
    for low in range(0, len(stations), batch):
        part = slice(low, min(low + batch, len(stations)))
        with one_parallel_region():
            _run(
                low, histories, k0, k1, grid, tables, one, stations[part], region[part], no_rods, no_map, rule
            )
        if progress is not None:
            progress((part.stop - low) * histories)
    return region
