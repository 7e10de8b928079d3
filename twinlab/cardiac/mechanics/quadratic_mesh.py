"""Quadratic tetrahedra from linear ones: middle nodes of edges, curved where asked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import xarray as xr

from twinlab.cardiac.mechanics.quadrature import EDGES, FACE_EDGES, quadratic_shape
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


def subdivided(point: np.ndarray, tet: np.ndarray, *, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear tetrahedra on the curved surface of quadratic ones, for pictures.

    Parameters
    ----------
    point : ndarray (node, 3), mm
    tet : ndarray (tet, 10), order of VTK
    order : int
        Steps along an edge.

    Returns
    -------
    point : ndarray (node, 3), mm
    tet : ndarray (part, 4)
        The ``order**3`` parts of an element stand together, in the order of the elements; positively oriented where
        the element is.

    Examples
    --------
    >>> corner = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    >>> ends = np.array([corner[[i, j]].mean(0) for i, j in EDGES])
    >>> made, parts = subdivided(np.concatenate([corner, ends]), np.arange(10)[None], order=3)
    >>> len(made), len(parts)
    (20, 27)
    """
    lattice, parts = _lattice(order)
    last = lattice / order
    shape = quadratic_shape(np.column_stack([1.0 - last.sum(1), last]))
    every = (shape @ point[tet]).reshape(-1, 3)
    # neighbours share a face's nodes and shape functions, hence its points but for rounding
    _, kept, number = np.unique(np.round(every, 6), axis=0, return_index=True, return_inverse=True)
    at = np.arange(len(tet))[:, None, None] * len(lattice) + parts
    return every[kept], number.ravel()[at.reshape(-1, 4)]


def _lattice(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (point, 3) of a tetrahedron cut ``order`` times along each edge and its equal parts (part, 4)."""
    steps = np.arange(order + 1)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    # Kuhn's tetrahedron 0 <= c <= b <= a: the unit cubes' six tetrahedra tile it, and a shear makes it ours
    cubes = grid[(grid < order).all(1)]
    paths = [np.cumsum(np.eye(3, dtype=int)[list(path)], 0) for path in permutations(range(3))]
    found = np.concatenate([np.stack([cubes, *(cubes + step for step in path)], 1) for path in paths])
    a, b, c = np.moveaxis(found, -1, 0)
    found = found[((c <= b) & (b <= a) & (a <= order)).all(1)]
    sheared = np.stack([found[..., 0] - found[..., 1], found[..., 1] - found[..., 2], found[..., 2]], -1)
    corners, number = np.unique(sheared.reshape(-1, 3), axis=0, return_inverse=True)
    parts = number.reshape(-1, 4)
    edges = corners[parts[:, 1:]] - corners[parts[:, :1]]
    turned = np.linalg.det(edges.astype(float)) < 0
    parts[turned] = parts[turned][:, [0, 2, 1, 3]]
    return corners, parts
