"""Time loop of the monodomain equation at the nodes of a muscle: reaction, then diffusion, then marks.

Each step advances all cells with the diffusion left out, then diffuses (Godunov's splitting; Strang's differs
from it by half a diffusion step at both ends of the run only). Diffusion is a Crank-Nicolson step of trilinear
elements.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from twinlab.cardiac.electro.cells import check_step, find_cell, tables_for
from twinlab.cardiac.electro.stimuli import Stimulus
from twinlab.cardiac.electro.tissue import Tissue, kinds
from twinlab.kernels import heart_cells, heart_lines, heart_marks, heart_stencil
from twinlab.schema import InputError, refuse

Mass = Literal["consistent", "half", "lumped"]
Solver = Literal["auto", "lines", "cg"]
SHARES = {"consistent": 1.0, "half": 0.5, "lumped": 0.0}
RISE_MV, FALL_MV = 0.0, -70.0
COARSEST = (
    6.0  # voxel side over sqrt(slowest diffusivity * 1 ms): beyond, a front stops or crawls by the grid
)
MOST_ITERATIONS = 200


@dataclass
class State:
    """All that a run needs to go on."""

    step: int
    v: np.ndarray
    y: np.ndarray
    awake: np.ndarray
    rest_v: np.ndarray
    rest_y: np.ndarray
    old: np.ndarray
    marks: heart_marks.Marks
    increment: np.ndarray
    samples: list[np.ndarray] = field(default_factory=list)
    iterations: int = 0


def fresh_state(model: int, n: int) -> State:
    """State of a resting muscle of so many nodes."""
    module = heart_cells.MODELS[model]
    size = n + 2 * heart_stencil.MARGIN
    return State(
        0,
        np.full(size, module.REST_MV),
        np.repeat(module.REST[:, None], n, axis=1),
        np.zeros(n, np.uint8),
        np.full(3, module.REST_MV),
        np.repeat(module.REST[:, None], 3, axis=1),
        np.full(n, module.REST_MV),
        heart_marks.marks(n),
        np.zeros(size, np.float32),
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


def _aligned(muscle: Tissue) -> np.ndarray | None:
    """Diffusivities along x, y, z where the muscle is a full box of one tensor along the axes, else None."""
    if not (muscle.weight == 1.0).all():
        return None
    t = muscle.tensor.reshape(-1, 6)
    if np.ptp(t, axis=0).max() > 1e-6 * t.max() or np.abs(t[:, 3:]).max() > 1e-6 * t.max():
        return None
    return t[0, :3].astype(float)


def diffusion(
    muscle: Tissue, dt_ms: float, mass: Mass, solver: Solver, tolerance_mv: float, *, where: str
) -> tuple[str, Callable[[State], int]]:
    """Chosen solver and its step of diffusion, which returns its iterations.

    Raises
    ------
    InputError
        Unknown names, or line solves for what is no even box with the consistent mass.
    """
    if mass not in SHARES:
        refuse(f"{where}: mass", "'consistent', 'half' or 'lumped'", repr(mass))
    box = _aligned(muscle) if mass == "consistent" else None
    if solver not in ("auto", "lines", "cg") or (solver == "lines" and box is None):
        refuse(f"{where}: solver", "'auto', 'cg', or 'lines' for an even box along the axes", repr(solver))
    margin = slice(heart_stencil.MARGIN, -heart_stencil.MARGIN)
    if box is not None and solver != "cg":
        shape = tuple(s + 1 for s in muscle.weight.shape)
        lines = tuple(
            heart_lines.line(n, dt_ms * d / muscle.h_mm**2) for n, d in zip(shape, box[::-1], strict=True)
        )

        def by_lines(state: State) -> int:
            heart_lines.diffuse_box(state.v[margin].reshape(shape), lines)  # type: ignore[arg-type]
            return 0

        return "lines", by_lines
    parts = heart_stencil.assemble(
        muscle.number,
        muscle.nodes,
        muscle.tensor / np.float32(muscle.h_mm**2),
        muscle.weight,
        SHARES[mass],
    )
    operators = heart_stencil.stencil(*parts, dt_ms)
    work = heart_stencil.work(len(muscle.nodes))

    def by_gradients(state: State) -> int:
        mine = work._replace(delta=state.increment)
        count, residual = heart_stencil.diffuse(
            state.v, operators, mine, tolerance=tolerance_mv, most=MOST_ITERATIONS
        )
        if not residual <= tolerance_mv:
            raise InputError(
                f"{where}: expected the diffusion solve to reach {tolerance_mv:g} mV; got {residual:g} mV after "
                f"{count} iterations (shorter dt_ms, or a look at the voxels' conductivities)"
            )
        return count

    return "cg", by_gradients


def run(
    muscle: Tissue,
    *,
    stimuli: list[Stimulus],
    cell: str,
    dt_ms: float,
    end_ms: float,
    mass: Mass = "consistent",
    solver: Solver = "auto",
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
    named, diffuse = diffusion(muscle, dt_ms, mass, solver, tolerance_mv, where=where)
    sources = [(s, s.nodes(muscle)) for s in stimuli]
    state = state or fresh_state(model, n)
    v = state.v[heart_stencil.MARGIN : -heart_stencil.MARGIN]
    every, keep = max(1, round(sample_ms / dt_ms)), max(1, round(save_every_ms / dt_ms))
    steps = round(end_ms / dt_ms)
    if sample is not None and not state.samples:
        state.samples.append(sample(v))
    facts: dict[str, Any] = {"nodes": n, "dt_ms": dt_ms, "solver": named, "mass": mass, "h_mm": muscle.h_mm}
    facts |= {"cell": cell, "voxel_over_diffusion_length": ratio, "sleep_mv": sleep_mv}
    began, first = clock.perf_counter(), state.step
    warm = began
    with tqdm(total=steps, initial=first, desc=where, unit="step", disable=not progress, leave=False) as bar:
        for k in range(first, steps):
            now = k * dt_ms
            for s, where_to in sources:
                if s.start_ms - 1e-9 <= now < s.start_ms + s.duration_ms - 1e-9:
                    v[where_to[0]] += dt_ms * s.amplitude_mv_per_ms * where_to[1]
            before, rest_y = state.rest_v.copy(), state.rest_y.copy()
            heart_cells.rest_step(model, state.rest_v, state.rest_y, dt_ms, tables)
            heart_cells.react_all(
                model, v, state.y, dt_ms, kind_of, state.awake, before, state.rest_v, rest_y, sleep_mv, tables
            )
            state.iterations += diffuse(state)
            bad = heart_marks.mark_all(v, state.old, now, dt_ms, rise_mv, fall_mv, state.marks)
            if bad:
                raise InputError(
                    f"{where}: expected finite potentials; got {bad} nodes out of range at {now:.3f} ms (a shorter "
                    "dt_ms or a weaker stimulus helps where the time step is too long)"
                )
            state.step = k + 1
            if state.step % every == 0 and sample is not None:
                state.samples.append(sample(v))
            if state.step % keep == 0 and save is not None:
                save(state)
            if k == first:
                warm = clock.perf_counter()  # the first step compiles
            if k == first + 20:
                facts["estimated_s"] = (clock.perf_counter() - warm) / 20 * (steps - first)
                if progress:
                    tqdm.write(
                        f"{where}: {n} nodes, {steps} steps, about {facts['estimated_s']:.0f} s at most"
                    )
            if until_active and state.step % 50 == 0 and not np.isnan(state.marks.first_up).any():
                break
            bar.update()
    facts |= {"end_ms": state.step * dt_ms, "seconds": clock.perf_counter() - began}
    facts |= {"iterations_per_step": state.iterations / max(1, state.step)}
    return state, facts
