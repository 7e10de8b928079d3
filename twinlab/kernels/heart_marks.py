"""Marks of a beat at each node: when the potential rises above a threshold and falls below another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import DEVICE
from twinlab.kernels.threads import one_parallel_region

BLOCK = 2048


class Marks(NamedTuple):
    """Times in ms, NaN where not yet: first and last rise and fall; number of beats; whether it is up."""

    first_up: np.ndarray
    first_down: np.ndarray
    last_up: np.ndarray
    last_down: np.ndarray
    beats: np.ndarray
    up: np.ndarray


def marks(n: int) -> Marks:
    """Marks of so many nodes, none made."""
    return Marks(*(np.full(n, np.nan) for _ in range(4)), np.zeros(n, np.int32), np.zeros(n, np.uint8))  # type: ignore[call-arg]


@njit(**DEVICE)
def mark(i, v, old, time, dt, rise, fall, m):
    """Mark the crossings of cell ``i`` from potential ``old`` at ``time`` to ``v`` one step later."""
    if m.up[i] == 0:
        if v >= rise:
            when = time + dt * (rise - old) / (v - old) if old < rise else time
            m.up[i] = 1
            m.beats[i] += 1
            m.last_up[i] = when
            if m.beats[i] == 1:
                m.first_up[i] = when
    elif v < fall:
        when = time + dt * (old - fall) / (old - v) if old > fall else time
        m.up[i] = 0
        m.last_down[i] = when
        if m.beats[i] == 1:
            m.first_down[i] = when


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def _mark_all(v, old, time, dt, rise, fall, m):
    n = old.size
    bad = np.zeros((n + BLOCK - 1) // BLOCK, np.int64)
    for b in prange((n + BLOCK - 1) // BLOCK):
        for i in range(b * BLOCK, min(n, (b + 1) * BLOCK)):
            now = v[i]
            if not abs(now) < 1000.0:
                bad[b] += 1
            mark(i, now, old[i], time, dt, rise, fall, m)
            old[i] = now
    return bad.sum()


def mark_all(v, old, time, dt, rise, fall, m) -> int:
    """Mark all nodes; ``old`` becomes ``v``. Returns how many potentials are no numbers or out of all range."""
    with one_parallel_region():
        return _mark_all(v, old, time, dt, rise, fall, m)
