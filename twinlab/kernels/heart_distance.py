"""Voxels and tetrahedra: in which element the centre of a voxel lies, and with which weights of its corners."""

from __future__ import annotations

import numpy as np
from numba import njit

_SLACK = 1e-9  # centres on a face belong to the first of its two elements


@njit(cache=True)
def locate_voxels(points, tets, first, spacing, shape):
    """Element and barycentric weights of the voxel centres of an even grid.

    Parameters
    ----------
    points : ndarray of float64, shape (node, 3)
        x, y, z, mm.
    tets : ndarray of int, shape (tet, 4)
        Positively oriented.
    first : ndarray of float64, shape (3,)
        x, y, z of the first voxel.
    spacing : float
    shape : tuple (nz, ny, nx)

    Returns
    -------
    element : ndarray of int32, shape (nz, ny, nx)
        -1 outside.
    weights : ndarray of float32, shape (nz, ny, nx, 4)
    """
    element = np.full(shape, -1, np.int32)
    weights = np.zeros((shape[0], shape[1], shape[2], 4), np.float32)
    most = np.array([shape[2], shape[1], shape[0]])
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    inverse = np.empty((3, 3))
    for t in range(tets.shape[0]):
        a = points[tets[t, 0]]
        u, v, w = points[tets[t, 1]] - a, points[tets[t, 2]] - a, points[tets[t, 3]] - a
        for d in range(3):
            lowest = a[d] + min(0.0, u[d], v[d], w[d])
            highest = a[d] + max(0.0, u[d], v[d], w[d])
            low[d] = max(0, int(np.ceil((lowest - first[d]) / spacing - _SLACK)))
            high[d] = min(most[d] - 1, int(np.floor((highest - first[d]) / spacing + _SLACK)))
        if low[0] > high[0] or low[1] > high[1] or low[2] > high[2]:
            continue
        for d in range(3):
            e, f = (d + 1) % 3, (d + 2) % 3
            inverse[0, d] = v[e] * w[f] - v[f] * w[e]
            inverse[1, d] = w[e] * u[f] - w[f] * u[e]
            inverse[2, d] = u[e] * v[f] - u[f] * v[e]
        det = u[0] * inverse[0, 0] + u[1] * inverse[0, 1] + u[2] * inverse[0, 2]
        for k in range(low[2], high[2] + 1):
            for j in range(low[1], high[1] + 1):
                for i in range(low[0], high[0] + 1):
                    if element[k, j, i] >= 0:
                        continue
                    x = first[0] + i * spacing - a[0]
                    y = first[1] + j * spacing - a[1]
                    z = first[2] + k * spacing - a[2]
                    one = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] * z) / det
                    two = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] * z) / det
                    three = (inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2] * z) / det
                    zero = 1.0 - one - two - three
                    if min(zero, one, two, three) >= -_SLACK:
                        element[k, j, i] = t
                        weights[k, j, i, 0] = zero
                        weights[k, j, i, 1] = one
                        weights[k, j, i, 2] = two
                        weights[k, j, i, 3] = three
    return element, weights
