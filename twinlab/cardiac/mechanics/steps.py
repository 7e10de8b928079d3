"""Load stepping that cuts a step that fails, recovers, and gives up with everything that is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from twinlab.cardiac.mechanics.assembly import Assembler
from twinlab.cardiac.mechanics.newton import Failed, Load, State, newton

CUTS = 8


class MechanicsError(RuntimeError):
    """A load that could not be reached.

    ``state`` is the last balance (a :class:`~twinlab.cardiac.mechanics.newton.State`), ``reached`` the part of the
    load that it carries.
    """

    def __init__(self, message: str, state: State, reached: float) -> None:
        super().__init__(message)
        self.state = state
        self.reached = reached


def rest(assembler: Assembler) -> State:
    """The body without load."""
    body = assembler.body
    n = len(body.cavities)
    volumes = np.array([c.volume_mm3(body.point) for c in body.cavities])
    load = Load(np.zeros(n), np.full(n, np.nan), np.zeros(len(body.tet)))
    return State(np.zeros((len(body.point), 4)), np.zeros(n), volumes, load)


def reach(
    assembler: Assembler,
    start: State,
    load: Load,
    *,
    steps: int = 1,
    cuts: int = CUTS,
    solver: str = "superlu",
    progress: bool = False,
    what: str = "load",
    guess: np.ndarray | None = None,
) -> State:
    """Bring a body from ``start`` to ``load`` in steps.

    A step that fails is halved, at most ``cuts`` times in a row and two times more in all; after a success it grows
    again. Each step starts
    from the extrapolation of the two before it, and from the last balance if that fails.

    Parameters
    ----------
    steps : int
        Steps that are tried at first.
    cuts : int
        Halvings in a row before giving up.
    what : str
        Name of the load in messages.
    guess : (node, 4), optional
        Change of the field expected over the whole load.

    Raises
    ------
    MechanicsError
        The load was not reached; the error holds the last balance.
    """
    done, size, failed = 0.0, 1.0 / steps, 0
    least = size * 0.5 ** (cuts + 2)  # successes between the failures must not let it shrink for ever
    state = start
    first = replace(start.load, volume_mm3=np.where(np.isfinite(load.volume_mm3), start.volume_mm3, np.nan),
                    pressure_kpa=start.pressure_kpa)  # fmt: skip
    slope = guess
    with tqdm(
        total=1.0, desc=what, disable=not progress, leave=False, bar_format="{l_bar}{bar}|{postfix}"
    ) as bar:
        while done < 1.0:
            part = min(done + size, 1.0)
            if part > 1.0 - 1e-9:
                part = 1.0
            target = first.between(load, part) if part < 1.0 else load
            new, why = _attempt(assembler, state, target, slope, part - done, solver)
            if new is None:
                failed += 1
                if failed > cuts or size < least:
                    raise MechanicsError(
                        f"{what}: no balance beyond {100 * done:.3g} % of the load ({_worded(state.load, load)}); "
                        f"the step to {100 * part:.3g} % failed after {cuts} cuts: {why}, relative residual "
                        f"{why.residual:.2g}. Smaller steps, a stiffer law or a better mesh may help",  # type: ignore[union-attr]
                        state, done,
                    )  # fmt: skip
                size *= 0.5
                continue
            slope = (new.field - state.field) / (part - done)
            bar.update(part - done)
            bar.set_postfix_str(f"{new.iterations} iterations, residual {new.residual:.1e}, {failed} cuts")
            done, state, failed = part, new, 0
            if new.iterations <= 5:
                size *= 1.5
    return state


def _attempt(
    assembler: Assembler, state: State, target: Load, slope: np.ndarray | None, length: float, solver: str
) -> tuple[State | None, Failed | None]:
    if slope is not None:
        try:
            return newton(
                assembler, replace(state, field=state.field + length * slope), target, solver=solver
            ), None
        except Failed:
            pass
    try:
        return newton(assembler, state, target, solver=solver), None
    except Failed as failure:
        return None, failure


def _worded(now: Load, aim: Load) -> str:
    words = [
        f"{name} {_largest(getattr(now, name)):.4g} of {_largest(getattr(aim, name)):.4g}"
        for name in ("pressure_kpa", "volume_mm3", "tension_kpa")
        if not math.isnan(_largest(getattr(aim, name)))
    ]
    return ", ".join(words)


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[np.abs(finite).argmax()]) if finite.size else math.nan
