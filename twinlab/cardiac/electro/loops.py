"""The three parts of a time step on a place: the processor's loops, or those of a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from twinlab.cardiac.electro.tissue import Tissue
from twinlab.kernels import heart_cells, heart_lines, heart_marks, heart_stencil
from twinlab.kernels.device import Device, resolve
from twinlab.kernels.heart_cells import CellTables
from twinlab.schema import refuse

Mass = Literal["consistent", "half", "lumped"]
Solver = Literal["auto", "lines", "cg"]
SHARES = {"consistent": 1.0, "half": 0.5, "lumped": 0.0}
MOST_ITERATIONS = 200
INSIDE = slice(heart_stencil.MARGIN, -heart_stencil.MARGIN)


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


class Loops(Protocol):
    """What the time loop asks of a place."""

    name: str

    def stimulate(self, where: np.ndarray, amount: np.ndarray) -> None:
        """Add to the potential of chosen nodes, mV."""

    def react(self, dt: float, before: np.ndarray, after: np.ndarray, rest: np.ndarray, bound: float) -> None:
        """Step of all cells."""

    def diffuse(self, tolerance: float) -> tuple[int, float]:
        """Step of diffusion: iterations and residual in mV."""

    def mark(self, time: float, dt: float, rise: float, fall: float, look: bool) -> int:
        """Marks of all nodes; how many potentials are out of range (where ``look`` is False it may be late)."""

    def potential(self) -> np.ndarray:
        """Potential of the nodes, mV."""

    def store(self) -> None:
        """Bring the state up to date."""


class ProcessorLoops:
    """Loops on the processor; the state is theirs and always up to date."""

    def __init__(
        self,
        model: int,
        state: State,
        kind: np.ndarray,
        tables: CellTables,
        lines: tuple[heart_lines.Line, ...] | None,
        stencil: heart_stencil.Stencil | None,
        shape: tuple[int, ...],
    ) -> None:
        self.model, self.state, self.kind, self.tables = model, state, kind, tables
        self.lines, self.stencil, self.shape = lines, stencil, shape
        self.name = "cg" if lines is None else "lines"
        self.v = state.v[INSIDE]
        self.work = heart_stencil.work(0 if stencil is None else state.old.size)._replace(
            delta=state.increment
        )

    def stimulate(self, where: np.ndarray, amount: np.ndarray) -> None:
        """See :class:`Loops`."""
        self.v[where] += amount

    def react(self, dt: float, before: np.ndarray, after: np.ndarray, rest: np.ndarray, bound: float) -> None:
        """See :class:`Loops`."""
        s = self.state
        heart_cells.react_all(
            self.model, self.v, s.y, dt, self.kind, s.awake, before, after, rest, bound, self.tables
        )

    def diffuse(self, tolerance: float) -> tuple[int, float]:
        """See :class:`Loops`."""
        if self.stencil is None:
            heart_lines.diffuse_box(self.v.reshape(self.shape), self.lines)  # type: ignore[arg-type]
            return 0, 0.0
        return heart_stencil.diffuse(
            self.state.v, self.stencil, self.work, tolerance=tolerance, most=MOST_ITERATIONS
        )

    def mark(self, time: float, dt: float, rise: float, fall: float, look: bool) -> int:
        """See :class:`Loops`."""
        return heart_marks.mark_all(self.v, self.state.old, time, dt, rise, fall, self.state.marks)

    def potential(self) -> np.ndarray:
        """See :class:`Loops`."""
        return self.v

    def store(self) -> None:
        """See :class:`Loops`."""


class CudaLoops:
    """Loops on a CUDA device; the state is brought back by :meth:`store`."""

    name = "cg on cuda"

    def __init__(
        self, model: int, state: State, kind: np.ndarray, tables: CellTables, stencil: heart_stencil.Stencil
    ) -> None:
        from twinlab.kernels.heart_cuda import DeviceLoops

        names = ("v", "increment", "y", "awake", "old")
        arrays: dict[str, np.ndarray] = {n: getattr(state, n) for n in names} | {"kind": kind}
        self.state = state
        self.there: Any = DeviceLoops(model, arrays, state.marks, tables, stencil)
        self.stimulate, self.react = self.there.stimulate, self.there.react

    def diffuse(self, tolerance: float) -> tuple[int, float]:
        """See :class:`Loops`."""
        return self.there.diffuse(tolerance, MOST_ITERATIONS)

    def mark(self, time: float, dt: float, rise: float, fall: float, look: bool) -> int:
        """See :class:`Loops`."""
        return self.there.mark(time, dt, rise, fall, look=look)

    def potential(self) -> np.ndarray:
        """See :class:`Loops`."""
        return self.there.v.copy_to_host()

    def store(self) -> None:
        """See :class:`Loops`."""
        arrays, self.state.marks = self.there.fetch()
        for name in ("v", "increment", "y", "awake", "old"):
            setattr(self.state, name, arrays[name])


def aligned(muscle: Tissue) -> np.ndarray | None:
    """Diffusivities along x, y, z where the muscle is a full box of one tensor along the axes, else None."""
    if not (muscle.weight == 1.0).all():
        return None
    t = muscle.tensor.reshape(-1, 6)
    if np.ptp(t, axis=0).max() > 1e-6 * t.max() or np.abs(t[:, 3:]).max() > 1e-6 * t.max():
        return None
    return t[0, :3].astype(float)


def make_loops(
    muscle: Tissue,
    model: int,
    state: State,
    kind: np.ndarray,
    tables: CellTables,
    *,
    dt_ms: float,
    mass: Mass,
    solver: Solver,
    device: Device,
    where: str,
) -> Loops:
    """Loops of a run on the device and with the solver that it asks for.

    Raises
    ------
    InputError
        Unknown names, no such device, or line solves for what is no even box.
    """
    if mass not in SHARES:
        refuse(f"{where}: mass", "'consistent', 'half' or 'lumped'", repr(mass))
    place = resolve(device, where=where)
    box = aligned(muscle) if place == "cpu" else None
    if solver not in ("auto", "lines", "cg") or (solver == "lines" and box is None):
        refuse(f"{where}: solver", "'auto', 'cg', or 'lines' for an even box on the processor", repr(solver))
    shape = tuple(s + 1 for s in muscle.weight.shape)
    if box is not None and solver != "cg":
        lines = tuple(
            heart_lines.line(n, dt_ms * d / muscle.h_mm**2, share=SHARES[mass])
            for n, d in zip(shape, box[::-1], strict=True)
        )
        return ProcessorLoops(model, state, kind, tables, lines, None, shape)
    tensor = muscle.tensor / np.float32(muscle.h_mm**2)
    parts = heart_stencil.assemble(muscle.number, muscle.nodes, tensor, muscle.weight, SHARES[mass])
    stencil = heart_stencil.stencil(*parts, dt_ms)
    if place == "cuda":
        return CudaLoops(model, state, kind, tables, stencil)
    return ProcessorLoops(model, state, kind, tables, None, stencil, shape)
