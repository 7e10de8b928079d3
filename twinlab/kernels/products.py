"""Products of many rows with one matrix, shared between threads as the compiled loops share their work.

A threaded BLAS keeps its threads spinning for a while after a product, and these take the cores from the compiled
loop that follows. So BLAS computes on one thread here, and the rows are shared between threads of our own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numba import get_num_threads
from threadpoolctl import ThreadpoolController

_LEAST = 64  # rows of a thread; fewer do not pay


@cache
def _blas() -> ThreadpoolController:
    """The libraries that NumPy has loaded: looking for them takes milliseconds."""
    return ThreadpoolController()


def multiply(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """``out[...] = left @ right``, the rows shared between threads.

    Parameters
    ----------
    left : (row, k) array
    right : (k, column) array
    out : (row, column) array, written
        The same to the last bit for any number of threads: shares are multiples of 32 rows.
    """
    n = left.shape[0]
    threads = min(get_num_threads(), max(n // _LEAST, 1))
    with _blas().limit(limits=1, user_api="blas"):
        if threads == 1:
            out[...] = left @ right
            return
        step = -(-n // (32 * threads)) * 32
        parts = [slice(low, min(low + step, n)) for low in range(0, n, step)]

        def one(part: slice) -> None:
            out[part] = left[part] @ right

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, parts))
