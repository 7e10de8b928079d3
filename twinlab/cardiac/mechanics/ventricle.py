"""One or two ventricles as the circulation sees them: pressure for a volume at a time, steps kept or taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from twinlab.cardiac.mechanics.assembly import Assembler
from twinlab.cardiac.mechanics.bodies import Body
from twinlab.cardiac.mechanics.linear import chosen
from twinlab.cardiac.mechanics.newton import Load, State, compliance
from twinlab.cardiac.mechanics.steps import reach, rest
from twinlab.schema import refuse

KPA_PER_MMHG = 0.133322
MM3_PER_ML = 1000.0


class Ventricle:
    """A body whose cavities a circulation fills and empties.

    :meth:`pressure` and :meth:`volume` solve from the last kept step; what they find becomes the state only with
    :meth:`commit`. Volumes in ml and pressures in mmHg, one number for one cavity, else an array in the order of
    ``body.cavities``.

    Parameters
    ----------
    body : Body
    tension_kpa : callable
        Tension (tet,) at a time in ms, for example a :class:`~twinlab.cardiac.mechanics.Twitch`.
    solver : {"auto", "superlu", "pardiso"}
    cuts : int
        Halvings of a step before it is given up.
    progress : bool
        Progress of the steps.
    """

    def __init__(
        self,
        body: Body,
        tension_kpa: Callable[[float], np.ndarray],
        *,
        solver: str = "auto",
        cuts: int = 8,
        progress: bool = False,
    ) -> None:
        if not body.cavities or not all(one.closed for one in body.cavities):
            refuse("Ventricle", "a body with closed cavities", body.names)
        self.body = body
        self.tension_kpa = tension_kpa
        self.solver = chosen(solver)
        self.cuts = cuts
        self.progress = progress
        self._assembler = Assembler(body)
        self._kept = rest(self._assembler)
        self._trial: State | None = None

    @property
    def state(self) -> State:
        """The last kept balance; give it to :meth:`restore` to come back to it."""
        return self._kept

    @property
    def volume_ml(self) -> Any:
        """Volume of the kept state."""
        return self._out(self._kept.volume_mm3 / MM3_PER_ML)

    @property
    def pressure_mmhg(self) -> Any:
        """Pressure of the kept state."""
        return self._out(self._kept.pressure_kpa / KPA_PER_MMHG)

    @property
    def displacement_mm(self) -> np.ndarray:
        """Displacement (node, 3) of the last solution, kept or not."""
        return (self._trial or self._kept).field[:, :3]

    def pressure(self, volume_ml: Any, time_ms: float, *, exact: bool = False) -> tuple[Any, Any]:
        """Pressure that holds a volume at a time, and its derivative with respect to the volume.

        Parameters
        ----------
        volume_ml : float or (cavity,)
        time_ms : float
        exact : bool
            Make the derivative from the tangent at the balance itself; costs one factorisation.

        Returns
        -------
        pressure_mmhg, stiffness_mmhg_ml
            Stiffness is (cavity, cavity) for more than one. It belongs to the last tangent that was made, some per cent
            off where that one served for several steps, unless ``exact``.

        Raises
        ------
        InputError
            A volume that is not above zero.
        MechanicsError
            No balance; the kept state is what it was.
        """
        volume = self._in(volume_ml) * MM3_PER_ML
        if not np.all(volume > 0):
            refuse("Ventricle.pressure", "volumes above zero", volume_ml)
        load = Load(np.zeros(len(volume)), volume, self.tension_kpa(time_ms))
        state = self._solve(load, f"volume {volume_ml} ml at {time_ms:g} ms")
        if exact or state.compliance is None:
            state = compliance(self._assembler, state, np.ones(len(volume), bool), solver=self.solver)
            self._trial = state
        stiffness = np.linalg.inv(np.asarray(state.compliance)) * MM3_PER_ML / KPA_PER_MMHG
        out = stiffness if len(volume) > 1 else float(stiffness[0, 0])
        return self._out(state.pressure_kpa / KPA_PER_MMHG), out

    def volume(self, pressure_mmhg: Any, time_ms: float, *, steps: int = 1) -> Any:
        """Volume under a pressure at a time, ml; in ``steps`` steps of the load.

        Raises
        ------
        MechanicsError
            No balance; the kept state is what it was.
        """
        pressure = self._in(pressure_mmhg) * KPA_PER_MMHG
        load = Load(pressure, np.full(len(pressure), np.nan), self.tension_kpa(time_ms))
        state = self._solve(load, f"pressure {pressure_mmhg} mmHg at {time_ms:g} ms", steps)
        return self._out(state.volume_mm3 / MM3_PER_ML)

    def commit(self) -> None:
        """Keep the last solution."""
        if self._trial is not None:
            self._kept = self._trial
        self._trial = None

    def rollback(self) -> None:
        """Forget the last solution."""
        self._trial = None

    def restore(self, state: State) -> None:
        """Come back to a state of this body that was kept before.

        Raises
        ------
        InputError
            A state of another body.
        """
        if state.field.shape != self._kept.field.shape:
            refuse("Ventricle.restore", f"a state of {len(self._kept.field)} nodes", len(state.field))
        self._kept, self._trial = state, None

    def _solve(self, load: Load, what: str, steps: int = 1) -> State:
        # a trial of the same step is nearer than the kept state; its own target is part of no path
        shape = (len(self.body.tet),)
        if np.shape(load.tension_kpa) != shape or not np.isfinite(load.tension_kpa).all():
            refuse(
                "Ventricle: tension_kpa",
                f"a finite tension for each of {shape[0]} tetrahedra",
                f"shape {np.shape(load.tension_kpa)}, {int((~np.isfinite(load.tension_kpa)).sum())} not finite",
            )
        near = self._trial or self._kept
        self._trial = None
        start = replace(near, compliance=None)
        self._trial = reach(
            self._assembler,
            start,
            load,
            steps=steps,
            cuts=self.cuts,
            solver=self.solver,
            progress=self.progress,
            what=what,
        )
        return self._trial

    def _in(self, values: Any) -> np.ndarray:
        array = np.atleast_1d(np.asarray(values, float))
        if array.shape != (len(self.body.cavities),) or not np.isfinite(array).all():
            refuse("Ventricle", f"a finite number for each of {self.body.names}", values)
        return array

    def _out(self, values: np.ndarray) -> Any:
        return values if len(values) > 1 else float(values[0])
