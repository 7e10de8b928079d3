"""Counts of a photon-counting detector on a CUDA device: one thread per cell draws, or undoes pile-up.

Functions have the names and arguments of :mod:`twinlab.kernels.counts` and :mod:`twinlab.kernels.pulses`, and call the
same scalar functions, in double precision: exact Poisson numbers want it. Photons that two cells share are drawn with
the key of one of them; every thread draws those of its neighbours again, so that nothing is added across threads and
the order of sums is that of the processor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.counts import SHARED, draw_cell, key_of, poisson, shared_rate
from twinlab.kernels.pulses import restore_ray

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

_ZERO = np.float32(0.0)


def sources_of(places: np.ndarray) -> np.ndarray:
    """Where the cells lie, seen from a cell, whose draws concern it: (n, 2) rows and channels back, in scan order."""
    towards = {(int(down), int(along)) for down, along in places[:, :2]}
    return np.array([*sorted(towards, reverse=True), (0, 0)], np.int64)


def count(
    mean, product, places, factors, sources, first_view, realisation, k0, k1, row_lo, row_hi, taken, counts
):
    """Kernel of :func:`draw_counts`, uncompiled; ``taken`` (n_bin, view, row, channel) is work space of zeros."""
    n_bin, n_view, n_row, n_channel = mean.shape
    cell = cuda.grid(1)
    if cell >= n_view * n_row * n_channel:
        return
    channel = cell % n_channel
    r = cell // n_channel % n_row
    i = cell // (n_channel * n_row)
    for b in range(n_bin):
        counts[b, i, r, channel] = _ZERO
    lo, hi = row_lo[i], row_hi[i]
    if r < lo or r >= hi:
        return
    first = np.uint64((first_view + i) * n_row * n_channel)
    for n_source in range(sources.shape[0]):
        r1, c1 = r - sources[n_source, 0], channel - sources[n_source, 1]
        if r1 < lo or c1 < 0 or c1 >= n_channel:
            continue
        w0, w1, a, d = key_of(first + np.uint64(r1 * n_channel + c1), realisation, k0, k1)
        step = SHARED
        for k in range(places.shape[0]):
            r2, c2 = r1 + places[k, 0], c1 + places[k, 1]
            if r2 >= hi or c2 < 0 or c2 >= n_channel:
                continue
            b, other = places[k, 2], places[k, 3]
            rate = shared_rate(mean[:, i, r1, c1], mean[:, i, r2, c2], b, other, factors[k])
            number, step = poisson(rate, step, a, d, w0, w1)
            if r1 == r and c1 == channel:
                taken[b, i, r, channel] += rate
                counts[b, i, r, channel] += number
            if r2 == r and c2 == channel:
                taken[other, i, r, channel] += rate
                counts[other, i, r, channel] += number
    ray = first + np.uint64(r * n_channel + channel)
    draw_cell(
        mean[:, i, r, channel], product[:, i, r, channel], taken[:, i, r, channel], ray, realisation, k0, k1,
        counts[:, i, r, channel],
    )  # fmt: skip


def restore(recorded, load_per_count, sums, paralysable, work, counts):
    """Kernel of :func:`restore_rays`, uncompiled; ``work`` (2, n_bin, n_ray) float64 is work space."""
    ray = cuda.grid(1)
    if ray < counts.shape[1]:
        restore_ray(
            recorded[:, ray],
            load_per_count,
            sums,
            paralysable,
            work[0, :, ray],
            work[1, :, ray],
            counts[:, ray],
        )


def draw_counts(
    mean: Any, product: Any, places: Any, factors: Any, first_view: int, realisation: Any, k0: Any, k1: Any,
    row_lo: Any, row_hi: Any, counts: Any,
) -> None:  # fmt: skip
    """As :func:`twinlab.kernels.counts.draw_counts`; ``mean``, ``product`` and ``counts`` live on the device."""
    memory.launch(
        count, math.prod(mean.shape[1:]), mean, product, memory.put(places), memory.exactly(factors),
        memory.put(sources_of(places)), first_view, realisation, k0, k1, memory.put(row_lo), memory.put(row_hi),
        memory.zeros(mean.shape), counts,
    )  # fmt: skip


def restore_rays(recorded: Any, load_per_count: float, sums: Any, paralysable: bool, counts: Any) -> None:
    """As :func:`twinlab.kernels.pulses.restore_rays`; ``recorded`` and ``counts`` live on the device."""
    work = memory.exactly(np.zeros((2, *counts.shape)))
    memory.launch(
        restore, counts.shape[1], recorded, load_per_count, memory.exactly(sums), paralysable, work, counts
    )
