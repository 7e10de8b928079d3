"""The shape that a heart would have without load, from its shape under end-diastolic pressure."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from twinlab.cardiac.mechanics.assembly import Assembler
from twinlab.cardiac.mechanics.bodies import body
from twinlab.cardiac.mechanics.linear import chosen
from twinlab.cardiac.mechanics.newton import Load
from twinlab.cardiac.mechanics.quadratic_mesh import quadratic
from twinlab.cardiac.mechanics.steps import MechanicsError, reach, rest
from twinlab.cardiac.mechanics.ventricle import KPA_PER_MMHG
from twinlab.schema import label, refuse


def unloaded(
    heart: xr.Dataset,
    *,
    pressure_mmhg: Any,
    tolerance_mm: float = 0.05,
    most: int = 30,
    steps: int = 4,
    solver: str = "auto",
    progress: bool = False,
    **settings: Any,
) -> xr.Dataset:
    """Stress-free mesh that takes the given shape under a pressure, by the fixed point of Sellier.

    The points are moved back by the displacement that the last guess has under the pressure, until guess and
    displacement add up to the given shape. Where an update makes things worse it is taken with half the length.
    Directions of the fibres stay with their tetrahedra.

    Parameters
    ----------
    heart : Dataset
        Mesh under load, linear or quadratic.
    pressure_mmhg : float or (cavity,)
        Pressure of the cavities.
    tolerance_mm : float
        Greatest distance left between the loaded guess and the given points.
    most : int
        Iterations allowed.
    steps : int
        Load steps of each solution.
    **settings
        Of :func:`twinlab.cardiac.mechanics.body`: law, fixed, springs, ...

    Returns
    -------
    Dataset
        Quadratic mesh without load; ``displacement`` brings it to the loaded shape. Attributes
        ``unloading_error_mm`` and ``unloading_iterations``.

    Raises
    ------
    InputError
        A pressure below zero.
    MechanicsError
        The tolerance was not reached, or a solution failed.

    References
    ----------
    Sellier 2011, Int J Comput Methods Eng Sci Mech 12, 1, equation 6.
    """
    pressure = np.atleast_1d(np.asarray(pressure_mmhg, float)) * KPA_PER_MMHG
    if not np.all(pressure >= 0):
        refuse("unloaded", "pressure_mmhg not below zero", pressure_mmhg)
    whole = quadratic(heart) if heart["tet"].shape[1] == 4 else heart
    aim = np.asarray(whole["point"], float)
    guess, step, best = aim.copy(), 1.0, np.inf
    kept, gap = guess, np.zeros_like(guess)
    bar = tqdm(range(most), desc="unloading", disable=not progress)
    for iteration in bar:
        mesh = whole.assign(point=label("point", guess))
        try:
            made = body(mesh, **settings)
            assembler = Assembler(made)
            load = Load(np.broadcast_to(pressure, len(made.cavities)).copy(), np.full(len(made.cavities), np.nan),
                        np.zeros(len(made.tet)))  # fmt: skip
            state = reach(
                assembler, rest(assembler), load, steps=steps, solver=chosen(solver), what="unloading"
            )
            now = aim - guess - state.field[:, :3]
            error = float(np.linalg.norm(now, axis=1).max())
        except (MechanicsError, ValueError):
            if iteration == 0:
                raise
            error = np.inf
        bar.set_postfix_str(f"{error:.3f} mm")
        if error <= tolerance_mm:
            mesh["displacement"] = label("displacement", state.field[:, :3])
            mesh.attrs.update(unloading_error_mm=error, unloading_iterations=iteration + 1)
            return mesh
        if error < best:
            kept, gap, best, step = guess, now, error, min(1.0, 1.5 * step)
        else:
            step *= 0.5
        guess = kept + step * gap
    raise MechanicsError(
        f"unloading: the loaded guess is {best:.3g} mm off after {most} iterations (wanted {tolerance_mm:g}); "
        "a stiffer law, a lower pressure or a wider tolerance may help",
        state, 0.0,
    )  # fmt: skip
