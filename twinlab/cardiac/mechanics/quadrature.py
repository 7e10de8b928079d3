"""Shape functions and integration rules of quadratic tetrahedra and triangles."""

from __future__ import annotations

from itertools import permutations

import numpy as np

EDGES = ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3))  # middles 4 to 9 of a tetrahedron, order of VTK
FACE_EDGES = ((0, 1), (1, 2), (0, 2))  # middles 3 to 5 of a triangle


def tetrahedron_rule() -> tuple[np.ndarray, np.ndarray]:
    """Fourteen points and weights, exact for polynomials of degree five on the unit tetrahedron.

    Returns
    -------
    barycentric (14, 4), weight (14,)
        Weights add up to 1/6 and are positive.

    References
    ----------
    Walkington 2000, "Quadrature on simplices of arbitrary dimension"; checked in the tests against the moments.
    """
    rows, weights = [], []
    for a, w in (
        (0.31088591926330060980, 0.11268792571801585080),
        (0.092735250310891226402, 0.073493043116361949544),
    ):
        for i in range(4):
            row = np.full(4, a)
            row[i] = 1 - 3 * a
            rows.append(row)
            weights.append(w / 6)
    b, w = 0.045503704125649649492, 0.042546020777081466438
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        row = np.full(4, 0.5 - b)
        row[[i, j]] = b
        rows.append(row)
        weights.append(w / 6)
    return np.array(rows), np.array(weights)


def triangle_rule() -> tuple[np.ndarray, np.ndarray]:
    """Six points and weights, exact for polynomials of degree four on the unit triangle.

    Returns
    -------
    barycentric (6, 3), weight (6,)
        Weights add up to 1/2.

    References
    ----------
    Dunavant 1985, Int J Numer Methods Eng 21, 1129, degree 4.
    """
    rows, weights = [], []
    for a, w in ((0.445948490915964886, 0.223381589678011466), (0.091576213509770743, 0.109951743655321868)):
        for i in range(3):
            row = np.full(3, a)
            row[i] = 1 - 2 * a
            rows.append(row)
            weights.append(w / 2)
    return np.array(rows), np.array(weights)


def quadratic_shape(barycentric: np.ndarray) -> np.ndarray:
    """Quadratic shape functions at barycentric points (point, 4 or 3) of a tetrahedron or triangle."""
    edges = EDGES if barycentric.shape[1] == 4 else FACE_EDGES
    corner = barycentric * (2 * barycentric - 1)
    middle = [4 * barycentric[:, i] * barycentric[:, j] for i, j in edges]
    return np.concatenate([corner, np.stack(middle, 1)], 1)


def quadratic_slope(barycentric: np.ndarray) -> np.ndarray:
    """Derivatives (point, 10 or 6, 3 or 2) with respect to the last barycentric coordinates."""
    n = barycentric.shape[1]
    edges = EDGES if n == 4 else FACE_EDGES
    with_all = np.zeros((barycentric.shape[0], n + len(edges), n))
    for i in range(n):
        with_all[:, i, i] = 4 * barycentric[:, i] - 1
    for k, (i, j) in enumerate(edges):
        with_all[:, n + k, i] = 4 * barycentric[:, j]
        with_all[:, n + k, j] = 4 * barycentric[:, i]
    return with_all[:, :, 1:] - with_all[:, :, :1]


def face_tables() -> tuple[np.ndarray, np.ndarray]:
    """Tables of pressure on an open and on a closed surface (:mod:`twinlab.kernels.heart_faces`).

    Returns
    -------
    table_open, table_closed : (6, 6, 6)
        With the open one a nodal force is the integral of shape function times normal; the closed one is the
        derivative of the enclosed volume. Both agree wherever the surface has no rim.
    """
    points, weights = triangle_rule()
    shape, slope = quadratic_shape(points), quadratic_slope(points)
    t = np.einsum("q,qa,qb,qc->abc", weights, shape, slope[:, :, 0], slope[:, :, 1])
    closed = np.zeros_like(t)
    for axes in permutations(range(3)):
        sign = np.linalg.det(np.eye(3)[list(axes)])
        closed += sign * np.transpose(t, axes) / 6
    return 0.5 * (t - t.transpose(0, 2, 1)), closed
