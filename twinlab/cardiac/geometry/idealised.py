"""Idealised hearts: truncated ellipsoids fitted to volumes of cavities and muscle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.optimize import brentq, least_squares

from twinlab.cardiac.geometry.meshing import mesh_solid
from twinlab.cardiac.geometry.solids import (
    LV_ENDOCARDIUM,
    RV_ENDOCARDIUM,
    Array,
    Solid,
    difference,
    ellipsoid,
    measured_ml,
    union,
)
from twinlab.schema import refuse

LAND_SHORT_MM, LAND_LONG_MM, LAND_WALL_MM, LAND_BASE_MM = 7.0, 17.0, 3.0, 5.0
"""Endocardial half axes, wall and height of the base over the centre: Land 2015, problems 2 and 3."""

SMALLEST_CAVITY_ML = 1.0

RV_LENGTH, RV_WIDTH = 0.95, 1.0
"""Right ventricle: half axes along the heart and across the septum's breadth, shares of the left epicardium's."""

RV_OFFSET = 0.55
"""Distance of the right ventricle's centre from the left one's axis, as a share of its depth across."""

BLEND = 1.5
"""Rounding of the right cavity's horns and of the outer crease beside them, in right walls."""

_STEP, _FIT = 0.5, 0.002  # shares: of the cube root of the left cavity, of the volumes


def _truncated_ml(short: float, long: float, base: float) -> float:
    """Volume of an ellipsoid of revolution below a plane ``base`` above its centre, ml."""
    return np.pi * short**2 * (base - base**3 / (3 * long**2) + 2 * long / 3) / 1000.0


def idealised_lv(
    *,
    cavity_ml: float | None = None,
    wall_ml: float | None = None,
    h_mm: float | None = None,
    layers: int = 3,
    centre_mm: Sequence[float] = (0.0, 0.0, 0.0),
    rotation: Array | None = None,
) -> xr.Dataset:
    """Truncated ellipsoid as a left ventricle.

    Without volumes, the one of the mechanics benchmark (half axes 7 and 17 mm inside, 10 and 20 mm outside, base
    5 mm above the centre; 2.5 ml). With volumes, its cavity scaled to ``cavity_ml`` and a wall of even half axes'
    difference that gives ``wall_ml``.

    Parameters
    ----------
    cavity_ml, wall_ml : float, optional, units ml
        Volumes below the base. ``wall_ml`` alone is no shape; ``cavity_ml`` alone keeps the benchmark's proportions.
    h_mm : float, optional
        Longest edge of an element well inside; else 0.35 of the wall's thickness.
    layers : int
        Elements across the wall, at least (a gate, see ``mesh_solid``).
    centre_mm : (x, y, z)
        Where the ellipsoid's centre goes.
    rotation : ndarray, shape (3, 3), optional
        Own frame (x away from the septum, z from apex to base) to patient system; else the base faces the head and
        the septum the patient's right.

    Returns
    -------
    Dataset
        Heart mesh (see ``mesh_solid``), ``attrs["source"] == "idealised left ventricle"``.

    Raises
    ------
    InputError
        Volumes that are not positive, or a wall that no thickness gives.

    References
    ----------
    Land S et al. (2015) Verification of cardiac mechanics software. Proc. R. Soc. A 471, 20150641, section 2(b).
    """
    solid = lv_solid(cavity_ml=cavity_ml, wall_ml=wall_ml)
    wall = float(solid.attrs["lv_wall_mm"])
    placed = solid.placed(np.asarray(centre_mm, float), np.eye(3) if rotation is None else rotation)
    return mesh_solid(placed, h_mm=0.35 * wall if h_mm is None else h_mm, layers=layers)


