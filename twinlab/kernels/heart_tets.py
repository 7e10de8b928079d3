"""Quadratic tetrahedra: residual and tangent of every element, and their sorted sum into a sparse matrix.

Ten nodes: the four corners, then the middles of the edges 01, 12, 02, 03, 13, 23 (the order of VTK). Gradients
are kept in the frame of the fibres, so that the deformation gradient made with them has its second axis along
fibre, sheet and sheet normal and no tensor has to be turned.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.heart_elastic import COLUMN, ROW, muscle_stress

CHUNK = 32  # elements that share the working arrays of one thread


@njit(cache=True, parallel=True, error_model="numpy")
def reference_gradients(node, tet, slope, frame, gradient, measure):
    """Gradients of the shape functions in the frame of the fibres, and the volume of each quadrature point.

    Parameters
    ----------
    node : float array (node, 3)
    tet : int array (tet, 10)
    slope : float array (point, 10, 3)
        Derivatives of the shape functions in the unit tetrahedron.
    frame : float array (tet, point, 3, 3)
        Fibre, sheet, sheet normal in its columns.
    gradient, measure : results (tet, point, 10, 3) and (tet, point)
        ``measure`` comes in as the weights; it is multiplied by the determinant of the map, which may be
        negative: the caller refuses such a mesh.
    """
    for e in prange(tet.shape[0]):
        jac = np.empty((3, 3))
        for q in range(slope.shape[0]):
            for i in range(3):
                for k in range(3):
                    total = 0.0
                    for a in range(10):
                        total += node[tet[e, a], i] * slope[q, a, k]
                    jac[i, k] = total
            det = (
                jac[0, 0] * (jac[1, 1] * jac[2, 2] - jac[1, 2] * jac[2, 1])
                - jac[0, 1] * (jac[1, 0] * jac[2, 2] - jac[1, 2] * jac[2, 0])
                + jac[0, 2] * (jac[1, 0] * jac[2, 1] - jac[1, 1] * jac[2, 0])
            )
            measure[e, q] *= det
            if det <= 0.0:
                continue
            back = np.linalg.inv(jac) @ frame[e, q]
            for a in range(10):
                for k in range(3):
                    total = 0.0
                    for i in range(3):
                        total += slope[q, a, i] * back[i, k]
                    gradient[e, q, a, k] = total


@njit(cache=True, error_model="numpy")
def deformation(place, gradient, f, c):
    """Deformation gradient ``f``, right Cauchy-Green tensor ``c``; returns the volume ratio."""
    for i in range(3):
        for k in range(3):
            total = 0.0
            for a in range(10):
                total += place[a, i] * gradient[a, k]
            f[i, k] = total
    for m in range(6):
        r, q = ROW[m], COLUMN[m]
        c[m] = f[0, r] * f[0, q] + f[1, r] * f[1, q] + f[2, r] * f[2, q]
    return (
        f[0, 0] * (f[1, 1] * f[2, 2] - f[1, 2] * f[2, 1])
        - f[0, 1] * (f[1, 0] * f[2, 2] - f[1, 2] * f[2, 0])
        + f[0, 2] * (f[1, 0] * f[2, 1] - f[1, 1] * f[2, 0])
    )


@njit(cache=True, parallel=True, error_model="numpy")
def elements(
    here,
    pressure,
    tet,
    gradient,
    measure,
    hat,
    law,
    par,
    tension,
    active,
    kappa,
    stiffening,
    mixed,
    tangent,
    force,
    block,
):
    """Residual and tangent of each element.

    Parameters
    ----------
    here : float array (node, 3)
        Places of the nodes now.
    pressure : float array (node,)
        Pressure at the corners in the mixed form (ignored by the penalty).
    hat : float array (point, 4)
        Linear shape functions.
    par, tension : float arrays (tet, 8), (tet,)
        Parameters of the law and active tension, kPa.
    active : float array (3,)
        As :func:`twinlab.kernels.heart_elastic.add_active`.
    kappa : float
        Bulk stiffness, kPa; infinite is allowed in the mixed form.
    stiffening : float
        Penalty on the volume beside the unknown pressure, kPa; mixed form only.
    mixed, tangent : bool
    force : result (tet, 34)
        Three forces a node, then the four volume equations.
    block : result (tet, 34, 34)
        The part without pressure fills its first 30 rows and columns.

    Returns
    -------
    float
        The smallest volume ratio; at or below zero an element is turned inside out and the rest is void.
    """
    n = tet.shape[0]
    whole = active[0] != 0.0 and active[1] > 0.0  # stress across that depends on the stretch along
    lowest = np.full((n + CHUNK - 1) // CHUNK, math.inf)
    for chunk in prange(lowest.size):
        place, f, c, s = np.empty((10, 3)), np.empty((3, 3)), np.empty(6), np.empty(6)
        d, work = np.empty((6, 6)), np.empty((4, 6))
        b, db, bp = np.empty((6, 30)), np.empty((6, 30)), np.empty(30)
        for e in range(chunk * CHUNK, min(n, (chunk + 1) * CHUNK)):
            for a in range(10):
                for i in range(3):
                    place[a, i] = here[tet[e, a], i]
            force[e] = 0.0
            if tangent:
                block[e] = 0.0
            for q in range(measure.shape[1]):
                j = deformation(place, gradient[e, q], f, c)
                lowest[chunk] = min(lowest[chunk], j)
                if j <= 0.0:
                    continue
                p, stiff = kappa * (j - 1.0), kappa
                if mixed:
                    p = 0.0
                    for a in range(4):
                        p += hat[q, a] * pressure[tet[e, a]]
                    excess = j - 1.0 - p / kappa
                    p, stiff = p + stiffening * (j - 1.0), stiffening
                muscle_stress(law, par[e], tension[e], active, p, stiff, c, j, s, d, work)
                _strain_rows(f, gradient[e, q], b)
                w = measure[e, q]
                _add_force(b, s, w, force[e])
                if mixed:
                    for a in range(4):
                        force[e, 30 + a] += w * hat[q, a] * excess
                if tangent:
                    _add_stiffness(b, db, d, s, gradient[e, q], w, whole, block[e])
                    if mixed:
                        _add_coupling(b, bp, work[0], j, hat[q], w, kappa, block[e])
            if tangent and not whole:
                for a in range(30):
                    for k in range(a):
                        block[e, a, k] = block[e, k, a]
    return lowest.min()


@njit(cache=True, error_model="numpy")
def _strain_rows(f, gradient, b):
    """Green's strain with doubled shears of a small displacement: ``b`` (6, 30)."""
    for m in range(6):
        r, q = ROW[m], COLUMN[m]
        for a in range(10):
            for i in range(3):
                value = f[i, r] * gradient[a, q]
                if r != q:
                    value += f[i, q] * gradient[a, r]
                b[m, 3 * a + i] = value


