"""Newton's method with line search for a body under given cavity pressures or given cavity volumes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from twinlab.cardiac.mechanics.assembly import Assembler, Residual
from twinlab.cardiac.mechanics.linear import Singular, Solve, factorised

RTOL = 1e-8  # forces out of balance against the sum of internal and external ones
VOLUME_RTOL = 1e-9  # of a cavity's volume, far below the 1e-6 that a closed loop's balance asks
MOST = 25
HALVINGS = 6
PATIENCE = 7  # tangents after which the residual must have fallen to a third, or the step is cut
REUSE = 0.15  # a tangent serves on, even into the next step, while an iteration leaves at most this share
GROWTH = 2.0  # a full step may let forces grow that much: the volume equations pull elsewhere at first


class Failed(ArithmeticError):
    """A step that did not converge; ``residual`` is the last relative residual."""

    def __init__(self, why: str, residual: float) -> None:
        super().__init__(why)
        self.residual = residual


@dataclass(frozen=True)
class Load:
    """What acts on a body.

    ``pressure_kpa`` or ``volume_mm3`` (cavity,) is given: a cavity whose volume is not NaN gets the pressure that
    keeps it. ``tension_kpa`` (tet,); ``dead_mn`` (node, 3) are forces that do not change with the body;
    ``moved_mm`` (node, 3) is the displacement of held nodes.
    """

    pressure_kpa: np.ndarray
    volume_mm3: np.ndarray
    tension_kpa: np.ndarray
    dead_mn: np.ndarray | None = None
    moved_mm: np.ndarray | None = None

    def between(self, other: Load, part: float) -> Load:
        """The load ``part`` of the way to ``other``."""

        def mixed(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
            if a is None and b is None:
                return None
            return np.asarray((1 - part) * (0.0 if a is None else a) + part * (0.0 if b is None else b))

        return Load(*(mixed(getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__))  # type: ignore[arg-type]


@dataclass(frozen=True)
class State:
    """Balance of a body: ``field`` (node, 4) displacement and pressure, cavity pressures and volumes.

    ``iterations`` counts the tangents that were made. ``compliance`` (cavity, cavity), mm3/kPa, is the derivative of
    the volumes with respect to the pressures by the last tangent, where there was need of one.
    """

    field: np.ndarray
    pressure_kpa: np.ndarray
    volume_mm3: np.ndarray
    load: Load
    iterations: int = 0
    residual: float = 0.0
    compliance: np.ndarray | None = dataclasses.field(default=None, repr=False)


@dataclass
class _Step:
    """Solution of one linear system, cavities with given volumes eliminated."""

    solve: Solve
    columns: np.ndarray  # (free, kept cavity), K^-1 of the force of a unit pressure
    rows: np.ndarray  # (kept cavity, free)

    @property
    def compliance(self) -> np.ndarray:
        """Derivative of the kept cavities' volumes with respect to their pressures, mm3/kPa."""
        return self.rows @ self.columns


def prepared(
    assembler: Assembler, matrix: sp.csc_matrix | None, residual: Residual, kept: np.ndarray, solver: str
) -> _Step:
    """Factorise a tangent for the cavities ``kept`` (bool per cavity) at a given volume.

    Raises
    ------
    Singular
    """
    if matrix is None:
        raise Singular("no tangent of an unusable state")
    solve = factorised(matrix, solver)
    rows = _rows(assembler, residual, kept)
    columns = np.stack([solve(row) for row in rows], 1) if len(rows) else np.empty((assembler.body.n_free, 0))
    step = _Step(solve, columns, rows)
    assembler.kept_step = (kept.copy(), solver, step)
    return step


def _rows(assembler: Assembler, residual: Residual, kept: np.ndarray) -> np.ndarray:
    rows = [assembler.free(residual.gradient[k]) for k in np.flatnonzero(kept)]
    return np.array(rows).reshape(-1, assembler.body.n_free)


def _kept_step(assembler: Assembler, kept: np.ndarray, solver: str) -> _Step | None:
    """The last tangent of this body, if it was made for the same cavities."""
    if assembler.kept_step is None:
        return None
    before, name, step = assembler.kept_step
    return step if name == solver and np.array_equal(before, kept) else None


