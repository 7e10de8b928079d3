"""The heart on an even grid of voxels, and fields on that grid back on the mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from twinlab.cardiac.geometry.solids import Array
from twinlab.cardiac.geometry.universal import rotation_about_axis
from twinlab.kernels.heart_distance import locate_voxels
from twinlab.schema import check, refuse, spacing
from twinlab.variables import COORDINATES, VARIABLES

_MOST_VOXELS = 300_000_000
_PAIRS = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]  # of a symmetric tensor

Ints = NDArray[np.int64]


def on_grid(name: str, values: NDArray[Any], coords: dict[str, Array]) -> xr.DataArray:
    """A variable of the mesh on the grid: its name, units and meaning, with dims z, y, x (and axis)."""
    dims = ["z", "y", "x"] + ["axis"] * (values.ndim - 3)
    full: dict[str, object] = dict(coords)
    if values.ndim == 4:
        full["axis"] = ["x", "y", "z"]
    variable = VARIABLES[name]
    array = xr.DataArray(values, dims=dims, coords=full, name=name)
    array.attrs = {"units": variable.units, "long_name": variable.long_name}
    for axis in "zyx":
        units, meaning = COORDINATES[axis]
        array[axis].attrs.update(units=units, long_name=meaning)
    return array


def to_voxels(heart: xr.Dataset, *, spacing_mm: float, margin_mm: float = 0.0) -> xr.Dataset:
    """Voxel twin of a heart mesh.

    Parameters
    ----------
    heart : Dataset
        Heart mesh; with ``fibres`` and ``coordinates`` where these shall be carried over.
    spacing_mm : float
        Edge of a voxel.
    margin_mm : float
        Empty border around the heart.

    Returns
    -------
    Dataset, dims (z, y, x)
        ``wall`` and ``scar`` (uint8; ``wall`` 0 outside the muscle) of the element in which the centre of a voxel
        lies. Where the mesh has them: ``fibre``, ``sheet`` (z, y, x, axis) float32, 0 outside; ``transmural``,
        ``apicobasal``, ``rotational`` (z, y, x) float32, NaN outside. attrs as the mesh.

    Raises
    ------
    InputError
        A spacing that is not positive, or a grid of more than 300 million voxels.

    Notes
    -----
    A fibre has no sign, so that vectors must not be averaged: the tensors ``f f^T`` are, at the nodes by a linear
    fit over their elements and between nodes linearly; the direction is that of the largest eigenvalue. Sheets
    likewise, then made square to the fibres.
    """
    check(heart, "point", "tet", "wall", "scar", where="to_voxels")
    if not (np.isfinite(spacing_mm) and spacing_mm > 0):
        refuse("to_voxels", "spacing_mm above 0", spacing_mm)
    points, tets = heart["point"].values, heart["tet"].values.astype(np.int64)
    low, high = points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
    # Faces of voxels at whole multiples, so that twins line up; a base along an axis lies on such a face.
    zero = np.zeros(3)
    if "base_normal" in heart.attrs and np.abs(heart.attrs["base_normal"]).max() > 1 - 1e-9:
        zero = np.abs(heart.attrs["base_normal"]) * np.array(heart.attrs["base_point_mm"])
    first = zero + (np.floor((low - zero) / spacing_mm) + 0.5) * spacing_mm
    count = np.maximum(np.ceil((high - first) / spacing_mm + 0.5).astype(int), 2)
    if float(np.prod(count.astype(float))) > _MOST_VOXELS:
        refuse("to_voxels", f"at most {_MOST_VOXELS:,} voxels", f"{'x'.join(map(str, count))}")
    shape = (int(count[2]), int(count[1]), int(count[0]))
    element, weights = locate_voxels(points, tets, first, float(spacing_mm), shape)
    inside = element >= 0
    if not inside.any():
        refuse("to_voxels", "a spacing finer than the heart", f"{spacing_mm:g} mm")
    coords = {a: first[2 - k] + spacing_mm * np.arange(shape[k]) for k, a in enumerate("zyx")}
    made = {}
    for name in ("wall", "scar"):
        values = np.zeros(shape, np.uint8)
        values[inside] = heart[name].values[element[inside]]
        made[name] = on_grid(name, values, coords)
    corners, share = tets[element[inside]], weights[inside].astype(float)
    for name in ("transmural", "apicobasal", "rotational"):
        if name not in heart:
            continue
        if name == "rotational":  # jumps by a full turn: from the place, not from the corners
            k, j, i = np.nonzero(inside)
            centres = np.stack([coords["x"][i], coords["y"][j], coords["z"][k]], axis=1)
            found = rotation_about_axis(heart, centres)
        else:
            found = np.einsum("nk,nk->n", heart[name].values[corners], share)
        values = np.full(shape, np.nan, np.float32)
        values[inside] = found
        made[name] = on_grid(name, values, coords)
    if "fibre" in heart:
        along = _directions(heart, "fibre", points, tets, corners, share)
        made["fibre"] = on_grid("fibre", _spread(along, inside), coords)
        if "sheet" in heart:
            across = _directions(heart, "sheet", points, tets, corners, share)
            across -= along * (across * along).sum(axis=1, keepdims=True)
            across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
            made["sheet"] = on_grid("sheet", _spread(across, inside), coords)
    out = xr.Dataset(made)
    out.attrs = {**heart.attrs, "spacing_mm": float(spacing_mm)}
    return out


def _directions(
    heart: xr.Dataset, name: str, points: Array, tets: Ints, corners: Ints, share: Array
) -> Array:
    """Unit vectors at places given by corners and weights, from tensors at the nodes."""
    vectors = heart[name].values
    products = np.stack([vectors[:, i] * vectors[:, j] for i, j in _PAIRS], axis=1)
    nodal = _at_nodes(products, points, tets)
    out = np.empty((len(corners), 3))
    for start in range(0, len(corners), 200_000):
        part = slice(start, start + 200_000)
        six = np.einsum("nk,nkc->nc", share[part], nodal[corners[part]])
        tensor = np.empty((len(six), 3, 3))
        for n, (i, j) in enumerate(_PAIRS):
            tensor[:, i, j] = tensor[:, j, i] = six[:, n]
        out[part] = np.linalg.eigh(tensor)[1][:, :, 2]
    return out


def _at_nodes(values: Array, points: Array, tets: Ints) -> Array:
    """Nodal values from those in the elements' centres, by a linear fit over the elements of each node.

    A mean would give the surface the angle of the middle of its outermost elements. The slopes are held towards
    zero a little, for nodes with few elements.
    """
    nodes = tets.ravel()
    offset = (points[tets].mean(axis=1)[:, None, :] - points[tets]).reshape(-1, 3)
    size = float(np.abs(offset).mean())
    terms = np.concatenate([np.ones((len(offset), 1)), offset / size], axis=1)

    def summed(column: Array) -> Array:
        return np.asarray(np.bincount(nodes, column, len(points)), dtype=float)

    matrix = np.stack([[summed(terms[:, a] * terms[:, b]) for b in range(4)] for a in range(4)])
    matrix = matrix.transpose(2, 0, 1) + np.diag([1e-9, 0.1, 0.1, 0.1])
    each = np.repeat(values, 4, axis=0)
    right = np.stack(
        [
            np.stack([summed(terms[:, a] * each[:, c]) for c in range(values.shape[1])], axis=1)
            for a in range(4)
        ]
    )
    return np.asarray(np.linalg.solve(matrix, right.transpose(1, 0, 2))[:, 0], dtype=float)


def _spread(values: Array, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    out = np.zeros((*inside.shape, 3), np.float32)
    out[inside] = values
    return out


def to_mesh(voxel_field: xr.DataArray, heart: xr.Dataset) -> xr.DataArray:
    """A field on the voxel twin at the nodes of the mesh.

    Parameters
    ----------
    voxel_field : DataArray, dims (z, y, x)
        NaN where there is no value.
    heart : Dataset
        Heart mesh.

    Returns
    -------
    DataArray, dims (node,)
        Trilinear between voxel centres; missing voxels first get the value of the nearest one that has one. Name and
        attrs as ``voxel_field``.

    Raises
    ------
    InputError
        Other dims, an uneven grid, or no value at all.
    """
    check(heart, "point", where="to_mesh")
    if tuple(voxel_field.dims) != ("z", "y", "x"):
        refuse("to_mesh", "dims ('z', 'y', 'x')", voxel_field.dims)
    steps = [spacing(voxel_field[a], where="to_mesh") for a in "zyx"]
    values = np.asarray(voxel_field.values, dtype=float)
    missing = ~np.isfinite(values)
    if missing.all():
        refuse("to_mesh", "a field with values", "NaN everywhere")
    if missing.any():
        nearest = ndimage.distance_transform_edt(
            missing, sampling=steps, return_distances=False, return_indices=True
        )
        values = values[tuple(nearest)]
    points = heart["point"].values
    index = np.stack([(points[:, 2 - k] - float(voxel_field[a][0])) / steps[k] for k, a in enumerate("zyx")])
    found = ndimage.map_coordinates(values, index, order=1, mode="nearest")
    return xr.DataArray(found, dims="node", name=voxel_field.name, attrs=dict(voxel_field.attrs))
