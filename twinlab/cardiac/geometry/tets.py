"""Numbers of a tetrahedral mesh: volumes, dihedral angles, aspect ratios, boundary, layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
"""Corners of the faces of a positively oriented tetrahedron, each seen anticlockwise from outside."""


def volumes(points: Array, tets: Ints) -> Array:
    """Signed volumes of tetrahedra, mm3."""
    a = points[tets[:, 0]]
    edges = points[tets[:, 1:]] - a[:, None]
    return np.linalg.det(edges) / 6.0


def dihedral_angles(points: Array, tets: Ints) -> Array:
    """The six dihedral angles of each tetrahedron, degrees, shape (tet, 6)."""
    corner = points[tets]
    normals = np.stack(
        [np.cross(corner[:, b] - corner[:, a], corner[:, c] - corner[:, a]) for a, b, c in FACES], axis=1
    )
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-300)
    i, j = np.triu_indices(4, 1)
    cosine = -(normals[:, i] * normals[:, j]).sum(axis=2)
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def aspect_ratios(points: Array, tets: Ints) -> Array:
    """Longest edge over the diameter of the inscribed sphere, divided by that of the regular one: 1 is best."""
    corner = points[tets]
    i, j = np.triu_indices(4, 1)
    longest = np.linalg.norm(corner[:, i] - corner[:, j], axis=2).max(axis=1)
    area = sum(
        0.5 * np.linalg.norm(np.cross(corner[:, b] - corner[:, a], corner[:, c] - corner[:, a]), axis=1)
        for a, b, c in FACES
    )
    inscribed = 6.0 * np.abs(volumes(points, tets)) / area  # diameter: twice 3 V / A
    return longest / np.maximum(inscribed, 1e-300) / np.sqrt(6.0)


def boundary(tets: Ints) -> Ints:
    """Faces that belong to one tetrahedron only, oriented outward, shape (facet, 3)."""
    faces = tets[:, FACES].reshape(-1, 3)
    _, first, count = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    return faces[first[count == 1]]


def boundary_owners(tets: Ints) -> tuple[Ints, Ints]:
    """Boundary faces as :func:`boundary`, and the tetrahedron of each."""
    faces = tets[:, FACES].reshape(-1, 3)
    _, first, count = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    chosen = first[count == 1]
    return faces[chosen], chosen // 4


def edges_of(cells: Ints) -> Ints:
    """Edges of triangles or tetrahedra, once each, shape (edge, 2)."""
    i, j = np.triu_indices(cells.shape[1], 1)
    pairs = np.sort(np.stack([cells[:, i], cells[:, j]], axis=2).reshape(-1, 2), axis=1)
    n = int(pairs.max()) + 1
    key = np.unique(pairs[:, 0] * n + pairs[:, 1])
    return np.stack([key // n, key % n], axis=1)


def is_closed_manifold(facets: Ints) -> bool:
    """Whether each edge of a surface has two facets, in opposite directions, and each node one fan of them."""
    half = np.concatenate([facets[:, [0, 1]], facets[:, [1, 2]], facets[:, [2, 0]]])
    n = int(facets.max()) + 1
    forth, back = half[:, 0] * n + half[:, 1], half[:, 1] * n + half[:, 0]
    if np.unique(forth).size != forth.size or not np.array_equal(np.sort(forth), np.sort(back)):
        return False
    # One fan: the facets of a node, linked over the edges that they share at it, are one piece. Corner c of
    # facet t is linked with the corner at the same node of the neighbour across the edge that leaves it.
    corner = np.arange(facets.size).reshape(-1, 3)
    ahead = np.concatenate([corner[:, 0], corner[:, 1], corner[:, 2]])  # corner at the start of a half edge
    ends = np.concatenate([corner[:, 1], corner[:, 2], corner[:, 0]])
    order = np.argsort(forth)
    twin = order[np.searchsorted(forth[order], back)]
    links = sparse.coo_matrix((np.ones(ahead.size), (ahead, ends[twin])), shape=(facets.size, facets.size))
    fans, _ = csgraph.connected_components(links, directed=False)
    return bool(fans == np.unique(facets).size)


def pieces(tets: Ints) -> Ints:
    """Number of the piece, hanging together over faces, that each tetrahedron belongs to."""
    faces = np.sort(tets[:, FACES].reshape(-1, 3), axis=1)
    order = np.lexsort(faces.T[::-1])
    same = (faces[order[1:]] == faces[order[:-1]]).all(axis=1)
    one, two = order[1:][same] // 4, order[:-1][same] // 4
    graph = sparse.coo_matrix((np.ones(one.size), (one, two)), shape=(len(tets), len(tets)))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1], dtype=np.int64)


def steps_from(tets: Ints, nodes: int, start: NDArray[np.bool_], most: int = 12) -> Ints:
    """Fewest edges from any start node to each node, at most ``most``."""
    edges = edges_of(tets)
    graph = sparse.coo_matrix(
        (np.ones(len(edges), np.int32), (edges[:, 0], edges[:, 1])), shape=(nodes, nodes)
    )
    graph = (graph + graph.T).tocsr()
    steps = np.where(start, 0, most)
    reached = start.copy()
    for k in range(1, most):
        fresh = (graph @ reached.astype(np.int32) > 0) & ~reached
        steps[fresh] = k
        reached |= fresh
    return steps
