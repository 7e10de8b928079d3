"""Arrays on a CUDA device: how they get there, how loops and algebra meet them, how they come back.

Loops take numba's arrays, algebra takes CuPy's; both see the same memory.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

THREADS = 128


@lru_cache
def _compiled(kernel: Any, fastmath: bool) -> Any:
    return cuda.jit(kernel, fastmath=fastmath)


def launch(kernel: Any, threads: int, *arguments: Any, fastmath: bool = False) -> None:
    """Run a kernel with so many threads; it is compiled once for its argument types."""
    if threads:
        _compiled(kernel, fastmath)[math.ceil(threads / THREADS), THREADS](*arguments)


def put(values: Any) -> Any:
    """Array on the device, whole numbers and truth values as they are, others in single precision."""
    array = np.asarray(values)
    return cuda.to_device(np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else array.dtype))


def exactly(values: Any) -> Any:
    """Array on the device in the precision that it has."""
    return cuda.to_device(np.ascontiguousarray(values))


def there(values: Any) -> Any:
    """An array as kernels take it: what lives on the device stays as it is."""
    return put(values) if isinstance(values, np.ndarray) else values


def zeros(shape: tuple[int, ...]) -> Any:
    """Zeros in single precision on the device."""
    return cuda.to_device(np.zeros(shape, np.float32))


def empty(shape: tuple[int, ...]) -> Any:
    """Memory in single precision on the device."""
    return cuda.device_array(shape, np.float32)


def copy(array: Any) -> Any:
    """Another array on the device with the same values."""
    other = empty(array.shape)
    launch(_copied, math.prod(array.shape), array, other)
    return other


def _copied(values, other):
    place = cuda.grid(1)
    _, n_row, n_channel = values.shape
    if place >= values.size:
        return
    c = place % n_channel
    r = place // n_channel % n_row
    other[place // (n_channel * n_row), r, c] = values[place // (n_channel * n_row), r, c]


def algebra(array: Any) -> Any:
    """The same memory as an array with algebra: CuPy's, or without CuPy a copy on the host."""
    try:
        import cupy
    except ImportError:
        return array.copy_to_host()
    return cupy.asarray(array)
