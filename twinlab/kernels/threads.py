"""One parallel loop at a time.

Numba's ``workqueue`` layer, the only one that is always there, is not safe when several Python threads
(dask's, for example) start ``prange`` loops at once, and two loops at once would only share the same cores.
Every driver with a ``prange`` runs inside :func:`one_parallel_region`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_region = threading.RLock()


def _fresh_lock() -> None:
    """A forked child must not inherit a lock that a thread of its parent held."""
    global _region
    _region = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_lock)


@contextmanager
def one_parallel_region() -> Iterator[None]:
    """Hold the process's only permit to run a parallel Numba loop.

    Re-entrant within a thread; other threads wait.

    Examples
    --------
    >>> with one_parallel_region():
    ...     done = True
    """
    with _region:
        yield
