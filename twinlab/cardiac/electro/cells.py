"""Ventricular cells: their models by name, one cell under a train of stimuli, duration of its action potential."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import xarray as xr

from twinlab.kernels import heart_cells
from twinlab.kernels.heart_cells import BUENO, TP06, CellTables
from twinlab.schema import label, refuse

TABLE_STEP_MV = 0.05  # moves the action potential by less than 1e-3 mV (tested against 0.005 mV)
LONGEST_STEP_MS = 0.1  # beyond, Euler's step of the upstroke is far off
KINDS = ("epi", "endo", "mid")
_MODELS = {"tp06": TP06, "bueno": BUENO}
CELLS = tuple(f"{model}_{kind}" for model in _MODELS for kind in (*KINDS, "layers"))


def find_cell(name: str, *, where: str) -> tuple[int, int | None]:
    """Number of a model and of its kind; the kind is None for layers across the wall.

    Raises
    ------
    InputError
        Not one of :data:`CELLS`.

    Examples
    --------
    >>> find_cell("tp06_endo", where="example")
    (0, 1)
    """
    if name not in CELLS:
        refuse(f"{where}: cell", f"one of {', '.join(CELLS)}", repr(name))
    model, kind = name.split("_")
    return _MODELS[model], KINDS.index(kind) if kind in KINDS else None


@lru_cache(maxsize=8)
def tables_for(model: int, dt_ms: float, step_mv: float = TABLE_STEP_MV) -> CellTables:
    """Look-up tables of a model for a time step (kept, since runs share them)."""
    return heart_cells.cell_tables(model, dt_ms, step_mv)


def check_step(dt_ms: float, *, where: str) -> None:
    """Refuse a time step that cells cannot follow.

    Raises
    ------
    InputError
        Not positive, or longer than ``LONGEST_STEP_MS``.
    """
    if not 0.0 < dt_ms <= LONGEST_STEP_MS:
        refuse(
            f"{where}: dt_ms",
            f"a time step above 0 and up to {LONGEST_STEP_MS} ms (longer ones are unstable in the upstroke; "
            "0.01 to 0.05 is usual)",
            dt_ms,
        )


def single_cell(
    cell: str = "tp06_epi",
    *,
    beats: int = 1,
    cycle_ms: float = 1000.0,
    dt_ms: float = 0.01,
    sample_ms: float | None = None,
    stimulus_mv_per_ms: float = 52.0,
    stimulus_ms: float = 1.0,
    start_ms: float = 10.0,
    intervals_ms: tuple[float, ...] | None = None,
    table_step_mv: float = TABLE_STEP_MV,
) -> xr.DataArray:
    """Action potentials of one cell under a train of stimuli.

    Parameters
    ----------
    cell : str
        One of :data:`CELLS` without layers.
    beats : int
        Stimuli.
    cycle_ms : float
        Between stimuli, and from the last one to the end.
    dt_ms : float
        Time step.
    sample_ms : float, optional
        Between samples of the result, a multiple of the time step; by default each step.
    stimulus_mv_per_ms, stimulus_ms, start_ms : float
        Strength (pA/pF), length and start of the first stimulus.
    intervals_ms : tuple of float, optional
        Intervals between stimuli, one by one, instead of ``beats`` and ``cycle_ms`` (an S1-S2 train).
    table_step_mv : float
        Step of the look-up tables.

    Returns
    -------
    DataArray membrane_potential, dims (time,), mV
        Time in ms.

    Raises
    ------
    InputError
        Unknown cell, time step out of range, samples off the steps.

    References
    ----------
    See :mod:`twinlab.kernels.heart_tp06` and :mod:`twinlab.kernels.heart_bueno`.
    """
    model, kind = find_cell(cell, where="single_cell")
    if kind is None:
        refuse("single_cell: cell", "one kind (epi, endo, mid)", repr(cell))
    check_step(dt_ms, where="single_cell")
    every = round((sample_ms or dt_ms) / dt_ms)
    if every < 1 or abs(every * dt_ms - (sample_ms or dt_ms)) > 1e-9:
        refuse("single_cell: sample_ms", "a multiple of dt_ms", sample_ms)
    if not (beats >= 1 and np.isfinite([cycle_ms, start_ms, stimulus_ms]).all() and cycle_ms > 0 <= start_ms):
        refuse(
            "single_cell",
            "one beat or more, cycle_ms above 0, start_ms 0 or later",
            (beats, cycle_ms, start_ms),
        )
    gaps = intervals_ms if intervals_ms is not None else (cycle_ms,) * beats
    starts = start_ms + np.concatenate([[0.0], np.cumsum(gaps)])
    steps = round((starts[-1] if intervals_ms is None else starts[-1] + cycle_ms) / dt_ms)
    stimulus = np.zeros(steps)
    for begin in starts[:-1] if intervals_ms is None else starts:
        first = round(begin / dt_ms)
        stimulus[first : first + round(stimulus_ms / dt_ms)] = stimulus_mv_per_ms
    module = heart_cells.MODELS[model]
    y = module.REST.copy()[:, None]
    tables = tables_for(model, dt_ms, table_step_mv)
    v = heart_cells.train(model, kind, module.REST_MV, y, dt_ms, steps, stimulus, every, tables)
    return label(
        "membrane_potential",
        v,
        {"time": np.arange(v.size) * every * dt_ms},
        dims=("time",),
        cell=cell,
        dt_ms=dt_ms,
        stimulus_starts_ms=starts.tolist(),
    )


def action_potential_duration(
    potential: xr.DataArray, *, share: float = 0.9, upstroke_mv: float = -40.0
) -> np.ndarray:
    """Durations of the action potentials of a trace, ms.

    From the crossing of ``upstroke_mv`` to the return to ``share`` of the way from the beat's peak back to the
    potential before the trace's first beat. A beat that has not returned by the end is left out.

    Examples
    --------
    >>> apd = action_potential_duration(single_cell("tp06_epi", dt_ms=0.05))
    >>> 285.0 < float(apd[0]) < 300.0
    True
    """
    v = np.asarray(potential, dtype=float)
    t = np.asarray(potential["time"], dtype=float)
    up = np.flatnonzero((v[:-1] < upstroke_mv) & (v[1:] >= upstroke_mv))
    found = []
    for n, i in enumerate(up):
        stop = up[n + 1] if n + 1 < up.size else v.size
        peak = i + int(np.argmax(v[i:stop]))
        level = v[peak] - share * (v[peak] - v[: up[0] + 1].min())
        below = np.flatnonzero(v[peak:stop] < level)
        if below.size:
            k = peak + int(below[0])
            end = t[k - 1] + (t[k] - t[k - 1]) * (v[k - 1] - level) / (v[k - 1] - v[k])
            begin = t[i] + (t[i + 1] - t[i]) * (upstroke_mv - v[i]) / (v[i + 1] - v[i])
            found.append(end - begin)
    return np.array(found)