def lv_solid(*, cavity_ml: float | None = None, wall_ml: float | None = None) -> Solid:
    """Level sets of :func:`idealised_lv` in its own frame: centre at the origin, base towards z."""
    if cavity_ml is None and wall_ml is not None:
        refuse("idealised_lv", "cavity_ml together with wall_ml", f"wall_ml = {wall_ml} alone")
    for name, value in (("cavity_ml", cavity_ml), ("wall_ml", wall_ml)):
        if value is not None and not SMALLEST_CAVITY_ML <= value <= 2000.0:
            refuse("idealised_lv", f"{name} from {SMALLEST_CAVITY_ML:g} to 2000 ml", value)
    land_ml = _truncated_ml(LAND_SHORT_MM, LAND_LONG_MM, LAND_BASE_MM)
    scale = 1.0 if cavity_ml is None else float((cavity_ml / land_ml) ** (1 / 3))
    short, long, base = scale * LAND_SHORT_MM, scale * LAND_LONG_MM, scale * LAND_BASE_MM
    cavity = _truncated_ml(short, long, base)
    wall = scale * LAND_WALL_MM
    if wall_ml is not None:
        wall = brentq(lambda t: _truncated_ml(short + t, long + t, base) - cavity - wall_ml, 1e-3, 200.0)
    muscle = _truncated_ml(short + wall, long + wall, base) - cavity
    reach = short + wall
    return Solid(
        outside=ellipsoid(np.zeros(3), np.array([reach, reach, long + wall])),
        cavities={LV_ENDOCARDIUM: ellipsoid(np.zeros(3), np.array([short, short, long]))},
        base_point_mm=np.array([0.0, 0.0, base]),
        base_normal=np.array([0.0, 0.0, 1.0]),
        septum_direction=np.array([-1.0, 0.0, 0.0]),
        low_mm=np.array([-reach, -reach, -long - wall]),
        high_mm=np.array([reach, reach, base]),
        volumes_ml={"lv": cavity, "wall": muscle},
        attrs={
            "source": "idealised left ventricle",
            "lv_short_mm": short,
            "lv_long_mm": long,
            "lv_wall_mm": float(wall),
            "base_height_mm": base,
        },
    )


def idealised_biventricular(
    *,
    lv_cavity_ml: float = 120.0,
    rv_cavity_ml: float = 140.0,
    wall_ml: float = 150.0,
    rv_wall_mm: float = 4.0,
    h_mm: float | None = None,
    layers: int = 3,
    layers_rv: int = 2,
    centre_mm: Sequence[float] = (0.0, 0.0, 0.0),
    rotation: Array | None = None,
) -> xr.Dataset:
    """Two truncated ellipsoids as ventricles; the right one lies like a crescent around the septum.

    Parameters
    ----------
    lv_cavity_ml, rv_cavity_ml, wall_ml : float, units ml
        Cavities and all muscle below the base. The left wall's thickness is solved for.
    rv_wall_mm : float, units mm
        Thickness of the right free wall (3 to 5 mm in adults).
    h_mm : float, optional
        Longest edge of an element well inside; else half the right wall, or a third of the left one if that is less.
    layers, layers_rv : int
        Elements across the left and right wall, at least (gates, see ``mesh_solid``).
    centre_mm, rotation
        As in :func:`idealised_lv`.

    Returns
    -------
    Dataset
        Heart mesh, ``attrs["source"] == "idealised biventricular"``.

    Raises
    ------
    InputError
        Volumes that no such shape has.
    """
    solid = biventricular_solid(
        lv_cavity_ml=lv_cavity_ml, rv_cavity_ml=rv_cavity_ml, wall_ml=wall_ml, rv_wall_mm=rv_wall_mm
    )
    h = min(0.5 * rv_wall_mm, float(solid.attrs["lv_wall_mm"]) / 3) if h_mm is None else h_mm
    placed = solid.placed(np.asarray(centre_mm, float), np.eye(3) if rotation is None else rotation)
    return mesh_solid(placed, h_mm=h, layers=layers, layers_rv=layers_rv)


