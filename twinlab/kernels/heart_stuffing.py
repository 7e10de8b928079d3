"""Body-centred cubic lattice and the tables by which a level set cuts it into tetrahedra.

Isosurface stuffing (Labelle and Shewchuk, ACM Trans. Graph. 26(3):57, 2007): the tetrahedra of a body-centred
cubic lattice have dihedral angles of 60 and 90 degrees; corners near the surface are moved onto it, and the
tetrahedra that the surface still cuts are replaced by the pieces on its inner side. Corner positions are whole
numbers, half a cube's edge each: even triples are corners of cubes, odd triples their centres.
"""

from __future__ import annotations

import itertools

import numpy as np

PAIRS = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
"""Corners of the six edges of a tetrahedron."""

NEAR_LONG, NEAR_SHORT = 0.24999, 0.41189
"""A cut nearer than this share of an edge moves the corner (the paper's table 2, for the safest angles)."""


def lattice(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lattice points of a box, and its tetrahedra.

    Parameters
    ----------
    low, high : ndarray of int, shape (3,)
        Box of whole-number positions; the lattice covers it.

    Returns
    -------
    places : ndarray of int, shape (n, 3)
    tets : ndarray of int, shape (m, 4)
        Two cube centres, then two cube corners: edges 0-1 and 2-3 are the long ones. Not oriented.
    """
    start = np.asarray(low) // 2
    shape = np.asarray(high) // 2 + 2 - start  # cubes, with one more layer on the upper side
    i, j, k = (a.ravel() for a in np.indices(shape + 1))
    corners = 2 * (np.stack([i, j, k], axis=1) + start)
    places = np.concatenate([corners, corners + 1])
    strides = np.array([(shape[1] + 1) * (shape[2] + 1), shape[2] + 1, 1])
    n = corners.shape[0]
    inner = (i < shape[0]) & (j < shape[1]) & (k < shape[2])
    tets = []
    for d in range(3):
        # The long edge from a cube's centre to that of the next cube along d passes through their common face.
        at = np.flatnonzero(inner & (np.stack([i, j, k])[d] < shape[d] - 1))
        face = at + strides[d]
        one, two = strides[(d + 1) % 3], strides[(d + 2) % 3]
        ring = [face, face + one, face + one + two, face + two, face]
        for a, b in itertools.pairwise(ring):
            tets.append(np.stack([n + at, n + at + strides[d], a, b], axis=1))
    return places, np.concatenate(tets)


def _prism_table() -> dict[tuple[bool, bool, bool], list[list[int]]]:
    """Tetrahedra of a prism by the diagonals of its sides.

    Corners 0 1 2 are the one end, 3 4 5 the other. ``diagonal[s]`` of side (s, s + 1) is true when it runs from
    corner s to the other end of s + 1, false when from s + 1 to the other end of s.
    """
    table = {}
    for key in [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)]:
        if key in ((True, True, True), (False, False, False)):
            continue  # no such division without a further point
        # A corner of the first end that meets two diagonals gives a tetrahedron with the whole far end; the leg
        # whose far corner meets two diagonals gives one with the whole near end.
        tops = [s for s in range(3) if key[s] and not key[(s + 2) % 3]]
        feet = [s for s in range(3) if not key[s] and key[(s + 2) % 3]]
        t, f = tops[0], feet[0]
        third = 3 - t - f
        table[key] = [[t, 3, 4, 5], [0, 1, 2, 3 + f], [t, third, 3 + f, 3 + third]]
    return table


PRISM = _prism_table()


def split_prisms(corner: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Tetrahedra of prisms whose sides have given diagonals (see the table above).

    Parameters
    ----------
    corner : ndarray of int, shape (n, 6)
    diagonal : ndarray of bool, shape (n, 3)
        Never all the same.

    Returns
    -------
    ndarray of int, shape (3 n, 4)
    """
    out = [np.zeros((0, 4), dtype=corner.dtype)]
    for key, tets in PRISM.items():
        chosen = (diagonal == np.array(key)).all(axis=1)
        out += [corner[chosen][:, tet] for tet in tets]
    return np.concatenate(out)
