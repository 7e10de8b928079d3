"""Arrival times of a front with direction-dependent velocity on voxels: sweeps until nothing changes.

A voxel's time comes through any of the 48 triangles and 72 edges between its 26 neighbours, or straight from one
of them: the least time of ``T(p) + |x - p|_G`` over the points ``p`` of triangle or edge, on which ``T`` is linear
and ``|.|_G`` is the travel time of the voxel's own tensor. Sweeps go over all voxels in eight orders; a voxel is
looked at again only when a neighbour has changed. :func:`arrival` is shared by the processor and CUDA.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE
from twinlab.kernels.threads import one_parallel_region

FAR = 1e30


def _simplices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets (26, 3: x y z) of neighbours, edges (n, 2) and triangles (n, 3) of the cube's surface.

    Each face of the cube is cut into eight triangles around its centre.
    """
    offsets = [
        (x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (x, y, z) != (0, 0, 0)
    ]
    place = {o: k for k, o in enumerate(offsets)}
    edges, triangles = set(), set()
    for axis in range(3):
        for side in (-1, 1):
            ring = [(-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0)]
            three = [tuple(np.insert(r, axis, side)) for r in ring]
            centre = tuple(np.insert((0, 0), axis, side))
            for a, b in zip(three, three[1:] + three[:1], strict=True):
                corners = sorted((place[a], place[b], place[centre]))
                triangles.add(tuple(corners))
                edges |= {(corners[0], corners[1]), (corners[0], corners[2]), (corners[1], corners[2])}
    return np.array(offsets), np.array(sorted(edges)), np.array(sorted(triangles))


OFFSETS, EDGES, TRIANGLES = _simplices()


@njit(**DEVICE)
def _form(g, i, a, b, offsets):
    """Product of two neighbours' offsets in the metric of voxel ``i``."""
    ax, ay, az = offsets[a, 0], offsets[a, 1], offsets[a, 2]
    bx, by, bz = offsets[b, 0], offsets[b, 1], offsets[b, 2]
    return (
        g[i, 0] * ax * bx
        + g[i, 1] * ay * by
        + g[i, 2] * az * bz
        + g[i, 3] * (ax * by + ay * bx)
        + g[i, 4] * (ax * bz + az * bx)
        + g[i, 5] * (ay * bz + az * by)
    )


@njit(**DEVICE)
def arrival(i, times, neighbour, g, offsets, edges, triangles):
    """Earliest arrival at voxel ``i`` from its neighbours' times, ms.

    Parameters
    ----------
    i : int
    times : ndarray (voxel,) float64
    neighbour : ndarray (voxel, 26) int32
        -1 where there is no muscle.
    g : ndarray (voxel, 6) float64
        Metric: inverse of the squared-velocity tensor in units of the voxel's side (xx, yy, zz, xy, xz, yz).
    offsets, edges, triangles : ndarray
        :data:`OFFSETS`, :data:`EDGES`, :data:`TRIANGLES`.
    """
    best = times[i]
    for a in range(26):
        j = neighbour[i, a]
        if j >= 0 and times[j] < best:
            best = min(best, times[j] + math.sqrt(_form(g, i, a, a, offsets)))
    for e in range(edges.shape[0]):
        a, b = edges[e, 0], edges[e, 1]
        j, k = neighbour[i, a], neighbour[i, b]
        if j < 0 or k < 0 or min(times[j], times[k]) >= best:
            continue
        q11, q12, q22 = _form(g, i, a, a, offsets), _form(g, i, a, b, offsets), _form(g, i, b, b, offsets)
        t1, t2 = times[j], times[k]
        det = q11 * q22 - q12 * q12
        p11, p12, p22 = q22 / det, -q12 / det, q11 / det
        aa = p11 + 2.0 * p12 + p22
        bb = p11 * t1 + p12 * (t1 + t2) + p22 * t2
        cc = p11 * t1 * t1 + 2.0 * p12 * t1 * t2 + p22 * t2 * t2 - 1.0
        root = bb * bb - aa * cc
        if root < 0.0:
            continue
        t = (bb + math.sqrt(root)) / aa
        if p11 * (t - t1) + p12 * (t - t2) > 0.0 and p12 * (t - t1) + p22 * (t - t2) > 0.0:
            best = min(best, t)
    for e in range(triangles.shape[0]):
        a, b, c = triangles[e, 0], triangles[e, 1], triangles[e, 2]
        j, k, m = neighbour[i, a], neighbour[i, b], neighbour[i, c]
        if j < 0 or k < 0 or m < 0 or min(times[j], times[k], times[m]) >= best:
            continue
        if max(times[j], times[k], times[m]) >= FAR:
            continue
        q11, q12, q13 = _form(g, i, a, a, offsets), _form(g, i, a, b, offsets), _form(g, i, a, c, offsets)
        q22, q23, q33 = _form(g, i, b, b, offsets), _form(g, i, b, c, offsets), _form(g, i, c, c, offsets)
        p11, p12, p13 = q22 * q33 - q23 * q23, q13 * q23 - q12 * q33, q12 * q23 - q13 * q22
        det = q11 * p11 + q12 * p12 + q13 * p13
        p11, p12, p13 = p11 / det, p12 / det, p13 / det
        p22, p23 = (q11 * q33 - q13 * q13) / det, (q12 * q13 - q11 * q23) / det
        p33 = (q11 * q22 - q12 * q12) / det
        base = times[j]  # differences from it keep the roots exact for late times
        t2, t3 = times[k] - base, times[m] - base
        s1, s2, s3 = p11 + p12 + p13, p12 + p22 + p23, p13 + p23 + p33
        aa = s1 + s2 + s3
        bb = s2 * t2 + s3 * t3
        cc = p22 * t2 * t2 + 2.0 * p23 * t2 * t3 + p33 * t3 * t3 - 1.0
        root = bb * bb - aa * cc
        if root < 0.0:
            continue
        t = (bb + math.sqrt(root)) / aa
        d2, d3 = t - t2, t - t3
        if (
            p11 * t + p12 * d2 + p13 * d3 > 0.0
            and p12 * t + p22 * d2 + p23 * d3 > 0.0
            and p13 * t + p23 * d2 + p33 * d3 > 0.0
        ):
            best = min(best, t + base)
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def _sweeps(times, neighbour, g, orders, dirty, offsets, edges, triangles, tolerance, most):
    n = times.size
    for count in range(most):
        order = orders[count % orders.shape[0]]
        changed = False
        for s in range(n):
            i = order[s]
            if dirty[i] == 0:
                continue
            dirty[i] = 0
            new = arrival(i, times, neighbour, g, offsets, edges, triangles)
            if new < times[i] - tolerance:
                times[i] = new
                changed = True
                for a in range(26):
                    if neighbour[i, a] >= 0:
                        dirty[neighbour[i, a]] = 1
        if not changed:
            return count + 1
    return -1


def solve(
    times: np.ndarray, neighbour: np.ndarray, metric: np.ndarray, orders: np.ndarray, *, most: int = 400
) -> int:
    """Arrival times by sweeps, in place.

    Parameters
    ----------
    times : ndarray (voxel,) float64
        Start times, :data:`FAR` elsewhere; ms.
    neighbour, metric : ndarray
        See :func:`arrival`.
    orders : ndarray (order, voxel) int32
        Orders of the sweeps.
    most : int
        Sweeps at most.

    Returns
    -------
    int
        Sweeps done, -1 when they did not suffice.
    """
    dirty = np.zeros(times.size, np.uint8)
    begun = np.flatnonzero(times < FAR)
    near = neighbour[begun]
    dirty[near[near >= 0]] = 1
    dirty[begun] = 1
    with one_parallel_region():
        return _sweeps(
            times, neighbour, metric, orders, dirty, OFFSETS.astype(float), EDGES, TRIANGLES, 1e-9, most
        )
