"""Laplace problems on tetrahedra with linear elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

from twinlab.cardiac.geometry.tets import volumes
from twinlab.schema import refuse

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE = 1e-9
"""Residual of the solution, share of the right side."""


def shape_gradients(points: Array, tets: Ints) -> Array:
    """Gradients of the four linear shape functions, shape (tet, 4, 3), 1/mm."""
    corner = points[tets]
    edges = corner[:, 1:] - corner[:, :1]
    inner = np.linalg.inv(edges).transpose(0, 2, 1)  # rows: gradients of the weights of corners 1 to 3
    return np.concatenate([-inner.sum(axis=1, keepdims=True), inner], axis=1)


def stiffness(points: Array, tets: Ints) -> sparse.csr_matrix:
    """Matrix of ``int grad u . grad v`` over the mesh, mm.

    Raises
    ------
    InputError
        Tetrahedra without volume or turned inside out.
    """
    volume = volumes(points, tets)
    wrong = int((~(volume > 0)).sum())
    if wrong:
        refuse("mesh", "tetrahedra of positive volume", f"{wrong} of {len(tets)} flat or turned inside out")
    slope = shape_gradients(points, tets)
    local = np.einsum("tic,tjc->tij", slope, slope) * volume[:, None, None]
    rows = np.repeat(tets, 4, axis=1).ravel()
    columns = np.tile(tets, (1, 4)).ravel()
    n = len(points)
    return sparse.coo_matrix((local.ravel(), (rows, columns)), shape=(n, n)).tocsr()


def solve_laplace(matrix: sparse.csr_matrix, fixed: NDArray[np.bool_], values: Array) -> Array:
    """Harmonic function with given values at the fixed nodes and no flux through the rest of the boundary.

    Conjugate gradients, preconditioned with the diagonal.

    Parameters
    ----------
    matrix : csr_matrix, shape (n, n)
        From :func:`stiffness`.
    fixed : ndarray of bool, shape (n,)
    values : ndarray, shape (n,)
        Read at the fixed nodes.

    Raises
    ------
    InputError
        No fixed node, or no convergence.
    """
    if not fixed.any():
        refuse("solve_laplace", "a node with a given value", "none")
    out = np.where(fixed, values, 0.0)
    free = np.flatnonzero(~fixed)
    if free.size == 0:
        return out
    right = -(matrix @ out)[free]
    inner = matrix[free][:, free]
    scale = 1.0 / np.maximum(inner.diagonal(), 1e-300)
    solver = LinearOperator(inner.shape, matvec=lambda r: scale * r)
    found, info = cg(inner, right, rtol=TOLERANCE, maxiter=20 * int(np.sqrt(free.size)) + 2000, M=solver)
    if info != 0:
        refuse("solve_laplace", "a mesh on which the solver converges", f"no convergence ({info})")
    out[free] = found
    return out


def nodal_gradient(points: Array, tets: Ints, values: Array) -> Array:
    """Gradient of nodal values, averaged over the elements of each node by volume, shape (node, 3)."""
    slope = np.einsum("tic,ti->tc", shape_gradients(points, tets), values[tets])
    volume = np.abs(volumes(points, tets))
    out, weight = np.zeros((len(points), 3)), np.zeros(len(points))
    for c in range(4):
        for d in range(3):
            out[:, d] += np.bincount(tets[:, c], slope[:, d] * volume, len(points))
        weight += np.bincount(tets[:, c], volume, len(points))
    return out / np.maximum(weight, 1e-300)[:, None]


def element_gradient(points: Array, tets: Ints, values: Array) -> Array:
    """Gradient in each element, from the averages at its corners: smooth, and not zero where all corners are fixed."""
    return nodal_gradient(points, tets, values)[tets].mean(axis=1)
