"""Exact chords of rays through solids painted over one another.

Every solid is the image of a unit one (ball, cylinder, frustum or cube) under an affine map, which keeps the
parameter along a ray; so one look at a ray in the unit frame gives entry and exit in mm. Points and directions
are (x, y, z) in mm; directions have length 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.rays import siddon
from twinlab.kernels.threads import one_parallel_region

BALL, CYLINDER, FRUSTUM, CUBE = 0, 1, 2, 3
_CM = 0.1  # cm per mm
_FAR = 1e30
_CHANNELS = 8  # of one task


class Solids(NamedTuple):
    """Solids in painting order.

    Attributes
    ----------
    kind : int64 array (n,)
        BALL: ``u2 + v2 + w2 <= 1``; CYLINDER: ``u2 + v2 <= 1``, ``|w| <= 1``; FRUSTUM: the same with
        ``u2 + v2 <= (taper0 + taper1 w)2``; CUBE: ``|u|, |v|, |w| <= 1``.
    centre : array (n, 3), mm
    axes : array (n, 3, 3), mm
        Images of the unit vectors u, v, w.
    inverse : array (n, 3, 3), 1/mm
        Rows give u, v, w of a point relative to the centre.
    taper : array (n, 2)
        Radius of a frustum at ``w``; at most 1, at least 0 for ``|w| <= 1``.
    """

    kind: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    inverse: np.ndarray
    taper: np.ndarray


def solids(parts) -> Solids:
    """Table of solids from ``(kind, centre, axes, taper)`` each; ``axes`` has the images of u, v, w as rows."""
    kind, centre, axes, taper = (np.array(column) for column in zip(*parts, strict=True))
    axes = np.ascontiguousarray(axes, float)
    inverse = np.ascontiguousarray(np.linalg.inv(np.swapaxes(axes, 1, 2)))
    return Solids(
        kind.astype(np.int64),
        np.ascontiguousarray(centre, float),
        axes,
        inverse,
        np.ascontiguousarray(taper, float),
    )


@njit(cache=True)
def _slab(position, speed, first, last):
    """Part of ``first <= t <= last`` with ``|position + t speed| <= 1``."""
    if speed == 0.0:
        if abs(position) <= 1.0:
            return first, last
        return _FAR, -_FAR
    a, b = (-1.0 - position) / speed, (1.0 - position) / speed
    return max(first, min(a, b)), min(last, max(a, b))


@njit(cache=True)
def _quadratic(a, b, c, first, last):
    """Part of an interval with ``a t2 + 2 b t + c <= 0``, where that is an interval (``a`` above 0)."""
    disc = b * b - a * c
    if disc <= 0.0:
        return _FAR, -_FAR
    root = math.sqrt(disc)
    return max(first, (-b - root) / a), min(last, (-b + root) / a)


@njit(cache=True)
def _opening(a, b, c, up, first, last):
    """The same for a cone that the ray enters for good (``up``) or has always been in (``a`` of 0 or below)."""
    disc = b * b - a * c
    if disc < 0.0:  # between both nappes, never on the surface: inside all along
        return first, last
    far = abs(b) + math.sqrt(disc)
    if far == 0.0:
        return (first, last) if c <= 0.0 else (_FAR, -_FAR)
    # roots without cancellation; the second is infinite for a ray along the surface
    one = c / far if b < 0.0 else -c / far
    other = _FAR if a == 0.0 else (far / a if b < 0.0 else -far / a)
    if a == 0.0:
        return (max(first, one), last) if up else (first, min(last, one))
    low, high = min(one, other), max(one, other)
    return (max(first, high), last) if up else (first, min(last, low))


@njit(cache=True)
def interval(kind, centre, inverse, taper, ox, oy, oz, dx, dy, dz):
    """Entry and exit of a ray; entry > exit when it misses."""
    px, py, pz = centre[0] - ox, centre[1] - oy, centre[2] - oz
    near = px * dx + py * dy + pz * dz  # start at the point next to the centre: large numbers do not cancel
    px, py, pz = near * dx - px, near * dy - py, near * dz - pz
    u = inverse[0, 0] * px + inverse[0, 1] * py + inverse[0, 2] * pz
    v = inverse[1, 0] * px + inverse[1, 1] * py + inverse[1, 2] * pz
    w = inverse[2, 0] * px + inverse[2, 1] * py + inverse[2, 2] * pz
    du = inverse[0, 0] * dx + inverse[0, 1] * dy + inverse[0, 2] * dz
    dv = inverse[1, 0] * dx + inverse[1, 1] * dy + inverse[1, 2] * dz
    dw = inverse[2, 0] * dx + inverse[2, 1] * dy + inverse[2, 2] * dz
    first, last = -_FAR, _FAR
    if kind == BALL:
        first, last = _quadratic(
            du * du + dv * dv + dw * dw, u * du + v * dv + w * dw, u * u + v * v + w * w - 1.0, first, last
        )
    else:
        first, last = _slab(w, dw, first, last)
        if first < last:
            if kind == CUBE:
                first, last = _slab(u, du, first, last)
                first, last = _slab(v, dv, first, last)
            else:
                r, dr = taper[0] + taper[1] * w, taper[1] * dw
                a = du * du + dv * dv - dr * dr
                b = u * du + v * dv - r * dr
                c = u * u + v * v - r * r
                flat = 1e-14 * (du * du + dv * dv + dw * dw)
                if a > flat:
                    first, last = _quadratic(a, b, c, first, last)
                elif dr == 0.0:  # along the wall of a cylinder
                    if c > 0.0:
                        first, last = _FAR, -_FAR
                else:
                    first, last = _opening(a if a < -flat else 0.0, b, c, dr > 0.0, first, last)
    if first < last:
        return near + first, near + last
    return _FAR, -_FAR


@njit(cache=True)
def _share(owner, start, stop, n, cuts, out, weights):
    """Add each solid's own length times its weights: where spans overlap, the solid painted last counts."""
    m = 0
    for i in range(n):
        cuts[m], cuts[m + 1] = start[i], stop[i]
        m += 2
    for i in range(1, m):
        value, j = cuts[i], i - 1
        while j >= 0 and cuts[j] > value:
            cuts[j + 1] = cuts[j]
            j -= 1
        cuts[j + 1] = value
    for j in range(m - 1):
        length = cuts[j + 1] - cuts[j]
        if length <= 0.0:
            continue
        middle = 0.5 * (cuts[j] + cuts[j + 1])
        for i in range(n - 1, -1, -1):
            if start[i] <= middle <= stop[i]:
                for k in range(out.size):
                    out[k] += length * weights[owner[i], k]
                break