def newton(assembler: Assembler, start: State, load: Load, *, solver: str, most: int = MOST) -> State:
    """Balance of a body under ``load``, from ``start``.

    Parameters
    ----------
    assembler : Assembler
    start : State
        First guess.
    load : Load
    solver : {"superlu", "pardiso"}
    most : int
        Tangents allowed. One that was made for an earlier step is tried first (chord iteration), as long as it
        makes the residual fall quickly.

    Raises
    ------
    Failed
        An element turned inside out at the start, no convergence, a singular tangent.
    """
    kept = np.isfinite(load.volume_mm3)
    field_now = start.field.copy()
    if load.moved_mm is not None:
        held = assembler.body.unknown[:, :3] < 0
        field_now[:, :3][held] = load.moved_mm[held]
    pressure = np.where(kept, start.pressure_kpa, load.pressure_kpa)
    sizes = np.where(kept, np.abs(load.volume_mm3), 1.0)
    muscle = float(assembler.body.measure.sum())

    def sizes_of(now: Residual) -> np.ndarray:
        """Forces (mN), volume equations (share of the muscle) and volumes (share) that are out of balance."""
        free = np.where(assembler.body.unknown >= 0, now.force, 0.0)
        gap = np.where(kept, now.volumes_mm3 - load.volume_mm3, 0.0) / sizes
        return np.array([_norm(free[:, :3]), _norm(free[:, 3]) / muscle, np.abs(gap).max(initial=0.0)])

    def balance(values: np.ndarray, p: np.ndarray) -> Residual:
        return assembler(values, p, load.tension_kpa, load.dead_mn, tangent=False)[0]

    step = _kept_step(assembler, kept, solver)
    stale, last, softness = step is not None, np.inf, None
    before: float = np.inf
    built: list[float] = []  # residuals at which the tangent was made
    now = balance(field_now, pressure)
    for _ in range(4 * most):
        if not now.usable:
            raise Failed(f"an element is turned inside out (volume ratio {now.lowest:.3g})", last)
        unit = np.array([max(now.scale, 1e-12), 1.0, VOLUME_RTOL / RTOL])  # so that RTOL ends all three
        last = float((sizes_of(now) / unit).max())
        if last <= RTOL:
            return State(field_now, pressure, now.volumes_mm3, load, len(built), last, softness)
        try:
            if step is None or last > REUSE * before:
                built.append(last)
                if len(built) > most or (len(built) > PATIENCE and last > built[-1 - PATIENCE] / 3):
                    break
                _, matrix = assembler(field_now, pressure, load.tension_kpa, load.dead_mn, tangent=True)
                step, stale = prepared(assembler, matrix, now, kept, solver), False
            before = last
            change = -step.solve(assembler.free(now.force))
            more = np.zeros(len(kept))
            if kept.any():
                step.rows = _rows(assembler, now, kept)
                softness = step.compliance
                wanted = (load.volume_mm3 - now.volumes_mm3)[kept] - step.rows @ change
                more[kept] = np.linalg.solve(softness, wanted)
                change = change + step.columns @ more[kept]
        except (Singular, np.linalg.LinAlgError) as failure:
            raise Failed(f"the tangent is singular ({failure})", last) from failure
        direction = assembler.spread(change)
        part = 1.0
        best: tuple[float, float, Residual | None] = (np.inf, 0.0, None)
        for _ in range(1 if stale else HALVINGS):
            trial = balance(field_now + part * direction, pressure + part * more)
            if trial.usable:
                size = float((sizes_of(trial) / unit).max())
                if size < best[0]:
                    best = (size, part, trial)
                if size <= GROWTH * last:
                    break
            part *= 0.5
        if stale and best[0] > last:
            step, before = None, np.inf  # the old tangent leads nowhere: make a new one here
            continue
        if best[2] is None:
            raise Failed("every shortened step turns an element inside out", last)
        field_now = field_now + best[1] * direction
        pressure = pressure + best[1] * more
        now, stale = best[2], True
    raise Failed(f"no balance with {len(built)} tangents", last)


def _norm(values: np.ndarray) -> float:
    """Euclidean norm; infinite rather than a warning where an iterate has run away."""
    with np.errstate(over="ignore"):
        return float(np.sqrt((values**2).sum()))


def compliance(assembler: Assembler, state: State, kept: np.ndarray, *, solver: str) -> State:
    """The state with the derivative of the kept cavities' volumes with respect to their pressures."""
    now, matrix = assembler(
        state.field, state.pressure_kpa, state.load.tension_kpa, state.load.dead_mn, tangent=True
    )
    return replace(state, compliance=prepared(assembler, matrix, now, kept, solver).compliance)
