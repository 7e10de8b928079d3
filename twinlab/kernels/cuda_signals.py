"""Polychromatic signals on a CUDA device: one thread per ray, any number of basis functions.

As :func:`twinlab.kernels.spectral.polychromatic`. The exponential is the device's own; that of the processor is a
polynomial, so that loops over channels vectorise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twinlab.kernels import cuda_memory as memory

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

_ZERO = np.float32(0.0)


def sums(path, mu, weight, weight2, gain, row_lo, row_hi, signal, second):
    """Kernel, uncompiled; arguments as :func:`twinlab.kernels.spectral.polychromatic`."""
    n_view, n_row, n_channel = signal.shape
    ray = cuda.grid(1)
    if ray >= n_view * n_row * n_channel:
        return
    c = ray % n_channel
    r = ray // n_channel % n_row
    i = ray // (n_channel * n_row)
    spectrum = r % weight.shape[0]
    seen = row_lo[i] <= r and r < row_hi[i]
    total, total2 = _ZERO, _ZERO
    for q in range(mu.shape[0]):
        x = _ZERO
        if seen:
            for k in range(path.shape[0]):
                x += mu[q, k] * path[k, i, r, c]
        y = math.exp(-x)
        total += weight[spectrum, q, c] * y
        total2 += weight2[spectrum, q, c] * y
    signal[i, r, c] = gain[r, c] * total
    second[i, r, c] = gain[r, c] * total2


def polychromatic(
    path: Any,
    mu: Any,
    weight: Any,
    weight2: Any,
    gain: Any,
    row_lo: Any,
    row_hi: Any,
    signal: Any,
    second: Any,
) -> None:
    """As :func:`twinlab.kernels.spectral.polychromatic`; ``signal`` and ``second`` live on the device."""
    inputs = [memory.there(values) for values in (path, mu, weight, weight2, gain, row_lo, row_hi)]
    memory.launch(sums, math.prod(signal.shape), *inputs, signal, second, fastmath=True)
