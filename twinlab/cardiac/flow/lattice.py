"""Lattice Boltzmann runs in physical units: scaling with its guards, steady and pulsatile flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from twinlab.cardiac.flow.analytic import BLOOD_DENSITY_KG_PER_M3, BLOOD_VISCOSITY_PA_S
from twinlab.cardiac.flow.grid import Grid
from twinlab.kernels.device import Device, resolve
from twinlab.kernels.heart_lattice import DIRECTIONS, INLET, MAGIC, OUTLET, WEIGHTS, moments, run_steps
from twinlab.kernels.heart_lattice_cuda import run_steps_cuda
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

LEAST_RELAXATION = 0.515  # below, runs with a tube of 12 voxels and a Reynolds number of 200 became unstable
MOST_RELAXATION = 2.0
MOST_SPEED = 0.15  # Mach number 0.26
_USUAL_SPEED, _FAST_SPEED = 0.05, 0.1
_CHUNK = 200


@dataclass(frozen=True)
class Scaling:
    """What a lattice unit is.

    Attributes
    ----------
    voxel_mm, step_s : float
    viscosity_pa_s, density_kg_per_m3 : float
    relaxation_time : float
        Of the viscosity, in steps.
    speed : float
        Greatest expected velocity in lattice units.
    """

    voxel_mm: float
    step_s: float
    viscosity_pa_s: float
    density_kg_per_m3: float
    relaxation_time: float
    speed: float

    @property
    def metres_per_second(self) -> float:
        """One lattice unit of velocity."""
        return self.voxel_mm * 1e-3 / self.step_s

    @property
    def pascal(self) -> float:
        """Pressure of one lattice unit of density."""
        return self.density_kg_per_m3 * self.metres_per_second**2 / 3.0

    @property
    def rates(self) -> tuple[float, float]:
        """Even and odd relaxation rates."""
        # The magic number keeps walls where they are. At low viscosity it would let odd moments ring (some 2 /
        # (relaxation time - 1/2) steps), which spoils inlets and stability: their relaxation time is at most 2.5.
        over = self.relaxation_time - 0.5
        return 1.0 / self.relaxation_time, 1.0 / (0.5 + min(MAGIC / over, 2.0))


def scale(
    *,
    voxel_mm: float,
    peak_m_per_s: float,
    viscosity_pa_s: float = BLOOD_VISCOSITY_PA_S,
    density_kg_per_m3: float = BLOOD_DENSITY_KG_PER_M3,
    lattice_speed: float | None = None,
) -> Scaling:
    """Choose the time step of a run.

    Parameters
    ----------
    voxel_mm : float
    peak_m_per_s : float
        Greatest velocity to expect.
    viscosity_pa_s, density_kg_per_m3 : float
    lattice_speed : float, optional
        That velocity in lattice units. Default: 0.05, less where the relaxation time would be above 1, up to 0.1 where
        it would be too short.

    Raises
    ------
    InputError
        The run would be unstable or inaccurate; the message says what to do.
    """
    for name, number in (
        ("voxel_mm", voxel_mm),
        ("peak_m_per_s", peak_m_per_s),
        ("viscosity", viscosity_pa_s),
    ):
        if not (np.isfinite(number) and number > 0):
            refuse(f"flow: {name}", "a number above 0", number)
    per_speed = 3.0 * viscosity_pa_s / density_kg_per_m3 / (peak_m_per_s * voxel_mm * 1e-3)
    chosen = lattice_speed
    if chosen is None:
        chosen = min(_USUAL_SPEED, 0.5 / per_speed)
        if 0.5 + per_speed * chosen < LEAST_RELAXATION + 0.004:
            chosen = _FAST_SPEED
    if not 0 < chosen <= MOST_SPEED:
        refuse(
            "flow: lattice_speed", f"above 0 and at most {MOST_SPEED} (Mach number 0.26): take less", chosen
        )
    relaxation = 0.5 + per_speed * chosen
    if relaxation < LEAST_RELAXATION:
        reynolds = density_kg_per_m3 * peak_m_per_s * voxel_mm * 1e-3 / viscosity_pa_s
        finer = voxel_mm * (relaxation - 0.5) / (LEAST_RELAXATION - 0.5)
        refuse(
            "flow: relaxation time",
            f"{LEAST_RELAXATION} or more for stability (voxels of {finer:.2g} mm or less, or a lower flow)",
            f"{relaxation:.4f} for {peak_m_per_s:.2g} m/s, {voxel_mm:g} mm (Reynolds number of a voxel {reynolds:.0f})",
        )
    if relaxation > MOST_RELAXATION:
        refuse(
            "flow: relaxation time",
            f"at most {MOST_RELAXATION} (take a lower lattice_speed)",
            f"{relaxation:.3f}",
        )
    step = chosen * voxel_mm * 1e-3 / peak_m_per_s
    return Scaling(voxel_mm, step, viscosity_pa_s, density_kg_per_m3, relaxation, chosen)


class Run:
    """A run on a grid.

    Parameters
    ----------
    grid : Grid
    scaling : Scaling
    mean_inflow_m_per_s : float
        Mean velocity at the inlet for a factor of 1.
    device : {"auto", "cpu", "cuda"}
    """

    def __init__(
        self, grid: Grid, scaling: Scaling, *, mean_inflow_m_per_s: float = 0.0, device: Device = "cpu"
    ) -> None:
        self.grid, self.scaling = grid, scaling
        self._where = resolve(device, where="flow")
        self.steps = 0
        self._force = np.zeros(3)
        self.populations = np.zeros((19, grid.cells.shape[1]))
        self._other = np.zeros_like(self.populations)
        factor = np.where(grid.kind == INLET, mean_inflow_m_per_s / scaling.metres_per_second, 1.0)
        self._value = grid.value * factor

    def advance(self, inflow: np.ndarray, force_n_per_m3: np.ndarray) -> None:
        """Steps with a factor of the inflow (step,) and a body force (step, 3) as x, y, z; an even number.

        Raises
        ------
        InputError
            The run became unstable.
        """
        s = self.scaling
        unit = s.density_kg_per_m3 * s.voxel_mm * 1e-3 / s.step_s**2
        forces = np.asarray(force_n_per_m3, float) / unit
        inputs = (self.grid.source, self.grid.fraction, self.grid.kind, self._value, np.asarray(inflow, float), forces,
                  *s.rates, DIRECTIONS, WEIGHTS)  # fmt: skip
        if self._where == "cuda":
            self.populations = run_steps_cuda(self.populations, *inputs)
        else:
            with one_parallel_region():
                run_steps(self.populations, self._other, *inputs)
        self.steps += len(forces)
        self._force = forces[-1]
        speed = np.sqrt((self.lattice_velocity() ** 2).sum(axis=0)).max()
        if not np.isfinite(speed) or speed > 0.5:
            refuse(
                "flow",
                "a stable run (take smaller voxels, a lower flow or a lower lattice_speed)",
                f"a velocity of {speed:.3g} lattice units after {self.steps} steps",
            )

    def lattice_velocity(self) -> np.ndarray:
        """Velocity (3, cell) as x, y, z in lattice units."""
        return moments(self.populations, self._force)[1]

    def velocity_m_per_s(self) -> np.ndarray:
        """Velocity (3, cell) as x, y, z."""
        return self.lattice_velocity() * self.scaling.metres_per_second

    def pressure_pa(self) -> np.ndarray:
        """Pressure (cell,) above that of the outlets."""
        return moments(self.populations, self._force)[0] * self.scaling.pascal

    def through_ends(self) -> dict[int, float]:
        """Flow into the grid through every end by the populations on its links, ml/s."""
        flows: dict[int, float] = {}
        f, g = self.populations, self.grid
        back = np.array([0] + [i + 1 if i % 2 else i - 1 for i in range(1, 19)])
        total = np.zeros(int(g.end.max()) + 1 if g.end.size else 0)
        velocity = self.lattice_velocity()
        square = (velocity**2).sum(axis=0)
        for i in range(1, 19):
            nodes = np.flatnonzero(g.source[i] < 0)
            link = -1 - g.source[i, nodes]
            for kind in (INLET, OUTLET):
                mine = g.kind[link] == kind
                at, which = nodes[mine], link[mine]
                sent = f[back[i], at]
                if kind == INLET:
                    net = self._value[which]
                else:
                    along = DIRECTIONS[i] @ velocity[:, at]
                    net = 2 * WEIGHTS[i] * (self._value[which] + 4.5 * along**2 - 1.5 * square[at]) - 2 * sent
                np.add.at(total, g.end[which], net)
        unit = (self.scaling.voxel_mm * 1e-3) ** 2 * self.scaling.metres_per_second * 1e6
        for k, value in enumerate(total):
            flows[k] = float(value * unit)
        return flows


def steady(
    run: Run,
    *,
    force_n_per_m3: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tolerance: float = 2e-5,
    most_steps: int = 60_000,
    progress: bool = False,
) -> bool:
    """Run until the velocity stands still; the inflow rises smoothly over the first 400 steps.

    Parameters
    ----------
    run : Run
    force_n_per_m3 : tuple
        Body force, x, y, z.
    tolerance : float
        Greatest change of velocity over 200 steps, over the greatest velocity.
    most_steps : int
    progress : bool

    Returns
    -------
    bool
        Whether it stood still within ``most_steps``.
    """
    before = run.lattice_velocity()
    chunks = max(3, -(-most_steps // _CHUNK))
    with tqdm(total=chunks * _CHUNK, desc="lattice steps", disable=not progress) as bar:
        for chunk in range(chunks):
            time = np.arange(chunk * _CHUNK, (chunk + 1) * _CHUNK)
            inflow = 0.5 - 0.5 * np.cos(np.pi * np.clip(time / 400.0, 0.0, 1.0))
            run.advance(inflow, inflow[:, None] * np.asarray(force_n_per_m3)[None])
            now = run.lattice_velocity()
            change = np.abs(now - before).max() / max(np.abs(now).max(), 1e-30)
            before = now
            bar.update(_CHUNK)
            bar.set_postfix(change=f"{change:.1e}")
            if chunk > 2 and change < tolerance:
                return True
    return False


def pulsatile(
    run: Run,
    *,
    period_s: float,
    force_n_per_m3: Callable[[np.ndarray], np.ndarray],
    cycles: int = 6,
    phases: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """Run under a periodic body force; velocities over the last cycle.

    Parameters
    ----------
    run : Run
    period_s : float
        Rounded to an even number of steps a phase.
    force_n_per_m3 : callable
        Force (step, 3) at phases (step,) of the cycle in [0, 1).
    cycles, phases : int

    Returns
    -------
    phase : array (phase,)
        Of the cycle.
    velocity : array (phase, 3, cell)
        m/s.

    Raises
    ------
    InputError
        Fewer than 20 steps a phase.
    """
    each = 2 * round(0.5 * period_s / run.scaling.step_s / phases)
    if each < 20:
        refuse("flow: pulsatile", "20 steps a phase or more (take a lower lattice_speed)", each)
    whole = each * phases
    shots, at = [], []
    for cycle in range(cycles):
        for k in range(phases):
            steps = np.arange(k * each, (k + 1) * each)
            # step n goes from time n to n + 1; the force of its collision acts at n + 1
            run.advance(np.ones(each), force_n_per_m3((steps + 1.0) % whole / whole))
            if cycle == cycles - 1:
                shots.append(run.velocity_m_per_s())
                at.append((k + 1) * each / whole % 1.0)
    return np.array(at), np.array(shots)