@njit(cache=True)
def _spans(table, active, n_active, reach, ox, oy, oz, dx, dy, dz, owner, start, stop):
    """Spans in painting order between the start of a ray and ``reach`` mm; their number."""
    n = 0
    for j in range(n_active):
        s = active[j]
        a, b = interval(
            table.kind[s], table.centre[s], table.inverse[s], table.taper[s], ox, oy, oz, dx, dy, dz
        )
        a, b = max(a, 0.0), min(b, reach)
        if a < b:
            owner[n], start[n], stop[n] = s, a, b
            n += 1
    return n


@njit(cache=True)
def _half_width(kind, axes, nx, ny, nz):
    """Half the extent of a solid along a unit vector, at least."""
    u = axes[0, 0] * nx + axes[0, 1] * ny + axes[0, 2] * nz
    v = axes[1, 0] * nx + axes[1, 1] * ny + axes[1, 2] * nz
    w = axes[2, 0] * nx + axes[2, 1] * ny + axes[2, 2] * nz
    if kind == BALL:
        return math.sqrt(u * u + v * v + w * w)
    if kind == CUBE:
        return abs(u) + abs(v) + abs(w)
    return math.sqrt(u * u + v * v) + abs(w)


@njit(cache=True)
def _across(table, source, nx, ny, nz, active):
    """Solids that a plane through the focal spot cuts; their number."""
    n = 0
    for s in range(table.kind.size):
        centre = table.centre[s]
        off = nx * (centre[0] - source[0]) + ny * (centre[1] - source[1]) + nz * (centre[2] - source[2])
        if abs(off) <= _half_width(table.kind[s], table.axes[s], nx, ny, nz) * (1.0 + 1e-12) + 1e-9:
            active[n] = s
            n += 1
    return n


