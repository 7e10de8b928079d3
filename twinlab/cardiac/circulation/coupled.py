"""Ventricles of any kind in the closed loop: backward Euler steps with Newton on the volumes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from tqdm import tqdm

from twinlab.kernels.heart_loop import N_TRACE, PERIOD, affine_pressures, stage
from twinlab.schema import refuse

_NEWTON_TOLERANCE_ML = 1e-6
_MOST_NEWTON = 30
_MOST_HALVINGS = 6
_NODES = (1, 5)  # left and right ventricle in the ring


class CoupledError(RuntimeError):
    """A step of the circulation with a ventricle put in could not be solved."""


class Ventricle(Protocol):
    """A ventricle that answers with its pressure.

    ``pressure`` is a trial: it starts from the state that was last committed and may be called many times a step.
    """

    def pressure(self, volume_ml: float, time_ms: float) -> tuple[float, float]:
        """Pressure, mmHg, and its derivative by volume, mmHg/ml, at a volume and time from the start of the run."""
        ...

    def commit(self) -> None:
        """Accept the last trial as the new state."""
        ...

    def rollback(self) -> None:
        """Forget trials since the last commit."""
        ...


class Ventricles(Protocol):
    """Both ventricles at once: ``pressure((left_ml, right_ml), time_ms)`` gives arrays (2,) and (2, 2)."""

    def pressure(self, volume_ml: tuple[float, float], time_ms: float) -> tuple[np.ndarray, np.ndarray]:
        """Pressures, mmHg, and their derivatives by both volumes (row: pressure, column: volume)."""
        ...

    def commit(self) -> None:
        """Accept the last trial as the new state."""
        ...

    def rollback(self) -> None:
        """Forget trials since the last commit."""
        ...


class CoupledLoop:
    """The closed loop with one or both ventricles replaced.

    Parameters
    ----------
    par : array (45,)
        See :meth:`twinlab.cardiac.circulation.ClosedLoop.flat`.
    left, right, both
        See :func:`twinlab.cardiac.circulation.closed_loop`.
    """

    def __init__(
        self,
        par: np.ndarray,
        *,
        left: Ventricle | None = None,
        right: Ventricle | None = None,
        both: Ventricles | None = None,
    ) -> None:
        self.par = par
        self.single: list[tuple[int, Ventricle]] = [
            (node, one) for node, one in zip(_NODES, (left, right), strict=True) if one is not None
        ]
        self.both = both
        everyone = [*self.single] + ([(0, both)] if both is not None else [])
        for _, one in everyone:
            for method in ("pressure", "commit", "rollback"):
                if not callable(getattr(one, method, None)):
                    refuse(
                        "closed_loop: ventricle", "pressure, commit and rollback methods", type(one).__name__
                    )
        self._everyone = [one for _, one in everyone]
        self._offset, self._slope, self._work = np.empty(8), np.zeros((8, 8)), np.empty((8, 8))
        self._open = np.zeros(4, np.bool_)
        self.pressure, self.flow = np.zeros(8), np.zeros(8)
        self.why = ""

    def _linearise(self, volume: np.ndarray, time_s: float) -> float:
        """Put the ventricles' tangents at the volumes into offset and slope; the pressures' greatest size."""
        nodes = list(_NODES)
        if self.both is not None:
            left, right = float(volume[1]), float(volume[5])
            p, dp = self.both.pressure((left, right), 1000.0 * time_s)
            p, dp = np.asarray(p, float), np.asarray(dp, float)
            self._slope[np.ix_(nodes, nodes)] = dp
            self._offset[nodes] = p - dp @ np.array([left, right])
            return float(np.abs(p).max())
        size = 0.0
        for node, one in self.single:
            value, slope = one.pressure(float(volume[node]), 1000.0 * time_s)
            self._slope[node, node] = slope
            self._offset[node] = value - slope * volume[node]
            size = max(size, abs(value))
        return size

    def _try(self, state: np.ndarray, time_s: float, h: float) -> np.ndarray | None:
        """One backward Euler step; None when Newton does not settle or a ventricle finds no balance (``self.why``)."""
        self.why = ""
        affine_pressures(self.par, time_s + h, self._offset, self._slope)
        guess, new = state.copy(), np.empty(12)
        for _ in range(_MOST_NEWTON):
            try:
                size = self._linearise(guess, time_s + h)
            except RuntimeError as error:  # a ventricle's own: a shorter step asks less of it
                self.why = f" ({error})"
                return None
            if not np.isfinite(size):
                return None
            settled = stage(
                self.par,
                state,
                h,
                self._offset,
                self._slope,
                self._open,
                new,
                self.pressure,
                self.flow,
                self._work,
            )
            change = new[list(_NODES)] - guess[list(_NODES)]
            if not np.isfinite(new).all():
                return None
            largest = float(np.abs(change).max())
            if largest < _NEWTON_TOLERANCE_ML:
                return new if settled else None  # no set of valves agrees with its pressures
            damp = min(1.0, 10.0 / largest)
            guess = new.copy()
            guess[list(_NODES)] -= (1.0 - damp) * change
        return None

    def step(self, state: np.ndarray, time_s: float, h: float) -> tuple[np.ndarray, np.ndarray]:
        """Move the loop on by ``h`` seconds, in halves where needed, and commit the ventricles.

        Returns
        -------
        state : array (12,)
        passed : array (8,)
            Volume through every link, ml.

        Raises
        ------
        CoupledError
            Even 1/64 of the step fails.
        """
        passed, done, piece = np.zeros(8), 0.0, h
        while done < h * (1.0 - 1e-12):
            new = self._try(state, time_s + done, piece)
            if new is None:
                for one in self._everyone:
                    one.rollback()
                piece *= 0.5
                if piece < h / 2**_MOST_HALVINGS:
                    raise CoupledError(
                        f"closed_loop: no solution at {1000.0 * (time_s + done):.3f} ms, volumes"
                        f" {state[1]:.2f} and {state[5]:.2f} ml, even with steps of {2000.0 * piece:.4f} ms;"
                        f" take more steps_per_beat or look at the ventricle's pressure there{self.why}"
                    )
                continue
            for one in self._everyone:
                one.commit()
            passed += piece * self.flow
            state, done = new, done + piece
        return state, passed

    def run(
        self,
        state: np.ndarray,
        steps: int,
        least: int,
        most: int,
        tolerance_ml: float,
        progress: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, int, float]:
        """Beats until periodic, as :func:`twinlab.kernels.heart_loop.run_loop`; trace, passed, beats, change."""
        trace, h, change, beat = np.empty((steps + 1, N_TRACE)), self.par[PERIOD] / steps, np.inf, 0
        passed = np.zeros(8)
        for beat in tqdm(range(1, most + 1), desc="beats", disable=not progress):
            before, passed = state.copy(), np.zeros(8)
            trace[0] = trace[steps]
            for k in range(steps):
                state, through = self.step(state, self.par[PERIOD] * (beat - 1) + k * h, h)
                passed += through
                trace[k + 1] = np.concatenate([self.pressure, state[:8], self.flow])
            change = float(np.abs(state[:8] - before[:8]).max())
            if beat >= max(2, least) and change <= tolerance_ml:
                break
        return trace, passed, beat, change
