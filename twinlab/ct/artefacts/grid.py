"""Anti-scatter grid: what its focused septa let through of primary and of oblique photons."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.physics.materials import get as material
from twinlab.scanner import Protocol
from twinlab.schema import refuse

POINTS = 400  # across one period of the grid

Array = NDArray[np.float64]


def grid_transmission(
    protocol: Protocol, *, energy_kev: ArrayLike, tangent: ArrayLike, direction: str = "channel"
) -> Array:
    """Share of photons on the cells that passes the grid, by energy and obliquity.

    Septa of thickness t and height h stand on the borders of the cells and point to the focal spot, so the
    primary beam sees them edge on: ``tangent`` 0. A photon inclined by angle a shifts by ``h tan a`` on its
    way down; its path inside septa is the length of that shift which lies in them, over ``sin a``. The mean
    of ``exp(-mu path)`` over the active width of a cell is taken; dead borders (fill factor) count for
    nothing, before as after, so that a septum no thicker than the border costs no primary photons.

    Parameters
    ----------
    protocol : Protocol
        Its detector's ``grid``; without one, all is 1.
    energy_kev : array (n_energy,)
    tangent : array (n_tangent,)
        Of the angle between photon and septa, 0 or more.
    direction : str
        "channel": septa between channels, angle in the plane of rotation. "row": septa between rows, which only
        two-dimensional grids have.

    Returns
    -------
    array (n_energy, n_tangent)

    Raises
    ------
    InputError
        Septa as thick as a cell, negative tangents, or another direction.

    References
    ----------
    Day G J, Dance D R (1983) X-ray transmission formula for antiscatter grids. Phys Med Biol 28:1429.
    """
    energy = np.atleast_1d(np.asarray(energy_kev, float))
    slope = np.atleast_1d(np.asarray(tangent, float))
    detector = protocol.scanner.detector
    grid = detector.grid
    if direction not in ("channel", "row") or slope.min(initial=0.0) < 0:
        refuse("grid_transmission", "direction 'channel' or 'row', tangents of 0 or more", (direction, slope))
    if grid is None or (direction == "row" and not grid.two_dimensional):
        return np.ones((energy.size, slope.size))
    pitch = detector.channel_pitch_mm if direction == "channel" else detector.row_pitch_mm
    if grid.septum_mm >= pitch:
        refuse("grid_transmission", f"septa thinner than the cell ({pitch:g} mm)", f"{grid.septum_mm:g} mm")
    active = pitch * np.sqrt(detector.fill_factor)
    exit_mm = 0.5 * (pitch - active) + (np.arange(POINTS) + 0.5) / POINTS * active
    shift = grid.height_mm * slope[:, None]
    inside = _septa(exit_mm, pitch, grid.septum_mm) - _septa(exit_mm - shift, pitch, grid.septum_mm)
    upright = _in_septum(exit_mm, pitch, grid.septum_mm) * grid.height_mm
    with np.errstate(divide="ignore", invalid="ignore"):
        path = np.where(slope[:, None] > 0, inside * np.hypot(1.0, slope[:, None]) / slope[:, None], upright)
    density = material(grid.material).density_g_cm3
    mu = linear_attenuation_per_mm(grid.material, energy, density_g_cm3=density)
    return np.asarray(np.exp(-mu[:, None, None] * path).mean(axis=-1))


def primary_transmission(protocol: Protocol, *, energy_kev: ArrayLike) -> Array:
    """Share of the primary photons on the cells that passes the grid, shape (energy,)."""
    parts = [
        grid_transmission(protocol, energy_kev=energy_kev, tangent=[0.0], direction=d)
        for d in ("channel", "row")
    ]
    return np.asarray((parts[0] * parts[1])[:, 0])


def _septa(position: Any, pitch: float, width: float) -> Array:
    """Length inside septa from 0 to a position; septa are centred on multiples of the pitch."""
    turns = np.floor(position / pitch + 0.5)
    within = np.clip(position - turns * pitch + 0.5 * width, 0.0, width)
    return np.asarray(turns * width + within)


def _in_septum(position: Any, pitch: float, width: float) -> Array:
    """1 where a position lies in a septum, else 0."""
    distance = np.abs(position - np.round(position / pitch) * pitch)
    return np.asarray(distance < 0.5 * width, float)
