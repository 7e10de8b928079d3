"""Surfaces of the mesh: which facet lies on what, volumes behind them, and volumes set right."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from twinlab.cardiac.geometry.solids import (
    BASE,
    EPICARDIUM,
    LV_ENDOCARDIUM,
    RV_ENDOCARDIUM,
    SURFACES,
    Array,
    Solid,
)
from twinlab.cardiac.geometry.tets import boundary, volumes
from twinlab.schema import check, refuse

Ints = NDArray[np.int64]

LV_FREE_WALL, SEPTUM, RV_FREE_WALL = 1, 2, 3
"""Values of ``wall``."""


def classify(solid: Solid, points: Array, facets: Ints) -> NDArray[np.uint8]:
    """``facet_surface`` of boundary facets: the base plane, else the curved surface nearest to the corners."""
    corner = points[facets]
    flat = np.abs(solid.below_base(corner.reshape(-1, 3))).reshape(-1, 3).max(axis=1) < 1e-6
    levels = solid.levels(corner.reshape(-1, 3))
    names = np.array(list(levels), dtype=np.uint8)
    distance = np.stack([np.abs(value).reshape(-1, 3).sum(axis=1) for value in levels.values()])
    return np.where(flat, BASE, names[distance.argmin(axis=0)]).astype(np.uint8)


def enclosed_mm3(points: Array, facets: Ints) -> float:
    """Volume that a surface with one open rim encloses when a fan to the rim's centre closes it, mm3.

    Positive where the facets' normals point outwards. From the centre of the rim the fan is seen edge-on, so the
    divergence theorem needs the surface's own facets only, for a flat rim and for a warped one.
    """
    if len(facets) == 0:
        return 0.0
    half = np.concatenate([facets[:, [0, 1]], facets[:, [1, 2]], facets[:, [2, 0]]])
    n = int(facets.max()) + 1
    open_edges = half[~np.isin(half[:, 0] * n + half[:, 1], half[:, 1] * n + half[:, 0])]
    # Mean over the length of the rim, which does not depend on how the rim is divided.
    if len(open_edges):
        ends = points[open_edges]
        length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        centre = (ends.mean(axis=1) * length[:, None]).sum(axis=0) / length.sum()
    else:
        centre = points[facets[0, 0]]
    a, b, c = (points[facets[:, k]] - centre for k in range(3))
    return float(np.einsum("ij,ij->", np.cross(a, b), c) / 6.0)


def cavity_volume(
    heart: xr.Dataset, surface: str = "lv_endocardium", *, points: Array | None = None
) -> float:
    """Volume behind a surface of the heart, closed by the base, ml.

    Parameters
    ----------
    heart : Dataset
        With ``point``, ``facet``, ``facet_surface``.
    surface : {"lv_endocardium", "rv_endocardium", "epicardium"}
        A cavity, or all that lies inside the epicardium.
    points : ndarray, shape (node, 3), units mm, optional
        Nodes elsewhere than at ``heart["point"]``, after a deformation. The rim may leave its plane; a fan to its
        centre closes it then.

    Returns
    -------
    float
        ml; zero when the heart has no such surface.

    Raises
    ------
    InputError
        Unknown surface, or a Dataset without the facets.

    Notes
    -----
    ``V = 1/3 int x . n dA`` over the surface and its lid (divergence theorem).
    """
    check(heart, "point", "facet", "facet_surface", where="cavity_volume")
    if surface not in SURFACES or surface == "base":
        refuse("cavity_volume", "surface lv_endocardium, rv_endocardium or epicardium", repr(surface))
    place = heart["point"].values if points is None else np.asarray(points, dtype=float)
    if place.shape != heart["point"].shape:
        refuse("cavity_volume", f"points of shape {heart['point'].shape}", place.shape)
    facets = heart["facet"].values[heart["facet_surface"].values == SURFACES[surface]].astype(np.int64)
    volume = enclosed_mm3(place, facets) / 1000.0
    return volume if surface == "epicardium" else -volume


def volumes_of(points: Array, facets: Ints, surface: NDArray[np.uint8]) -> dict[int, float]:
    """Volume behind each curved surface present, by its number, ml."""
    sign = {EPICARDIUM: 1.0, LV_ENDOCARDIUM: -1.0, RV_ENDOCARDIUM: -1.0}
    return {
        k: sign[k] * enclosed_mm3(points, facets[surface == k]) / 1000.0 for k in sign if (surface == k).any()
    }


def set_volumes(
    points: Array, tets: Ints, surface: NDArray[np.uint8], wanted_ml: dict[int, float], base_normal: Array
) -> Array:
    """Points with the surfaces moved along their normals until the volumes behind them are those wanted.

    Flat facets between points of a curved surface cut its bulge: of the order of ``h^2 / 8 R`` in depth, hundredths
    of a millimetre. Points on the base stay in it. The move is undone where it would harm an element.
    """
    facets = boundary(tets)
    moved = points.copy()
    on_base = np.unique(facets[surface == BASE])
    for _ in range(3):
        now = volumes_of(moved, facets, surface)
        shift = np.zeros_like(moved)
        for k, target in wanted_ml.items():
            if k not in now:
                continue
            chosen = facets[surface == k]
            area = 0.5 * np.cross(
                moved[chosen[:, 1]] - moved[chosen[:, 0]], moved[chosen[:, 2]] - moved[chosen[:, 0]]
            )
            normal = np.zeros_like(moved)
            for c in range(3):
                np.add.at(normal, chosen[:, c], area)
            length = np.linalg.norm(normal, axis=1)
            hit = length > 0
            depth = 1000.0 * (target - now[k]) / np.linalg.norm(area, axis=1).sum()
            depth = depth if k == EPICARDIUM else -depth
            shift[hit] += depth * normal[hit] / length[hit, None]
        shift[on_base] -= np.outer(shift[on_base] @ base_normal, base_normal)
        moved = moved + shift
    harmed = volumes(moved, tets) < 0.7 * volumes(points, tets)
    moved[np.unique(tets[harmed])] = points[np.unique(tets[harmed])]
    return moved


def walls(points: Array, tets: Ints, facets: Ints, surface: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``wall`` of tetrahedra: 1 left free wall, 2 septum, 3 right free wall.

    A tetrahedron belongs to the wall between the two nearest of epicardium, left and right endocardium.
    """
    if not (surface == RV_ENDOCARDIUM).any():
        return np.full(len(tets), LV_FREE_WALL, np.uint8)
    distance = np.stack(
        [
            cKDTree(points[np.unique(facets[surface == k])]).query(points, eps=0.02)[0][tets].mean(axis=1)
            for k in (RV_ENDOCARDIUM, EPICARDIUM, LV_ENDOCARDIUM)
        ]
    )
    return np.array([LV_FREE_WALL, SEPTUM, RV_FREE_WALL], np.uint8)[distance.argmax(axis=0)]
