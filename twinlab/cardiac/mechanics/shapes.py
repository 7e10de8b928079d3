"""Structured meshes: a beam, a truncated ellipsoid with curved elements."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import xarray as xr

from twinlab.cardiac.mechanics.quadratic_mesh import quadratic
from twinlab.schema import label, refuse


def beam(*, size_mm: tuple[float, float, float], cells: tuple[int, int, int]) -> xr.Dataset:
    """Box of quadratic tetrahedra, six to a cell.

    Parameters
    ----------
    size_mm : (x, y, z)
    cells : (x, y, z)

    Returns
    -------
    Dataset
        ``facet_surface`` is 1 on x = 0, 2 on the upper x, 3 and 4 on the ends of y, 5 on z = 0, 6 on the upper z.
    """
    axes = [np.linspace(0, length, n + 1) for length, n in zip(size_mm, cells, strict=True)]
    point = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    number = np.arange(len(point)).reshape([n + 1 for n in cells])
    tet = _six(number)
    facet = _boundary(tet)
    surface = np.zeros(len(facet), np.uint8)
    middle = point[facet].mean(1)
    for axis in range(3):
        surface[np.isclose(middle[:, axis], 0)] = 2 * axis + 1
        surface[np.isclose(middle[:, axis], size_mm[axis])] = 2 * axis + 2
    return quadratic(_dataset(point, tet, facet, surface))


def ellipsoid(
    *,
    cells: tuple[int, int, int],
    short_mm: tuple[float, float] = (7.0, 10.0),
    long_mm: tuple[float, float] = (17.0, 20.0),
    base_mm: float = 5.0,
) -> xr.Dataset:
    """Truncated ellipsoid of curved quadratic tetrahedra, the long axis along z, the apex below.

    Parameters
    ----------
    cells : (through the wall, from apex to base, around)
    short_mm, long_mm : (endocardium, epicardium)
        Half axes; by default those of Land 2015.
    base_mm : float
        Height of the plane of the base.

    Returns
    -------
    Dataset
        A heart mesh with ``transmural`` (0 endocardium, 1 epicardium), ``apicobasal`` and ``rotational`` on its
        nodes; every node lies on its own ellipsoid.
    """
    nt, nu, nv = cells
    if nt < 1 or nu < 2 or nv < 3:
        refuse("ellipsoid", "at least 1 cell through the wall, 2 along, 3 around", cells)
    t, s, v = np.meshgrid(
        np.linspace(0, 1, nt + 1), np.linspace(0, 1, nu + 1), np.arange(nv) * 2 * np.pi / nv, indexing="ij"
    )
    number = np.arange(t.size).reshape(t.shape)
    number[:, 0, :] = number[:, 0, :1]  # the apex is one node a layer
    used, compact = np.unique(number, return_inverse=True)
    number = compact.reshape(number.shape)
    parameter = np.stack([t.ravel(), s.ravel(), v.ravel()], 1)[used]
    tet = _six(np.concatenate([number, number[:, :, :1]], 2))
    tet = tet[[len(set(row)) == 4 for row in tet]]

    def place(where: np.ndarray) -> np.ndarray:
        short = short_mm[0] + (short_mm[1] - short_mm[0]) * where[:, 0]
        along = long_mm[0] + (long_mm[1] - long_mm[0]) * where[:, 0]
        u = np.pi - where[:, 1] * (np.pi - np.arccos(base_mm / along))
        x, y = short * np.sin(u) * np.cos(where[:, 2]), short * np.sin(u) * np.sin(where[:, 2])
        return np.stack([x, y, along * np.cos(u)], 1)

    def curve(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        a, b = parameter[first].copy(), parameter[last].copy()
        a[a[:, 1] == 0, 2], b[b[:, 1] == 0, 2] = b[a[:, 1] == 0, 2], a[b[:, 1] == 0, 2]
        b[:, 2] = a[:, 2] + (b[:, 2] - a[:, 2] + np.pi) % (2 * np.pi) - np.pi
        return place(0.5 * (a + b))

    point = place(parameter)
    tet = _positive(point, tet)
    facet = _boundary(tet)
    layer = parameter[facet]
    surface = np.full(len(facet), 4, np.uint8)
    surface[np.all(layer[:, :, 0] == 1, 1)] = 1
    surface[np.all(layer[:, :, 0] == 0, 1)] = 2
    heart = _dataset(point, tet, facet, surface)
    for name, column in (("transmural", 0), ("apicobasal", 1)):
        heart[name] = xr.DataArray(parameter[:, column], dims="node", attrs={"units": "1"})
    heart["rotational"] = xr.DataArray(parameter[:, 2], dims="node", attrs={"units": "rad"})
    heart.attrs.update(source="truncated ellipsoid", short_mm=short_mm, long_mm=long_mm, base_mm=base_mm)
    return quadratic(heart, curve=curve)


def _six(number: np.ndarray) -> np.ndarray:
    """Six tetrahedra round the long diagonal of every cell; neighbours share their face diagonals."""
    shape = [n - 1 for n in number.shape]
    rows = []
    for order in permutations(range(3)):
        step, corners = np.zeros(3, int), []
        for axis in (None, *order):
            if axis is not None:
                step[axis] = 1
            cut = tuple(slice(a, a + n) for a, n in zip(step, shape, strict=True))
            corners.append(number[cut].ravel())
        if np.linalg.det(np.eye(3)[list(order)]) < 0:
            corners[2], corners[3] = corners[3], corners[2]
        rows.append(np.stack(corners, 1))
    return np.concatenate(rows)


def _positive(point: np.ndarray, tet: np.ndarray) -> np.ndarray:
    side = point[tet[:, 1:]] - point[tet[:, :1]]
    return np.where((np.linalg.det(side) > 0)[:, None], tet, tet[:, [0, 1, 3, 2]])


def _boundary(tet: np.ndarray) -> np.ndarray:
    """Faces that one tetrahedron has, oriented outward."""
    faces = np.concatenate([tet[:, [1, 2, 3]], tet[:, [0, 3, 2]], tet[:, [0, 1, 3]], tet[:, [0, 2, 1]]])
    _, first, count = np.unique(np.sort(faces, 1), axis=0, return_index=True, return_counts=True)
    return faces[np.sort(first[count == 1])]


def _dataset(point: np.ndarray, tet: np.ndarray, facet: np.ndarray, surface: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {
            "point": label("point", point, {"axis": ["x", "y", "z"]}),
            "tet": label("tet", tet.astype(np.int32)),
            "facet": label("facet", facet.astype(np.int32)),
            "facet_surface": label("facet_surface", surface),
        }
    )
