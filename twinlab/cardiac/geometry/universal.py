"""Universal coordinates of the ventricles, and the 17 segments of the left one."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.cardiac.geometry.fibre_rules import apex_nodes, surface_mask
from twinlab.cardiac.geometry.laplace import element_gradient, solve_laplace, stiffness
from twinlab.cardiac.geometry.solids import BASE, EPICARDIUM, LV_ENDOCARDIUM, RV_ENDOCARDIUM, Array
from twinlab.cardiac.geometry.surfaces import RV_FREE_WALL
from twinlab.cardiac.geometry.tets import volumes
from twinlab.schema import check, label, refuse

Ints = NDArray[np.int64]

_LEVELS = 60  # steps of the apicobasal distance


def coordinates(heart: xr.Dataset) -> xr.Dataset:
    """Place of each node in terms that any two hearts share.

    Parameters
    ----------
    heart : Dataset
        Heart mesh.

    Returns
    -------
    Dataset
        ``heart`` with, over ``node``:

        - ``ventricle``: 0 left with septum, 1 right free wall.
        - ``transmural``: 0 endocardium, 1 epicardium (in the septum 0 left, 1 right), harmonic in between. The two
          ventricles are solved apart, so it jumps where the right free wall meets the left ventricle.
        - ``apicobasal``: 0 at the apex, 1 on the base, growing evenly with the way along the wall: levels are those
          of a harmonic function, their distance the mean of ``1 / |gradient|`` over each level.
        - ``rotational``: angle around the left long axis, rad: 0 towards the right ventricle, growing anteriorly,
          pi (or -pi) in the lateral wall.

    Raises
    ------
    InputError
        No heart mesh.

    References
    ----------
    Bayer J et al. (2018) Universal ventricular coordinates: a generic framework for describing position within the
    heart and transferring data. Med. Image Anal. 45, 83-93.
    """
    check(heart, "point", "tet", "facet", "facet_surface", "wall", where="coordinates")
    points, tets = heart["point"].values, heart["tet"].values.astype(np.int64)
    right = heart["wall"].values == RV_FREE_WALL
    ventricle = np.ones(len(points), np.uint8)
    ventricle[tets[~right].ravel()] = 0
    on = {k: surface_mask(heart, k) for k in (EPICARDIUM, LV_ENDOCARDIUM, RV_ENDOCARDIUM)}
    transmural = np.zeros(len(points))
    parts = [(~right, on[LV_ENDOCARDIUM], (on[EPICARDIUM] | on[RV_ENDOCARDIUM]) & ~on[LV_ENDOCARDIUM])]
    if right.any():
        parts.insert(0, (right, on[RV_ENDOCARDIUM] & ~on[EPICARDIUM], on[EPICARDIUM]))
    for chosen, inside, outside in parts:  # the left one last: it has the nodes that both share
        used, cells = np.unique(tets[chosen], return_inverse=True)
        matrix = stiffness(points[used], cells.reshape(-1, 4))
        fixed = inside[used] | outside[used]
        transmural[used] = np.clip(solve_laplace(matrix, fixed, outside[used].astype(float)), 0, 1)
    base = surface_mask(heart, BASE)
    up = solve_laplace(stiffness(points, tets), base | apex_nodes(heart), base.astype(float))
    made = {
        "ventricle": ventricle.astype(float),
        "transmural": transmural,
        "apicobasal": _evened(points, tets, np.clip(up, 0, 1)),
        "rotational": rotation_about_axis(heart, points),
    }
    return heart.assign({name: label(name, values) for name, values in made.items()})


def _evened(points: Array, tets: Ints, up: Array) -> Array:
    """Harmonic function turned into the share of the way along the wall."""
    slope = np.linalg.norm(element_gradient(points, tets, up), axis=1)
    at, volume = up[tets].mean(axis=1), volumes(points, tets)
    edges = np.linspace(0, 1, _LEVELS + 1)
    # Mean of 1 / |grad| over a level set is the sum of volumes over the sum of volume times |grad| in a thin shell.
    shell = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, _LEVELS - 1)
    weight = np.bincount(shell, volume, _LEVELS)
    flow = np.bincount(shell, volume * slope, _LEVELS)
    filled = flow > 0
    middle = (edges[1:] + edges[:-1]) / 2
    step = np.interp(middle, middle[filled], weight[filled] / flow[filled])
    way = np.concatenate([[0.0], np.cumsum(step)])
    return np.interp(up, edges, way / way[-1])


def long_axis(heart: xr.Dataset) -> tuple[Array, Array, Array, Array]:
    """Point on the left long axis, and unit vectors: to the base, to the septum, anteriorly."""
    rim = surface_mask(heart, LV_ENDOCARDIUM) & surface_mask(heart, BASE)
    if not rim.any():
        refuse("long_axis", "a left endocardium that reaches the base", "none")
    apex = np.array(heart.attrs["lv_apex_mm"], dtype=float)
    top = heart["point"].values[rim].mean(axis=0)
    up = (top - apex) / np.linalg.norm(top - apex)
    septum = np.array(heart.attrs["septum_direction"], dtype=float)
    septum -= up * (septum @ up)
    septum /= np.linalg.norm(septum)
    return apex, up, septum, np.cross(up, septum)


def rotation_about_axis(heart: xr.Dataset, places: Array) -> Array:
    """Angle of places (n, 3) around the left long axis, rad (see :func:`coordinates`)."""
    apex, _, septum, anterior = long_axis(heart)
    return np.arctan2((places - apex) @ anterior, (places - apex) @ septum)


def aha_segments(heart: xr.Dataset) -> xr.DataArray:
    """Segment of the left ventricle that each element lies in.

    Parameters
    ----------
    heart : Dataset
        Heart mesh; ``coordinates`` are computed when it has none.

    Returns
    -------
    DataArray, dims (tet,), uint8
        1 to 17 as the American Heart Association numbers them (1 basal anterior, 2 basal anteroseptal, ..., 17
        apex); 0 in the right free wall.

    Notes
    -----
    Thirds of the way from the tip of the cavity to the base; below the tip lies segment 17. Sectors of 60 degrees
    (90 in the apical third) about the left long axis, with the middle of the septum between segments 2 and 3.

    References
    ----------
    Cerqueira M D et al. (2002) Standardized myocardial segmentation and nomenclature for tomographic imaging of
    the heart. Circulation 105, 539-542.
    """
    check(heart, "point", "tet", "wall", where="aha_segments")
    apex, up, _, _ = long_axis(heart)
    places = heart["point"].values[heart["tet"].values].mean(axis=1)
    base = np.array(heart.attrs["base_point_mm"], dtype=float)
    height = ((places - apex) @ up) / float((base - apex) @ up)
    angle = np.degrees(rotation_about_axis(heart, places))
    six = np.array([5, 4, 3, 2, 1, 6])  # from -180 degrees: inferolateral, inferior, inferoseptal, ...
    ring = six[np.clip(((angle + 180) // 60).astype(int), 0, 5)]
    four = np.array([15, 14, 13, 16])  # from -135 degrees
    tip = four[(((angle + 135) % 360) // 90).astype(int) % 4]
    level = np.clip((height * 3).astype(int), 0, 2)
    segment = np.choose(level, [tip, ring + 6, ring])
    segment = np.where(height < 0, 17, segment)
    segment[heart["wall"].values == RV_FREE_WALL] = 0
    return label("aha_segment", segment.astype(np.uint8))
