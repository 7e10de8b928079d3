"""From a solid to a heart: tetrahedra, gates on their quality, finer settings when one fails."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.cardiac.geometry.solids import (
    BASE,
    EPICARDIUM,
    LV_ENDOCARDIUM,
    RV_ENDOCARDIUM,
    Array,
    Solid,
)
from twinlab.cardiac.geometry.stuffing import stuff
from twinlab.cardiac.geometry.surfaces import RV_FREE_WALL, classify, set_volumes, volumes_of, walls
from twinlab.cardiac.geometry.tets import (
    aspect_ratios,
    boundary,
    dihedral_angles,
    is_closed_manifold,
    pieces,
    steps_from,
    volumes,
)
from twinlab.schema import InputError, label, refuse

Ints = NDArray[np.int64]

DIHEDRAL_MIN_DEG = 15.0
"""Smallest dihedral angle that 99 % of the elements must reach."""

ASPECT_MAX = 8.0
"""Aspect ratio that 99 % of the elements must stay below (1 is the regular tetrahedron)."""

VOLUME_TOLERANCE = 0.005
"""Share by which cavity and muscle may differ from the input."""

FINER = 0.8
"""Factor of the element size when a gate fails."""

_MOST_TETS = 2_000_000
_CAP = 0.06  # share of a surface's height by which its tip is found


def mesh_solid(
    solid: Solid, *, h_mm: float, layers: int = 3, layers_rv: int | None = None, tries: int = 4
) -> xr.Dataset:
    """Tetrahedral mesh of a solid that has passed the gates.

    Gates: 99 % of the smallest dihedral angles at least 15 degrees and of the aspect ratios at most 8; boundary
    closed and manifold; one piece; positive volumes; volumes of cavities and muscle within 0.5 % of the solid's;
    ``layers`` elements across the wall. When one fails, the mesh is made again with elements 0.8 times as large,
    with a warning, and ``attrs["remeshed"]`` tells why.

    Parameters
    ----------
    solid : Solid
    h_mm : float
        Longest edge well inside, mm.
    layers : int
        Fewest edges on the way from the left endocardium to the other side (for 99 % of its nodes).
    layers_rv : int, optional
        Same for the right free wall, which is three times thinner; else as ``layers``.
    tries : int
        Meshes that are made at most.

    Returns
    -------
    Dataset
        ``point`` (node, axis), ``tet`` (tet, corner), ``facet`` (facet, facet_corner), ``facet_surface`` (facet),
        ``wall`` (tet), ``scar`` (tet); attrs: volumes, quality, base plane, source.

    Raises
    ------
    InputError
        Settings that make no mesh, or gates that fail after the last try.
    """
    if not 0.2 <= h_mm <= 20.0:
        refuse("mesh_solid", "h_mm from 0.2 to 20", h_mm)
    if not (layers >= 1 and tries >= 1 and (layers_rv is None or layers_rv >= 1)):
        refuse("mesh_solid", "layers, layers_rv and tries of 1 or more", (layers, layers_rv, tries))
    wanted = (layers, layers if layers_rv is None else layers_rv)
    h = h_mm
    said: list[str] = []
    for attempt in range(tries):
        expected = 12e3 * solid.volumes_ml["wall"] / h**3
        if expected > _MOST_TETS:
            refuse(
                "mesh_solid",
                f"at most {_MOST_TETS:,} elements (fewer layers, or a thicker wall)",
                f"{expected:,.0f} at h_mm = {h:.2f} after {said or 'no failure'}",
            )
        try:
            heart, failures = _attempt(solid, h, wanted)
        except InputError as error:
            failures, heart = [str(error)], None
        if heart is not None and not failures:
            heart.attrs.update(h_mm=h, h_asked_mm=h_mm, remeshed=said)
            return heart
        said.append(f"h {h:.3g} mm: " + "; ".join(failures))
        if attempt + 1 < tries:
            warnings.warn(f"mesh made again, finer: {said[-1]}", stacklevel=2)
            h *= FINER
    refuse("mesh_solid", f"a mesh that passes its gates within {tries} tries", " | ".join(said))


def _attempt(solid: Solid, h: float, layers: tuple[int, int]) -> tuple[xr.Dataset, list[str]]:
    points, tets = stuff(solid, h_mm=h)
    if len(tets) == 0:
        refuse("mesh", "a wall thicker than nothing at this element size", "no element")
    points, tets = _without_crumbs(points, tets)
    facets = boundary(tets)
    surface = classify(solid, points, facets)
    exact = solid.volumes_ml
    inside = {LV_ENDOCARDIUM: exact["lv"], EPICARDIUM: exact["wall"] + exact["lv"] + exact.get("rv", 0.0)}
    if "rv" in exact:
        inside[RV_ENDOCARDIUM] = exact["rv"]
    points = set_volumes(points, tets, surface, inside, solid.base_normal)
    wall = walls(points, tets, facets, surface)
    figures, failures = _gates(points, tets, facets, surface, wall, inside, layers)
    return assemble(solid, points, tets, facets, surface, wall, figures), failures


def _without_crumbs(points: Array, tets: Ints) -> tuple[Array, Ints]:
    """The mesh without pieces of less than a thousandth of its elements (where a surface grazes the base)."""
    part = pieces(tets)
    count = np.bincount(part)
    used, cells = np.unique(tets[count[part] > 1e-3 * len(tets)], return_inverse=True)
    return points[used], cells.reshape(-1, 4)


def _gates(
    points: Array,
    tets: Ints,
    facets: Ints,
    surface: NDArray[np.uint8],
    wall: NDArray[np.uint8],
    inside: dict[int, float],
    layers: tuple[int, int],
) -> tuple[dict[str, Any], list[str]]:
    smallest = dihedral_angles(points, tets).min(axis=1)
    aspect = aspect_ratios(points, tets)
    volume = volumes(points, tets)
    found = volumes_of(points, facets, surface)
    error = {k: abs(found.get(k, 0.0) / v - 1.0) for k, v in inside.items()}
    muscle = inside[EPICARDIUM] - sum(v for k, v in inside.items() if k != EPICARDIUM)
    error[0] = abs(float(volume.sum()) / 1000.0 / muscle - 1.0)
    parts = int(pieces(tets).max()) + 1
    closed = is_closed_manifold(facets)
    across_lv, across_rv = _layers_across(points, tets, facets, surface, wall)
    figures: dict[str, Any] = {
        "dihedral_min_deg": float(smallest.min()),
        "dihedral_p01_deg": float(np.quantile(smallest, 0.01)),
        "aspect_p99": float(np.quantile(aspect, 0.99)),
        "aspect_max": float(aspect.max()),
        "volume_error": float(max(error.values())),
        "layers_lv": across_lv,
        "wall_ml": float(volume.sum()) / 1000.0,
        "lv_cavity_ml": found.get(LV_ENDOCARDIUM, 0.0),
    }
    if across_rv is not None:
        figures |= {"layers_rv": across_rv, "rv_cavity_ml": found.get(RV_ENDOCARDIUM, 0.0)}
    failures = []
    if figures["dihedral_p01_deg"] < DIHEDRAL_MIN_DEG:
        failures.append(f"1 % of the dihedral angles below {figures['dihedral_p01_deg']:.1f} degrees")
    if figures["aspect_p99"] > ASPECT_MAX:
        failures.append(f"1 % of the aspect ratios above {figures['aspect_p99']:.1f}")
    if volume.min() <= 0:
        failures.append(f"{int((volume <= 0).sum())} inverted elements")
    if not closed:
        failures.append("a boundary that is no closed manifold")
    if parts != 1:
        failures.append(f"{parts} pieces")
    if figures["volume_error"] > VOLUME_TOLERANCE:
        failures.append(f"volumes {100 * figures['volume_error']:.2f} % off")
    if across_lv < layers[0]:
        failures.append(f"{across_lv} elements across the left wall")
    if across_rv is not None and across_rv < layers[1]:
        failures.append(f"{across_rv} elements across the right wall")
    return figures, failures


def _layers_across(
    points: Array, tets: Ints, facets: Ints, surface: NDArray[np.uint8], wall: NDArray[np.uint8]
) -> tuple[int, int | None]:
    """Edges from the left endocardium to the other side, and from the right one to the epicardium (1 % lowest)."""
    nodes = len(points)
    on = {k: _mask(nodes, facets[surface == k]) for k in (EPICARDIUM, LV_ENDOCARDIUM, RV_ENDOCARDIUM)}
    from_right = steps_from(tets, nodes, on[EPICARDIUM] | on[RV_ENDOCARDIUM])
    left = int(np.quantile(from_right[on[LV_ENDOCARDIUM]], 0.01, method="lower"))
    free = on[RV_ENDOCARDIUM] & _mask(nodes, tets[wall == RV_FREE_WALL])
    if not free.any():
        return left, None
    from_outside = steps_from(tets, nodes, on[EPICARDIUM])
    return left, int(np.quantile(from_outside[free], 0.01, method="lower"))


def _mask(nodes: int, cells: Ints) -> NDArray[np.bool_]:
    mask = np.zeros(nodes, dtype=bool)
    mask[cells.ravel()] = True
    return mask


def assemble(
    solid: Solid,
    points: Array,
    tets: Ints,
    facets: Ints,
    surface: NDArray[np.uint8],
    wall: NDArray[np.uint8],
    figures: dict[str, Any],
) -> xr.Dataset:
    """The heart as a Dataset."""
    parts = [
        label("point", points, {"axis": ["x", "y", "z"]}),
        label("tet", tets.astype(np.int32)),
        label("facet", facets.astype(np.int32)),
        label("facet_surface", surface.astype(np.uint8)),
        label("wall", wall),
        label("scar", np.zeros(len(tets), np.uint8)),
    ]
    heart = xr.Dataset({str(part.name): part for part in parts})
    heart.attrs = {
        **solid.attrs,
        **figures,
        "elements": len(tets),
        "nodes": len(points),
        "base_point_mm": [float(v) for v in solid.base_point_mm],
        "base_normal": [float(v) for v in solid.base_normal],
        "septum_direction": [float(v) for v in solid.septum_direction],
        "lv_apex_mm": _apex(solid, points, facets[surface == LV_ENDOCARDIUM]),
        "epicardial_apex_mm": _apex(solid, points, facets[surface == EPICARDIUM]),
        "base_facets": int((surface == BASE).sum()),
    }
    return heart


def _apex(solid: Solid, points: Array, facets: Ints) -> list[float]:
    """Lowest point of a surface: centre of its lowest cap (6 % of its height), moved down to the lowest corner.

    The lowest corner alone may stand half an element beside it.
    """
    corner = points[facets]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    centre = corner.mean(axis=1)
    depth = solid.below_base(centre)
    cap = depth > depth.max() * (1 - _CAP)
    apex = (centre[cap] * area[cap, None]).sum(axis=0) / area[cap].sum()
    lowest = float(solid.below_base(corner.reshape(-1, 3)).max())
    apex = apex - (lowest - solid.below_base(apex[None])[0]) * solid.base_normal
    return [float(v) for v in apex]
