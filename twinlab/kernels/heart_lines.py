"""Diffusion in a box of even conductivity along its axes, with the consistent mass matrix, by line solves.

On such a box the mass matrix of trilinear elements is a product of three one-dimensional ones and the stiffness
a sum of products, so the Crank-Nicolson step splits into one tridiagonal step per direction without any error
of splitting: the operators of the three directions commute.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.threads import one_parallel_region


class Line(NamedTuple):
    """Tridiagonal step of one direction: explicit part and factors of the implicit part."""

    explicit_diagonal: np.ndarray
    explicit_off: float
    implicit_off: float
    inverse: np.ndarray
    upper: np.ndarray


def line(points: int, number: float, implicit: float = 0.5, share: float = 1.0) -> Line:
    """Factors of a direction of so many nodes; ``number`` is ``dt * D / h**2``.

    Even nodes of linear elements: mass ``(1, 4, 1) / 6``, stiffness ``(-1, 2, -1)``, ends halved (no flux).
    ``share`` of the mass is consistent, the rest lumped: with 0 these are second differences.
    """
    side = share / 6.0
    ends = np.ones(points)
    ends[[0, -1]] = 0.5
    diagonal = (1.0 - 2.0 * side + 2.0 * implicit * number) * ends
    off = side - implicit * number
    inverse, upper = np.empty(points), np.empty(points)
    left = 0.0
    for i in range(points):
        inverse[i] = 1.0 / (diagonal[i] - off * left)
        upper[i] = left = off * inverse[i]
    return Line(
        (1.0 - 2.0 * side - 2.0 * (1.0 - implicit) * number) * ends,
        side + (1.0 - implicit) * number,
        off,
        inverse,
        upper,
    )


@njit(cache=True, nogil=True, parallel=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _along_x(v, s):
    nz, ny, nx = v.shape
    for z in prange(nz):
        for y in range(ny):
            row = v[z, y]
            old, w = 0.0, 0.0
            for x in range(nx):
                right = row[x + 1] if x + 1 < nx else 0.0
                here = row[x]
                rhs = s.explicit_diagonal[x] * here + s.explicit_off * (old + right)
                w = (rhs - s.implicit_off * w) * s.inverse[x]
                old = here
                row[x] = w
            for x in range(nx - 2, -1, -1):
                row[x] -= s.upper[x] * row[x + 1]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _across(plane, s):
    """Step along the first axis of a plane; the second axis runs innermost."""
    n, nx = plane.shape
    old = np.zeros(nx)
    for i in range(n):
        d, inverse = s.explicit_diagonal[i], s.inverse[i]
        for x in range(nx):
            here = plane[i, x]
            rhs = d * here + s.explicit_off * old[x]
            if i + 1 < n:
                rhs += s.explicit_off * plane[i + 1, x]
            if i > 0:
                rhs -= s.implicit_off * plane[i - 1, x]
            old[x] = here
            plane[i, x] = rhs * inverse
    for i in range(n - 2, -1, -1):
        u = s.upper[i]
        for x in range(nx):
            plane[i, x] -= u * plane[i + 1, x]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _box(v, sy, sz):
    nz, ny, _ = v.shape
    for z in prange(nz):
        _across(v[z], sy)
    for y in prange(ny):
        _across(v[:, y], sz)


def diffuse_box(v: np.ndarray, lines: tuple[Line, Line, Line]) -> None:
    """One diffusion step of a box of nodes in place.

    Parameters
    ----------
    v : ndarray (z, y, x) float64
        Potential at the nodes, mV.
    lines : tuple of Line
        Along z, y and x (see :func:`line`).
    """
    with one_parallel_region():
        _along_x(v, lines[2])
        _box(v, lines[1], lines[0])
