"""Time loop of the monodomain equation at the nodes of a muscle: reaction, then diffusion, then marks.

Each step advances all cells with the diffusion left out, then diffuses (Godunov's splitting; Strang's differs
from it by half a diffusion step at both ends of the run only). Diffusion is a Crank-Nicolson step of trilinear
elements.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from twinlab.cardiac.electro.cells import check_step, find_cell, tables_for
from twinlab.cardiac.electro.loops import Mass, Solver, State, fresh_state, make_loops
from twinlab.cardiac.electro.stimuli import Stimulus
from twinlab.cardiac.electro.tissue import Tissue, kinds
from twinlab.kernels import heart_cells
from twinlab.kernels.device import Device
from twinlab.schema import InputError, refuse

RISE_MV, FALL_MV = 0.0, -70.0
COARSEST = (
    6.0  # voxel side over sqrt(slowest diffusivity * 1 ms): beyond, a front stops or crawls by the grid
)


def check_resolution(muscle: Tissue, *, where: str) -> float:
    """Voxel side over the diffusion length of 1 ms in the slowest direction; refused above :data:`COARSEST`.

    Raises
    ------
    InputError
        The front is under-resolved: says which voxel side would do.
    """
    inside = muscle.weight > 0
    t = muscle.tensor[inside]
    rows = np.unique(t, axis=0) if len(t) < 100_000 else t[:: len(t) // 50_000]
    full = rows[:, [0, 3, 4, 3, 1, 5, 4, 5, 2]].reshape(-1, 3, 3)
    slowest = float(np.linalg.eigvalsh(full).min())
    ratio = muscle.h_mm / np.sqrt(slowest)
    if not ratio <= COARSEST:
        refuse(
            f"{where}: voxels",
            f"a voxel side of at most {COARSEST * np.sqrt(slowest):.3g} mm for the slowest conductivity "
            "(a front would stop at the grid; use a finer grid or a higher conductivity)",
            f"{muscle.h_mm:g} mm",
        )
    return float(ratio)


def run(
    muscle: Tissue,
    *,
    stimuli: list[Stimulus],
    cell: str,
    dt_ms: float,
    end_ms: float,
    mass: Mass = "consistent",
    solver: Solver = "auto",
    device: Device = "cpu",
    sample: Callable[[np.ndarray], np.ndarray] | None = None,
    sample_ms: float = 1.0,
    rise_mv: float = RISE_MV,
    fall_mv: float = FALL_MV,
    sleep_mv: float = 1e-3,
    tolerance_mv: float = 1e-3,
    until_active: bool = False,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
    save_every_ms: float = 50.0,
    progress: bool = False,
    where: str = "monodomain",
) -> tuple[State, dict[str, Any]]:
    """Advance a muscle to ``end_ms``; see :func:`twinlab.cardiac.electro.monodomain` for the parameters.

    Returns
    -------
    state : State
    facts : dict
        For the attributes of a result.

    Raises
    ------
    InputError
        Unusable settings; potentials that are no numbers any more.
    """
    check_step(dt_ms, where=where)
    model, kind = find_cell(cell, where=where)
    ratio = check_resolution(muscle, where=where)
    if not (np.isfinite(end_ms) and end_ms > 0):
        refuse(f"{where}: end_ms", "a positive time", end_ms)
    n = len(muscle.nodes)
    kind_of = kinds(muscle, kind, where=where)
    tables = tables_for(model, dt_ms)
    sources = [(s, s.nodes(muscle)) for s in stimuli]
    state = state or fresh_state(model, n)
    loops = make_loops(
        muscle,
        model,
        state,
        kind_of,
        tables,
        dt_ms=dt_ms,
        mass=mass,
        solver=solver,
        device=device,
        where=where,
    )
    every, keep = max(1, round(sample_ms / dt_ms)), max(1, round(save_every_ms / dt_ms))
    steps = round(end_ms / dt_ms)
    if sample is not None and not state.samples:
        state.samples.append(sample(loops.potential()))
    facts: dict[str, Any] = {
        "nodes": n,
        "dt_ms": dt_ms,
        "solver": loops.name,
        "mass": mass,
        "h_mm": muscle.h_mm,
    }
    facts |= {"cell": cell, "voxel_over_diffusion_length": ratio, "sleep_mv": sleep_mv}
    began, first = clock.perf_counter(), state.step
    warm = began
    with tqdm(total=steps, initial=first, desc=where, unit="step", disable=not progress, leave=False) as bar:
        for k in range(first, steps):
            now = k * dt_ms
            for s, where_to in sources:
                if s.start_ms - 1e-9 <= now < s.start_ms + s.duration_ms - 1e-9:
                    loops.stimulate(where_to[0], dt_ms * s.amplitude_mv_per_ms * where_to[1])
            before, rest_y = state.rest_v.copy(), state.rest_y.copy()
            heart_cells.rest_step(model, state.rest_v, state.rest_y, dt_ms, tables)
            loops.react(dt_ms, before, state.rest_v, rest_y, sleep_mv)
            count, residual = loops.diffuse(tolerance_mv)
            if not residual <= tolerance_mv:
                raise InputError(
                    f"{where}: expected the diffusion solve to reach {tolerance_mv:g} mV; got {residual:g} mV after "
                    f"{count} iterations at {now:.3f} ms (shorter dt_ms, or a look at the conductivities)"
                )
            state.iterations += count
            bad = loops.mark(now, dt_ms, rise_mv, fall_mv, k % 50 == 0 or k == steps - 1)
            if bad:
                raise InputError(
                    f"{where}: expected finite potentials; got {bad} nodes out of range at {now:.3f} ms (a shorter "
                    "dt_ms or a weaker stimulus helps where the time step is too long)"
                )
            state.step = k + 1
            if state.step % every == 0 and sample is not None:
                state.samples.append(sample(loops.potential()))
            if state.step % keep == 0 and save is not None:
                loops.store()
                save(state)
            if k == first:
                warm = clock.perf_counter()  # the first step compiles
            if k == first + 20:
                facts["estimated_s"] = (clock.perf_counter() - warm) / 20 * (steps - first)
                if progress:
                    tqdm.write(
                        f"{where}: {n} nodes, {steps} steps, about {facts['estimated_s']:.0f} s at most"
                    )
            if until_active and state.step % 50 == 0:
                loops.store()
                if not np.isnan(state.marks.first_up).any():
                    break
            bar.update()
    loops.store()
    facts |= {"end_ms": state.step * dt_ms, "seconds": clock.perf_counter() - began}
    facts |= {"iterations_per_step": state.iterations / max(1, state.step)}
    return state, facts