@njit(cache=True, error_model="numpy")
def _add_force(b, s, w, force):
    for m in range(6):
        v = w * s[m]
        for a in range(30):
            force[a] += v * b[m, a]


@njit(cache=True, error_model="numpy")
def _add_stiffness(b, db, d, s, gradient, w, whole, block):
    """Material and geometric stiffness, the upper half unless ``whole``."""
    for m in range(6):
        for a in range(30):
            total = 0.0
            for k in range(6):
                total += d[m, k] * b[k, a]
            db[m, a] = w * total
    for a in range(30):
        for m in range(6):
            v = b[m, a]
            for k in range(0 if whole else a, 30):
                block[a, k] += v * db[m, k]
    for a in range(10):
        g0, g1, g2 = gradient[a, 0], gradient[a, 1], gradient[a, 2]
        t0 = w * (s[0] * g0 + s[3] * g1 + s[5] * g2)
        t1 = w * (s[3] * g0 + s[1] * g1 + s[4] * g2)
        t2 = w * (s[5] * g0 + s[4] * g1 + s[2] * g2)
        for k in range(0 if whole else a, 10):
            v = t0 * gradient[k, 0] + t1 * gradient[k, 1] + t2 * gradient[k, 2]
            for i in range(3):
                block[3 * a + i, 3 * k + i] += v


@njit(cache=True, error_model="numpy")
def _add_coupling(b, bp, ci, j, hat, w, kappa, block):
    """Columns and rows of the pressure."""
    for a in range(30):
        total = 0.0
        for m in range(6):
            total += b[m, a] * ci[m]
        bp[a] = w * j * total
    for k in range(4):
        for a in range(30):
            block[a, 30 + k] += bp[a] * hat[k]
            block[30 + k, a] += bp[a] * hat[k]
        for m in range(4):
            block[30 + k, 30 + m] -= w * hat[k] * hat[m] / kappa


@njit(cache=True, parallel=True, error_model="numpy")
def scatter(values, order, start, out):
    """Sum ``values`` into ``out``, entry by entry in a fixed order, whatever the number of threads.

    Parameters
    ----------
    values : float array (contribution,)
    order : int array (kept contribution,)
        Contributions sorted by their entry.
    start : int array (entry + 1,)
    out : float array (entry,), overwritten
    """
    for k in prange(out.size):
        total = 0.0
        for m in range(start[k], start[k + 1]):
            total += values[order[m]]
        out[k] = total
