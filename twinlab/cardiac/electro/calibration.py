"""Conduction velocity of a planar wave, and the conductivity that gives a wanted velocity on a wanted grid."""

from __future__ import annotations

import numpy as np

from twinlab.cardiac.electro.loops import Mass
from twinlab.cardiac.electro.stepping import COARSEST, run
from twinlab.cardiac.electro.stimuli import box_stimulus
from twinlab.cardiac.electro.tissue import Conductivity, excitable, slab
from twinlab.schema import refuse


def planar_velocity(
    conductivity_s_per_m: float,
    h_mm: float,
    *,
    dt_ms: float = 0.02,
    cell: str = "tp06_epi",
    mass: Mass = "consistent",
    chi_per_mm: float = 140.0,
    cm_uf_per_mm2: float = 0.01,
    length_mm: float | None = None,
) -> float:
    """Velocity of a planar wave along the axis of a strip, mm/ms (= m/s).

    Parameters
    ----------
    conductivity_s_per_m : float
        Effective, in the direction of the wave.
    h_mm : float
        Voxel side.
    dt_ms, cell, mass, chi_per_mm, cm_uf_per_mm2
        See :func:`twinlab.cardiac.electro.monodomain`.
    length_mm : float, optional
        Of the strip; by default 60 diffusion lengths of 1 ms, at least 40 voxels.

    Returns
    -------
    float
        Least-squares slope of distance against activation time over the middle half of the strip.

    Raises
    ------
    InputError
        The wave does not arrive.
    """
    for name, value in (("conductivity_s_per_m", conductivity_s_per_m), ("h_mm", h_mm)):
        if not (np.isfinite(value) and value > 0):
            refuse(f"planar_velocity: {name}", "a positive number", value)
    length_of_1ms = np.sqrt(conductivity_s_per_m / (chi_per_mm * cm_uf_per_mm2))
    voxels = max(40, int(np.ceil((length_mm or 60.0 * length_of_1ms) / h_mm)))
    strip = slab((voxels * h_mm, h_mm, h_mm), h_mm)
    muscle = excitable(
        strip,
        conductivity=Conductivity(conductivity_s_per_m, conductivity_s_per_m),
        chi_per_mm=chi_per_mm,
        cm_uf_per_mm2=cm_uf_per_mm2,
        where="planar_velocity",
    )
    reach = max(6.0 * length_of_1ms, 2.0 * h_mm)
    start = box_stimulus((-h_mm,) * 3, (reach, 2.0 * h_mm, 2.0 * h_mm))
    state, _ = run(
        muscle,
        stimuli=[start],
        cell=cell,
        dt_ms=dt_ms,
        end_ms=20.0 + 4.0 * voxels * h_mm / (length_of_1ms * 1.5),
        mass=mass,
        until_active=True,
        where="planar_velocity",
    )
    place = muscle.position_mm()
    x, times = place[:, 0], state.marks.first_up
    chosen = (place[:, 1] == place[0, 1]) & (place[:, 2] == place[0, 2])
    chosen &= (x >= 0.35 * x.max()) & (x <= 0.85 * x.max())
    if not np.isfinite(times[chosen]).all():
        refuse(
            "planar_velocity", "a wave that travels along the strip", f"none at {conductivity_s_per_m:g} S/m"
        )
    return float(np.polyfit(times[chosen], x[chosen], 1)[0])


def conductivity_for(
    velocity_mm_per_ms: float,
    h_mm: float,
    *,
    dt_ms: float = 0.02,
    cell: str = "tp06_epi",
    mass: Mass = "consistent",
    chi_per_mm: float = 140.0,
    cm_uf_per_mm2: float = 0.01,
    tolerance: float = 0.005,
) -> float:
    """Effective conductivity (S/m) that gives a planar wave the wanted velocity on the grid that is used.

    The velocity grows as the root of the conductivity on a fine grid; a few corrected guesses suffice on a
    coarse one. A calibrated grid has the right velocity along its axes; how far others differ says
    :doc:`docs/methods/heart_electro`.

    Parameters
    ----------
    velocity_mm_per_ms : float
        0.6 along fibres in healthy muscle, 0.2 in a slow scar, for example.
    h_mm, dt_ms, cell, mass, chi_per_mm, cm_uf_per_mm2
        As in the run that it is for.
    tolerance : float
        Of the velocity, relative.

    Returns
    -------
    float

    Raises
    ------
    InputError
        The velocity cannot be had on this grid.

    References
    ----------
    Costa C M et al. 2013, Automatic parameterization strategy for cardiac electrophysiology simulations, Comput.
    Cardiol. 40, 373.
    """
    for name, value in (("velocity_mm_per_ms", velocity_mm_per_ms), ("h_mm", h_mm)):
        if not (np.isfinite(value) and value > 0):
            refuse(f"conductivity_for: {name}", "a positive number", value)
    least = 1.01 * (h_mm / COARSEST) ** 2  # diffusivity in mm2/ms that the grid still carries
    guess = chi_per_mm * cm_uf_per_mm2 * max((velocity_mm_per_ms / 1.75) ** 2, least)
    power = 2.0
    last: tuple[float, float] | None = None
    for _ in range(12):
        found = planar_velocity(
            guess,
            h_mm,
            dt_ms=dt_ms,
            cell=cell,
            mass=mass,
            chi_per_mm=chi_per_mm,
            cm_uf_per_mm2=cm_uf_per_mm2,
        )
        if abs(found / velocity_mm_per_ms - 1.0) < tolerance:
            return guess
        if last is not None and found != last[1]:
            power = float(np.clip(np.log(guess / last[0]) / np.log(found / last[1]), 0.5, 4.0))
        last = guess, found
        guess *= (velocity_mm_per_ms / found) ** power
    refuse("conductivity_for", f"a velocity that {h_mm} mm can carry", f"{velocity_mm_per_ms} mm/ms")
