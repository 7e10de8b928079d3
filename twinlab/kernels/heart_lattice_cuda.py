"""The lattice Boltzmann steps on a CUDA device: one thread a cell, the scalar functions of the processor."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.device import missing
from twinlab.kernels.heart_lattice import step_cell
from twinlab.schema import refuse

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None


@lru_cache
def kernel() -> Any:
    """The CUDA kernel, uncompiled: one step of all cells.

    ``(f, out, source, fraction, kind, value, inflow, forces, rates, step, directions, weights)``; ``inflow`` (step,),
    ``forces`` (step, 3), ``rates`` (2,) even and odd.
    """

    def advance(f, out, source, fraction, kind, value, inflow, forces, rates, step, directions, weights):
        node = cuda.grid(1)
        if node >= f.shape[1]:
            return
        held = cuda.local.array(19, np.float32)
        step_cell(f, out, node, source, fraction, kind, value, inflow[step], forces[step], rates[0], rates[1],
                  directions, weights, held)  # fmt: skip

    return advance


def run_steps_cuda(
    f: np.ndarray,
    source: np.ndarray,
    fraction: np.ndarray,
    kind: np.ndarray,
    value: np.ndarray,
    inflow: np.ndarray,
    forces: np.ndarray,
    even_rate: float,
    odd_rate: float,
    directions: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """As :func:`twinlab.kernels.heart_lattice.run_steps`, with populations kept in single precision; returns them.

    Raises
    ------
    InputError
        No CUDA device.
    """
    reason = missing()
    if reason:
        refuse("flow", "a CUDA device", reason)
    now, then = memory.put(f), memory.zeros(f.shape)
    fixed = [
        memory.put(a)
        for a in (source, fraction, kind, value, inflow, forces, np.array([even_rate, odd_rate]))
    ]
    tables = memory.put(directions), memory.put(weights)
    for step in range(len(inflow)):
        memory.launch(kernel(), f.shape[1], now, then, *fixed, step, *tables)
        now, then = then, now
    return now.copy_to_host().astype(f.dtype)