def biventricular_solid(
    *, lv_cavity_ml: float, rv_cavity_ml: float, wall_ml: float, rv_wall_mm: float = 4.0
) -> Solid:
    """Level sets of :func:`idealised_biventricular` in its own frame."""
    for name, value, most in (
        ("lv_cavity_ml", lv_cavity_ml, 1000.0),
        ("rv_cavity_ml", rv_cavity_ml, 1000.0),
        ("wall_ml", wall_ml, 1000.0),
        ("rv_wall_mm", rv_wall_mm, 20.0),
    ):
        if not SMALLEST_CAVITY_ML <= value <= most:
            unit = name.rsplit("_", 1)[1]
            refuse("idealised_biventricular", f"{name} from {SMALLEST_CAVITY_ML:g} to {most:g} {unit}", value)
    aim = np.array([rv_cavity_ml, wall_ml])
    size = float(lv_cavity_ml ** (1 / 3))

    def miss(unknowns: Array) -> Array:
        solid = _two_ellipsoids(lv_cavity_ml, rv_wall_mm, *unknowns)
        found = measured_ml(solid, step_mm=_STEP * size)
        return np.array([found["rv"], found["wall"]]) / aim - 1.0

    low, high = size * np.array([0.4, 2.0]), size * np.array([8.0, 25.0])  # wall, depth of the right cavity
    fit = least_squares(
        miss, size * np.array([2.0, 8.0]), bounds=(low, high), diff_step=1e-3, xtol=1e-6, max_nfev=20
    )
    if np.abs(fit.fun).max() > _FIT:
        got = aim * (1 + fit.fun)
        refuse(
            "idealised_biventricular",
            f"volumes that the shape has (nearest: right cavity {got[0]:.0f} ml, muscle {got[1]:.0f} ml)",
            f"{rv_cavity_ml:g} and {wall_ml:g} ml beside a left cavity of {lv_cavity_ml:g} ml",
        )
    return _two_ellipsoids(lv_cavity_ml, rv_wall_mm, *fit.x, wall_ml=wall_ml, rv_cavity_ml=rv_cavity_ml)


def _two_ellipsoids(
    lv_cavity_ml: float,
    rv_wall_mm: float,
    wall: float,
    depth: float,
    *,
    wall_ml: float = 0.0,
    rv_cavity_ml: float = 0.0,
) -> Solid:
    """Level sets for a left wall and a depth of the right cavity's ellipsoid."""
    land_ml = _truncated_ml(LAND_SHORT_MM, LAND_LONG_MM, LAND_BASE_MM)
    scale = float((lv_cavity_ml / land_ml) ** (1 / 3))
    short, long, base = scale * LAND_SHORT_MM, scale * LAND_LONG_MM, scale * LAND_BASE_MM
    outer = np.array([short + wall, short + wall, long + wall])
    inner = np.array([depth, RV_WIDTH * outer[1], RV_LENGTH * outer[2]])
    centre = np.array([-RV_OFFSET * depth, 0.0, 0.0])
    left, blend = ellipsoid(np.zeros(3), outer), BLEND * rv_wall_mm
    right_outside = inner + rv_wall_mm
    reach = np.maximum(outer, right_outside) + 0.25 * blend
    return Solid(
        outside=union(left, ellipsoid(centre, right_outside), blend_mm=blend),
        cavities={
            LV_ENDOCARDIUM: ellipsoid(np.zeros(3), np.array([short, short, long])),
            RV_ENDOCARDIUM: difference(ellipsoid(centre, inner), left, blend_mm=blend),
        },
        base_point_mm=np.array([0.0, 0.0, base]),
        base_normal=np.array([0.0, 0.0, 1.0]),
        septum_direction=np.array([-1.0, 0.0, 0.0]),
        low_mm=np.array([min(-outer[0], centre[0] - right_outside[0]), -reach[1], -reach[2]]),
        high_mm=np.array([outer[0], reach[1], base]),
        volumes_ml={"lv": lv_cavity_ml, "rv": rv_cavity_ml, "wall": wall_ml},
        attrs={
            "source": "idealised biventricular",
            "lv_short_mm": short,
            "lv_long_mm": long,
            "lv_wall_mm": float(wall),
            "rv_depth_mm": float(depth * (1 + RV_OFFSET) - outer[0]),
            "rv_wall_mm": float(rv_wall_mm),
            "base_height_mm": base,
        },
    )