@njit(cache=True)
def _inside(n, start, stop, first, last):
    """Merge spans into stretches that do not touch, in order; their number."""
    m = 0
    for i in range(n):
        a, b = start[i], stop[i]
        j = 0
        while j < m:
            if a <= last[j] and b >= first[j]:
                a, b = min(a, first[j]), max(b, last[j])
                m -= 1
                first[j], last[j] = first[m], last[m]
                j = 0
            else:
                j += 1
        first[m], last[m] = a, b
        m += 1
    return m


@njit(cache=True, parallel=True)
def _cone(table, weights, values, low, size, source, axes, channels, rows, row_lo, row_hi, out):
    nk, nv, _, nc = out.shape
    volumes = values.transpose((3, 0, 1, 2))
    n_solids = table.kind.size
    n_blocks = (nc + _CHANNELS - 1) // _CHANNELS
    for task in prange(nv * n_blocks):
        i, c_first = task // n_blocks, task % n_blocks * _CHANNELS
        c_last = min(c_first + _CHANNELS, nc)
        active, owner = np.empty(n_solids, np.int64), np.empty(n_solids, np.int64)
        start, stop = np.empty(n_solids), np.empty(n_solids)
        first, last, cuts = np.empty(n_solids), np.empty(n_solids), np.empty(2 * n_solids)
        integral, lost = np.zeros(nk), np.zeros(nk)
        block = np.zeros((_CHANNELS, row_hi[i] - row_lo[i], nk), np.float32)
        f, e, a, s = axes[i, 0], axes[i, 1], axes[i, 2], source[i]
        for c in range(c_first, c_last):
            fx = channels[c, 0] * f[0] + channels[c, 1] * e[0]
            fy = channels[c, 0] * f[1] + channels[c, 1] * e[1]
            fz = channels[c, 0] * f[2] + channels[c, 1] * e[2]
            flat = math.sqrt(fx * fx + fy * fy + fz * fz)
            # all rows of a channel lie in one plane; solids beside it are left out
            n_active = _across(
                table, s, (fy * a[2] - fz * a[1]) / flat, (fz * a[0] - fx * a[2]) / flat,
                (fx * a[1] - fy * a[0]) / flat, active,
            )  # fmt: skip
            if n_active == 0:
                continue
            for r in range(row_lo[i], row_hi[i]):
                dx, dy, dz = fx + rows[r] * a[0], fy + rows[r] * a[1], fz + rows[r] * a[2]
                length = math.sqrt(flat * flat + rows[r] * rows[r])
                dx, dy, dz = dx / length, dy / length, dz / length
                n = _spans(table, active, n_active, length, s[0], s[1], s[2], dx, dy, dz, owner, start, stop)
                if n == 0:
                    continue
                integral[:] = 0.0
                _share(owner, start, stop, n, cuts, integral, weights)
                if volumes.size:
                    lost[:] = 0.0
                    for j in range(_inside(n, start, stop, first, last)):
                        siddon(
                            volumes, low[0], low[1], low[2], size[0], size[1], size[2],
                            s[2] + first[j] * dz, s[1] + first[j] * dy, s[0] + first[j] * dx,
                            s[2] + last[j] * dz, s[1] + last[j] * dy, s[0] + last[j] * dx, lost,
                        )  # fmt: skip
                    for k in range(nk):
                        integral[k] -= lost[k]
                for k in range(nk):
                    block[c - c_first, r - row_lo[i], k] = _CM * integral[k]
        for k in range(nk):
            for r in range(row_lo[i], row_hi[i]):
                for c in range(c_first, c_last):
                    out[k, i, r, c] += block[c - c_first, r - row_lo[i], k]


