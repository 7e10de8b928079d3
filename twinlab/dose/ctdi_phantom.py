"""The PMMA phantoms of CT dosimetry with a pencil chamber in one of their holes, as exact cylinders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twinlab.dose.body import MGY_PER_KEV_G
from twinlab.kernels.transport import mean_sd, run
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import AIR_DENSITY, Rod, cylinder_grid
from twinlab.physics import materials
from twinlab.scanner import Protocol
from twinlab.scanner.photon_source import beam_source
from twinlab.schema import refuse

PHANTOM_LENGTH_MM = 150.0  # IEC 60601-2-44: at least 140 mm
DEPTH_MM = 10.0  # of the peripheral holes' axes under the surface
SIZES_CM = (10, 16, 32, 45)
_VIEWS = 360
_AIR, _PMMA, _WALL = 0, 1, 2


@dataclass(frozen=True)
class Chamber:
    """A pencil ionisation chamber: an air cavity in a wall; the rest of its hole is PMMA.

    The defaults are those of a usual chamber of 3 cm3 and 100 mm with a wall of air-equivalent plastic.

    Attributes
    ----------
    radius_mm, length_mm : float
        Of the air cavity.
    wall_mm : float
        Thickness of the wall; 0 for none.
    wall_material : str
        Key of :mod:`twinlab.physics.materials`.
    """

    radius_mm: float = 3.1
    length_mm: float = 100.0
    wall_mm: float = 0.5
    wall_material: str = "c552_plastic"

    def __post_init__(self) -> None:
        if not (self.radius_mm > 0 and self.length_mm > 0 and self.wall_mm >= 0):
            refuse("Chamber", "a positive radius and length and a wall of 0 mm or more", self)
        if self.radius_mm + self.wall_mm > 0.9 * DEPTH_MM:
            refuse("Chamber", f"a radius with wall of at most {0.9 * DEPTH_MM:g} mm", self)
        materials.get(self.wall_material)

    @property
    def volume_cm3(self) -> float:
        """Volume of the cavity."""
        return float(np.pi * self.radius_mm**2 * self.length_mm / 1000.0)


def holes_mm(phantom_cm: float) -> list[tuple[float, float]]:
    """Axes (x, y) of the five holes: the centre, then right, back, left and front."""
    ring = 5.0 * phantom_cm - DEPTH_MM
    return [(0.0, 0.0), (ring, 0.0), (0.0, ring), (-ring, 0.0), (0.0, -ring)]


def rotation(origin_mm: np.ndarray) -> np.ndarray:
    """Stations of one even rotation about the phantom's axis, in a grid's box coordinates."""
    step = 2 * np.pi / _VIEWS
    angle = np.arange(_VIEWS) * step
    return np.stack([angle, np.full(_VIEWS, -origin_mm[2]), np.full(_VIEWS, step), np.zeros(_VIEWS)], axis=1)


def chamber_kerma(
    protocol: Protocol,
    *,
    phantom_cm: float,
    holes: Sequence[tuple[float, float]],
    chamber: Chamber,
    histories: int,
    seed: int,
    first_history: int = 0,
    phantom_length_mm: float = PHANTOM_LENGTH_MM,
    phantom_material: str = "pmma",
    lengths_mm: Sequence[float] | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Integral of the air kerma along chambers in an axial rotation, over the beam's nominal width.

    Parameters
    ----------
    protocol : Protocol
        Axial.
    phantom_cm : float
        Diameter.
    holes : sequence of (x, y), units mm
        Where chambers are; all other holes are plugged.
    chamber : Chamber
    histories, seed, first_history : int
    phantom_length_mm : float
    phantom_material : str
        ``"air"`` gives the chamber free in air.
    lengths_mm : sequence of float, optional
        Lengths of integration about the middle; by default that of the cavity.
    progress : callable, optional

    Returns
    -------
    mean, sd : (hole, length) arrays
        mGy per 100 mAs, and standard uncertainty.
    """
    body = materials.get(phantom_material)
    density = AIR_DENSITY if phantom_material == "air" else body.density_g_cm3
    half, reach = phantom_length_mm / 2, chamber.length_mm / 2
    lengths = [chamber.length_mm] if lengths_mm is None else list(lengths_mm)
    wall = materials.get(chamber.wall_material)
    rods = [Rod(0.0, 0.0, 5.0 * phantom_cm, -half, half, _PMMA, density)]
    scored = []
    for x, y in holes:
        if chamber.wall_mm > 0:
            radius = chamber.radius_mm + chamber.wall_mm
            rods.append(Rod(x, y, radius, -reach, reach, _WALL, wall.density_g_cm3))
        rods.append(Rod(x, y, chamber.radius_mm, -reach, reach, _AIR, AIR_DENSITY))
        for length in lengths:  # rods of the cavity's air in it: they score and change nothing
            scored.append(len(rods))
            rods.append(
                Rod(x, y, chamber.radius_mm, -length / 2, length / 2, _AIR, AIR_DENSITY, fluence=True)
            )
    tables = table_module.build(["air", body, wall])
    grid, low = cylinder_grid(rods, tables, reach_mm=protocol.scanner.source_to_isocentre_mm + 100.0)
    source, per_mas = beam_source(protocol, rotation(low), isocentre_mm=(-low[0], -low[1]))
    tally = run(
        grid,
        tables,
        source,
        histories=histories,
        seed=seed,
        first_history=first_history,
        n_region=len(rods) + 1,
        progress=progress,
    )
    mean, sd = mean_sd(tally.fluence, histories)
    area_cm2 = np.pi * chamber.radius_mm**2 / 100.0
    scale = 100.0 * per_mas * MGY_PER_KEV_G / (area_cm2 * protocol.collimation_mm / 10.0)
    shape = (len(holes), len(lengths))
    return mean[scored].reshape(shape) * scale, sd[scored].reshape(shape) * scale
