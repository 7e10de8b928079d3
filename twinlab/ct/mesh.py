"""Bodies as closed triangle meshes: from arrays, from files, from the voxels of an organ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.phantom.build import check_phantom, organ_names
from twinlab.physics.materials import get as get_material
from twinlab.schema import refuse

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """A closed surface filled with one material.

    Attributes
    ----------
    name : str
    vertices : array (n, 3)
        x, y, z [mm].
    triangles : int array (m, 3)
        Corners of each triangle, counter-clockwise seen from outside (turned round when all are clockwise).
    material : str
        Key of :mod:`twinlab.physics.materials`.
    density_g_cm3 : float, optional
        Default: the material's.
    inside : str, optional
        Name of the mesh that surrounds this one, whose matter it displaces.
    """

    name: str
    vertices: np.ndarray
    triangles: np.ndarray
    material: str
    density_g_cm3: float | None = None
    inside: str | None = None

    @property
    def density(self) -> float:
        """Density, g/cm3."""
        given = self.density_g_cm3
        return float(get_material(self.material).density_g_cm3 if given is None else given)

    def volume_mm3(self) -> float:
        """Volume enclosed; negative when the triangles are clockwise.

        Examples
        --------
        >>> corner = Mesh("t", np.array([[0, 0, 0], [6, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ...               np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]), "water")
        >>> corner.volume_mm3()
        1.0
        """
        a, b, c = (np.asarray(self.vertices, float)[np.asarray(self.triangles)[:, i]] for i in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def read_mesh(path: str | Path, *, material: str, name: str | None = None, **fields: Any) -> Mesh:
    """Mesh from an STL, PLY or other file that meshio reads, in mm.

    Parameters
    ----------
    path : path
    material : str
    name : str, optional
        Default: the file's.
    **fields
        Further fields of :class:`Mesh`.

    Raises
    ------
    InputError
        No such file, no triangles in it, or meshio (extra ``mesh``) is missing.
    """
    path = Path(path)
    try:
        import meshio
    except ImportError:
        refuse("read_mesh", "meshio (pip install 'twinlab[mesh]')", "none")
    if not path.is_file():
        refuse("read_mesh", "a file of triangles", f"no file {path}")
    read = meshio.read(path)
    triangles = read.cells_dict.get("triangle")
    if triangles is None:
        refuse(f"read_mesh({path})", "triangles", f"cells {sorted(read.cells_dict)}")
    # STL lists every triangle's corners anew: equal ones are one
    vertices, owner = np.unique(np.asarray(read.points, float), axis=0, return_inverse=True)
    return Mesh(name or path.stem, vertices, owner.ravel()[triangles], material, **fields)


def organ_surface(phantom: xr.Dataset, organ: str, *, material: str, **fields: Any) -> Mesh:
    """Faces of the voxels of one organ as a mesh, exactly as blocky as the voxels are.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    organ : str
        Name of the organ.
    material : str
        What fills the mesh; the density defaults to the organ's mean.
    **fields
        Further fields of :class:`Mesh`.

    Raises
    ------
    InputError
        Not a Phantom, or no such organ in it.
    """
    dz, dy, dx = check_phantom(phantom, where="organ_surface")
    known = {name: number for number, name in organ_names(phantom).items()}
    if organ not in known or not (phantom["organ"].to_numpy() == known[organ]).any():
        refuse("organ_surface", f"one of {', '.join(sorted(known))} with voxels", repr(organ))
    inside = phantom["organ"].to_numpy() == known[organ]
    fields.setdefault("density_g_cm3", float(phantom["density"].to_numpy()[inside].mean()))
    corners, triangles = _faces(inside)
    low = np.array([float(phantom[a][0]) for a in "xyz"]) - 0.5 * np.array([dx, dy, dz])
    return Mesh(organ, low + corners * np.array([dx, dy, dz]), triangles, material, **fields)


def _faces(inside: NDArray[np.bool_]) -> tuple[Array, NDArray[np.int64]]:
    """Corners (x, y, z) in voxels, and triangles, of the faces between inside and outside."""
    padded = np.pad(inside, 1).transpose(2, 1, 0)  # x, y, z
    quads = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        here = np.take(padded, range(padded.shape[axis] - 1), axis)
        there = np.take(padded, range(1, padded.shape[axis]), axis)
        for leaving, order in ((here & ~there, (0, 1, 2, 3)), (there & ~here, (0, 3, 2, 1))):
            cell = np.argwhere(leaving).astype(float)
            cell[:, axis] += 1
            square = np.repeat(cell[:, None], 4, axis=1)
            square[:, 1:3, u] += 1
            square[:, 2:4, v] += 1
            quads.append(square[:, order])
    points = np.concatenate(quads) - 1.0
    corners, index = np.unique(points.reshape(-1, 3), axis=0, return_inverse=True)
    index = index.reshape(-1, 4)
    return corners, np.concatenate([index[:, [0, 1, 2]], index[:, [0, 2, 3]]])


def checked(meshes: list[Mesh]) -> list[Mesh]:
    """Meshes with outward triangles.

    Raises
    ------
    InputError
        An open mesh, corners that do not exist, names that are not unique, or a parent that is none of them.
    """
    names = [mesh.name for mesh in meshes]
    if not names or len(set(names)) != len(names):
        refuse("meshes", "one mesh or more, each name once", names)
    out = []
    for mesh in meshes:
        where = f"mesh {mesh.name!r}"
        vertices, triangles = np.asarray(mesh.vertices, float), np.asarray(mesh.triangles, np.int64)
        if vertices.ndim != 2 or vertices.shape[1:] != (3,) or not np.isfinite(vertices).all():
            refuse(where, "finite vertices (n, 3)", vertices.shape)
        if triangles.ndim != 2 or triangles.shape[1:] != (3,) or not triangles.size:
            refuse(where, "triangles (m, 3)", triangles.shape)
        if triangles.min() < 0 or triangles.max() >= len(vertices):
            refuse(where, f"corners 0 to {len(vertices) - 1}", f"{triangles.min()} to {triangles.max()}")
        if mesh.inside is not None and (mesh.inside not in names or mesh.inside == mesh.name):
            refuse(where, f"inside one of {', '.join(n for n in names if n != mesh.name)}", repr(mesh.inside))
        _check_closed(triangles, where)
        if mesh.volume_mm3() < 0:
            triangles = triangles[:, ::-1]
        out.append(Mesh(mesh.name, vertices, triangles, mesh.material, mesh.density_g_cm3, mesh.inside))
    return out


def _check_closed(triangles: NDArray[np.int64], where: str) -> None:
    """Every edge is used as often in one direction as in the other: only then do chords have an end."""
    ends = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    forward = ends[:, 0] < ends[:, 1]
    edge, owner = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True)
    balance = np.bincount(owner.ravel(), np.where(forward, 1.0, -1.0), minlength=len(edge))
    if np.any(balance):
        refuse(where, "a closed surface of consistent sense", f"{np.count_nonzero(balance)} open edges")


def refined(mesh: Mesh, longest_mm: float) -> Mesh:
    """The same surface with no edge longer than asked: long edges are halved on both of their sides.

    Parameters
    ----------
    mesh : Mesh
    longest_mm : float
    """
    vertices, triangles = np.asarray(mesh.vertices, float), np.asarray(mesh.triangles, np.int64)
    while True:
        ends = np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=-1)  # of edge i, after corner i
        edge, owner = np.unique(np.sort(ends.reshape(-1, 2), axis=1), axis=0, return_inverse=True)
        long = np.linalg.norm(vertices[edge[:, 0]] - vertices[edge[:, 1]], axis=1) > longest_mm
        if not long.any():
            return Mesh(mesh.name, vertices, triangles, mesh.material, mesh.density_g_cm3, mesh.inside)
        middle = np.full(len(edge), -1)
        middle[long] = len(vertices) + np.arange(np.count_nonzero(long))
        vertices = np.concatenate([vertices, vertices[edge[long]].mean(axis=1)])
        triangles = _split(triangles, middle[owner.reshape(-1, 3)])


def _split(triangles: NDArray[np.int64], middle: NDArray[np.int64]) -> NDArray[np.int64]:
    """Triangles cut at the middles of their edges (-1: none), whichever of the three have one."""
    out = [triangles[(middle < 0).all(axis=1)]]
    for k in range(3):  # turned so that the pattern starts at edge k
        t, m = np.roll(triangles, -k, axis=1), np.roll(middle, -k, axis=1)
        one = (m[:, 0] >= 0) & (m[:, 1] < 0) & (m[:, 2] < 0)
        two = (m[:, 0] >= 0) & (m[:, 1] >= 0) & (m[:, 2] < 0)
        (a, b, c), (ab, _, _) = t[one].T, m[one].T
        out += [np.stack([a, ab, c], 1), np.stack([ab, b, c], 1)]
        (a, b, c), (ab, bc, _) = t[two].T, m[two].T
        out += [np.stack([ab, b, bc], 1), np.stack([a, ab, bc], 1), np.stack([a, bc, c], 1)]
    every = (middle >= 0).all(axis=1)
    (a, b, c), (ab, bc, ca) = triangles[every].T, middle[every].T
    out += [np.stack(corners, 1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate(out)