@njit(cache=True, parallel=True)
def _rays(table, weights, origin, direction, out):
    n_solids = table.kind.size
    for i in prange(origin.shape[0]):
        owner, cuts = np.empty(n_solids, np.int64), np.empty(2 * n_solids)
        start, stop = np.empty(n_solids), np.empty(n_solids)
        o, d = origin[i], direction[i]
        n = 0
        for s in range(n_solids):
            a, b = interval(
                table.kind[s], table.centre[s], table.inverse[s], table.taper[s],
                o[0], o[1], o[2], d[0], d[1], d[2],
            )  # fmt: skip
            if a < b:
                owner[n], start[n], stop[n] = s, a, b
                n += 1
        _share(owner, start, stop, n, cuts, out[i], weights)


@njit(cache=True)
def _intervals(table, origin, direction, first, last):
    for i in range(origin.shape[0]):
        o, d = origin[i], direction[i]
        first[i], last[i] = interval(
            table.kind[0], table.centre[0], table.inverse[0], table.taper[0],
            o[0], o[1], o[2], d[0], d[1], d[2],
        )  # fmt: skip


def _points(origin_mm, direction):
    origin, way = (np.ascontiguousarray(np.atleast_2d(np.asarray(p, float))) for p in (origin_mm, direction))
    origin, way = (np.ascontiguousarray(p) for p in np.broadcast_arrays(origin, way))
    return origin, way


def intervals(table: Solids, origin_mm: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit [mm] of rays in the first solid, arrays (n,); entry > exit where a ray misses.

    Parameters
    ----------
    table : Solids
    origin_mm, direction : array (n, 3)
        Directions of length 1.
    """
    origin, way = _points(origin_mm, direction)
    first, last = np.empty(origin.shape[0]), np.empty(origin.shape[0])
    _intervals(table, origin, way, first, last)
    return first, last


def painted(table: Solids, origin_mm: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Length [mm] of rays in each solid where none painted later covers it, (n_solids, n).

    Parameters
    ----------
    table : Solids
    origin_mm, direction : array (n, 3)
        Whole straight lines; directions of length 1.
    """
    origin, way = _points(origin_mm, direction)
    out = np.zeros((origin.shape[0], table.kind.size))
    with one_parallel_region():
        _rays(table, np.eye(table.kind.size), origin, way, out)
    return np.ascontiguousarray(out.T)


def add_painted(
    out, table, weights, *, source, axes, channels, rows, row_lo, row_hi, volumes=None, low=None, size=None
) -> None:
    """Add line integrals of painted solids to a scan, and take away those of what they cover.

    Parameters
    ----------
    out : float32 array (n_basis, n_view, n_row, n_channel), g/cm2
        Grows in place.
    table : Solids
    weights : array (n_solids, n_basis), g/cm3
    source, axes, channels
        See :func:`twinlab.kernels.general_rays.frames`.
    rows, row_lo, row_hi
        Row heights above the focal spot [mm], and the window of rows of each view.
    volumes : float32 array (n_basis, nz, ny, nx), optional
        What was there before; ``low`` and ``size`` (z, y, x) are its lower corner and voxel size [mm].
    """
    volumes = np.zeros((0, 0, 0, 0), np.float32) if volumes is None else volumes
    low, size = (low, size) if volumes.size else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    values = np.ascontiguousarray(np.moveaxis(volumes, 0, -1))
    with one_parallel_region():
        _cone(
            table, np.ascontiguousarray(weights, float), values, low, size, source, axes, channels, rows,
            row_lo, row_hi, out,
        )  # fmt: skip
