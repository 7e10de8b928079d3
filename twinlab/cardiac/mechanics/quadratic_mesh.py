"""Quadratic tetrahedra from linear ones: middle nodes of edges, curved where asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from twinlab.cardiac.mechanics.quadrature import EDGES, FACE_EDGES
from twinlab.schema import check, label, refuse


def quadratic(
    heart: xr.Dataset, *, curve: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
) -> xr.Dataset:
    """Ten-node tetrahedra of a heart mesh.

    Parameters
    ----------
    heart : Dataset
        ``point``, ``tet`` with four corners, ``facet`` with three, ``facet_surface``. Other variables are kept;
        those on nodes are averaged over the ends of each edge.
    curve : callable, optional
        Gets the two ends of every edge, node numbers (edge,) each, and returns the middles (edge, axis) in mm;
        without it they lie half-way.

    Returns
    -------
    Dataset
        As ``heart`` with ten corners a tetrahedron (order of VTK) and six a facet. The old nodes come first.

    Raises
    ------
    InputError
        The mesh is not one of linear tetrahedra, or not finite.
    """
    check(heart, "point", "tet", "facet", "facet_surface", where="quadratic")
    point = np.asarray(heart["point"], float)
    tet, facet = np.asarray(heart["tet"]), np.asarray(heart["facet"])
    if tet.shape[1] != 4 or facet.shape[1] != 3:
        refuse("quadratic", "tetrahedra of 4 corners and facets of 3", f"{tet.shape[1]} and {facet.shape[1]}")
    if not np.isfinite(point).all():
        refuse("quadratic", "finite points", f"{int((~np.isfinite(point)).any(1).sum())} points that are not")
    n = len(point)
    ends = np.sort(np.concatenate([tet[:, list(edge)] for edge in EDGES]), 1).astype(np.int64)
    key, number = np.unique(ends[:, 0] * n + ends[:, 1], return_inverse=True)
    first, last = key // n, key % n
    middle = 0.5 * (point[first] + point[last]) if curve is None else np.asarray(curve(first, last), float)
    of_tet = n + number.reshape(len(EDGES), len(tet)).T
    sides = np.sort(np.stack([facet[:, list(edge)] for edge in FACE_EDGES]), 2).astype(np.int64)
    side = sides[..., 0] * n + sides[..., 1]
    of_facet = np.searchsorted(key, side)
    if np.any(of_facet >= len(key)) or np.any(key[np.minimum(of_facet, len(key) - 1)] != side):
        refuse("quadratic", "facets whose edges belong to tetrahedra", "an edge without one")
    keep = {
        name: array
        for name, array in heart.data_vars.items()
        if "node" not in array.dims and name not in ("tet", "facet")
    }
    whole = xr.Dataset(keep, attrs={**heart.attrs, "order": 2})
    whole["point"] = label("point", np.concatenate([point, middle]))
    whole["tet"] = label("tet", np.concatenate([tet, of_tet], 1).astype(np.int32))
    whole["facet"] = label("facet", np.concatenate([facet, n + of_facet.T], 1).astype(np.int32))
    for name, array in heart.data_vars.items():
        if array.dims == ("node",):
            whole[name] = _averaged(array, first, last)
    return whole


def _averaged(array: xr.DataArray, first: np.ndarray, last: np.ndarray) -> xr.DataArray:
    a, b = array.values[first], array.values[last]
    if array.attrs.get("units") == "rad":
        middle = np.arctan2(np.sin(a) + np.sin(b), np.cos(a) + np.cos(b))
    elif np.issubdtype(array.dtype, np.integer):
        middle = a
    else:
        middle = 0.5 * (a + b)
    return xr.DataArray(
        np.concatenate([array.values, middle]), dims="node", attrs=array.attrs, name=array.name
    )
