"""Loops over cells: all cells of a tissue by one step, one cell under a train of stimuli.

A cell at rest follows one resting cell of its kind: as long as its potential stays within a bound of that one's,
it takes the same change of potential and its other states are not touched. Once it leaves, it wakes with the
states of the resting cell and stays awake.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels import heart_bueno, heart_tp06
from twinlab.kernels.philox import DEVICE
from twinlab.kernels.threads import one_parallel_region

BLOCK = 512
ASLEEP, AWAKE = np.uint8(0), np.uint8(1)
TP06, BUENO = 0, 1
MODELS = {TP06: heart_tp06, BUENO: heart_bueno}

_tp06_step = heart_tp06.step
_bueno_step = heart_bueno.step


class CellTables(NamedTuple):
    """What a step of a model needs: tables for the time step and parameters of its three kinds."""

    potential: np.ndarray
    rectifier: np.ndarray
    per_mv: float
    parameters: np.ndarray


def cell_tables(model: int, dt_ms: float, step_mv: float) -> CellTables:
    """Tables of a model for a time step; see :func:`twinlab.kernels.heart_tp06.tables`."""
    module = MODELS[model]
    return CellTables(*module.tables(dt_ms, step_mv), 1.0 / step_mv, module.PARAMETERS)  # type: ignore[call-arg]


@njit(**DEVICE)
def advance(model, i, v, y, dt, inject, k, tables):
    """Potential of cell ``i`` of kind ``k`` after a step; its other states change in place."""
    if model == TP06:
        return _tp06_step(
            i, v, y, dt, inject, tables.potential[k], tables.rectifier, tables.per_mv, tables.parameters[k]
        )
    return _bueno_step(
        i, v, y, dt, inject, tables.potential[k], tables.rectifier, tables.per_mv, tables.parameters[k]
    )


@njit(**DEVICE)
def react(model, i, v, y, dt, kind, awake, before, after, rest, bound, tables):
    """Step of cell ``i`` of a tissue, which may be asleep (see the module)."""
    k = kind[i]
    if awake[i] == ASLEEP:
        if abs(v[i] - before[k]) < bound:
            v[i] += after[k] - before[k]
            return
        awake[i] = AWAKE
        for q in range(rest.shape[0]):
            y[q, i] = rest[q, k]
    v[i] = advance(model, i, v[i], y, dt, 0.0, k, tables)


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def _react_all(model, v, y, dt, kind, awake, before, after, rest, bound, tables):
    n = v.size
    for block in prange((n + BLOCK - 1) // BLOCK):
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            react(model, i, v, y, dt, kind, awake, before, after, rest, bound, tables)


@njit(cache=True, nogil=True, error_model="numpy")
def rest_step(model, v, y, dt, tables):
    """Advance the resting cell of each kind: ``v`` (kind,) and ``y`` (state, kind) change in place."""
    for k in range(v.size):
        v[k] = advance(model, k, v[k], y, dt, 0.0, k, tables)


@njit(cache=True, nogil=True, error_model="numpy")
def train(model, k, v, y, dt, steps, stimulus, every, tables):
    """One cell under a stimulus given step by step (mV/ms): its potential at each ``every``-th step, mV."""
    out = np.empty(steps // every + 1)
    out[0] = v
    for n in range(steps):
        v = advance(model, 0, v, y, dt, stimulus[n], k, tables)
        if (n + 1) % every == 0:
            out[(n + 1) // every] = v
    return out


def react_all(model, v, y, dt, kind, awake, before, after, rest, bound, tables) -> None:
    """Advance all cells of a tissue by one step; parallel, each cell on its own.

    Parameters
    ----------
    model : int
        ``TP06`` or ``BUENO``.
    v : ndarray (cell,) float64
        Potential, mV; changed in place, as are ``y`` and ``awake``.
    y : ndarray (state, cell) float64
    dt : float
        ms.
    kind : ndarray (cell,) uint8
        0 epicardium, 1 endocardium, 2 middle.
    awake : ndarray (cell,) uint8
    before, after : ndarray (kind,) float64
        Potential of the resting cells before and after this step, mV.
    rest : ndarray (state, kind) float64
        States of the resting cells before this step.
    bound : float
        Distance from rest at which a cell wakes, mV; 0 wakes all.
    tables : CellTables
    """
    with one_parallel_region():
        _react_all(model, v, y, dt, kind, awake, before, after, rest, bound, tables)
