"""Basis decomposition on a CUDA device: one thread per ray, by the scalar functions of the processor's second way.

Every ray is solved by :func:`twinlab.kernels.decompose_ray.solve_ray`, in double precision and from nothing: the
Fisher information of measurements that are much alike loses digits, and rays side by side need no rows of
channels to be quick. Work space is the thread's own memory, so measurements are few.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.decompose_ray import MOST, solve_ray

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

MOST_MEASURED = 8  # measurements
RAYS = 1 << 23  # at a time, by whole views
_MEASURED = (3 + MOST, MOST_MEASURED)  # shapes of the work space
_SQUARE = (MOST, MOST)
_SQUARES = (2 * MOST + 1, MOST)
_SOLVED, _FAILED = np.uint8(1), np.uint8(2)


def solve(transmission, quanta, mu, weight, precision, row_lo, row_hi, path, covariance, state):
    """Kernel of :func:`decompose_rays`, uncompiled; ``state`` (view, row, channel): 0 for rays outside the windows."""
    n_view, n_row, n_channel = state.shape
    ray = cuda.grid(1)
    if ray >= n_view * n_row * n_channel:
        return
    c = ray % n_channel
    r = ray // n_channel % n_row
    i = ray // (n_channel * n_row)
    if r < row_lo[i] or r >= row_hi[i]:
        return
    at = cuda.local.array(MOST, np.float64)
    inverse = cuda.local.array(_SQUARE, np.float64)
    by_measurement = cuda.local.array(_MEASURED, np.float64)
    by_material = cuda.local.array(_SQUARES, np.float64)
    solved = solve_ray(
        transmission[:, i, r, c], quanta[:, i, r, c], mu, weight[r % weight.shape[0]], c, precision, at, inverse,
        by_measurement, by_material,
    )  # fmt: skip
    state[i, r, c] = _SOLVED if solved else _FAILED
    for k in range(path.shape[0]):
        path[k, i, r, c] = at[k]
        if covariance.shape[2] == n_view:
            for m in range(path.shape[0]):
                covariance[k, m, i, r, c] = inverse[k, m]


def decompose_rays(
    transmission: np.ndarray,
    quanta: np.ndarray,
    mu: np.ndarray,
    weight: np.ndarray,
    precision: np.ndarray,
    row_lo: np.ndarray,
    row_hi: np.ndarray,
    path: np.ndarray,
    covariance: np.ndarray,
    slow: np.ndarray,
    failed: np.ndarray,
) -> None:
    """As :func:`twinlab.kernels.decompose.decompose_rays`, without a start; arrays are the host's.

    At most ``MOST_MEASURED`` measurements. All rays count as ``slow``: they take that way.
    """
    n_view, n_row, n_channel = transmission.shape[1:]
    tables = memory.put(mu), memory.put(weight), memory.exactly(precision)
    step = max(1, RAYS // (n_row * n_channel))
    for first in range(0, n_view, step):
        views = slice(first, first + step)
        inputs = memory.put(transmission[:, views]), memory.put(quanta[:, views])
        there, spread = (memory.zeros(values[..., views, :, :].shape) for values in (path, covariance))
        state = memory.exactly(np.zeros(inputs[0].shape[1:], np.uint8))
        window = memory.put(row_lo[views]), memory.put(row_hi[views])
        memory.launch(solve, math.prod(state.shape), *inputs, *tables, *window, there, spread, state)
        path[:, views] = there.copy_to_host()
        if covariance.shape[2]:
            covariance[:, :, views] = spread.copy_to_host()
        found = state.copy_to_host()
        slow[views], failed[views] = ((found >= least).sum(axis=(1, 2)) for least in (_SOLVED, _FAILED))
