"""Transpose of the forward projector: the same walk and the same events, scattered instead of gathered.

While a channel's path is walked, every z slab holds the sum of the readings whose rays lie in it; each cell
on the way adds that sum, times its length, to its column. Strips of the plane belong to one task each, so
nothing is added twice at once and the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from twinlab.kernels.bundle import _GROUP, _walk, _window, all_events
from twinlab.kernels.columns import ALIGN
from twinlab.kernels.deflection import Focus
from twinlab.kernels.project import Cone, cone
from twinlab.kernels.rays import channel_direction, source_position
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

STRIP_BYTES = 1 << 21  # of columns that a task fills at a time: they stay in the cache of a core
STRIPS = 16  # at least so many tasks
VIEW_BLOCK = 32  # views laid out at a time
_CM = 0.1  # cm per mm


@njit(cache=True, fastmath={"contract", "nsz"})
def _add(column, total, width):
    for q in range(column.size):
        column[q] += width * total[q]


@njit(cache=True, fastmath={"contract", "nsz"})
def _channel_adjoint(
    columns, cells, entry, width, n, fractions, row_of, slab_of, current, total, length, view_z, grid_z, value
):
    """Scatter all rows of one channel of one view; ``value`` (row, basis), slant included."""
    source_z, v_lo, v_hi, r_lo, r_hi = view_z
    z0, dz, nz = grid_z
    nk = value.shape[1]
    stride = columns.shape[1]
    partial = np.empty(_GROUP, np.float32)
    e = 0
    while e < fractions.size and fractions[e] * length <= entry[0]:
        current[row_of[e]] = slab_of[e]
        e += 1
    total[:] = 0.0
    for r in range(r_lo, r_hi):
        for k in range(nk):
            total[current[r] * nk + k] += value[r, k]
    for g in range(0, n, _GROUP):
        leave = entry[g + _GROUP - 1] + width[g + _GROUP - 1]
        while e < fractions.size and fractions[e] * length < leave:
            s = fractions[e] * length
            r, to = row_of[e], slab_of[e]
            old, new = current[r] * nk, to * nk
            for i in range(_GROUP):
                partial[i] = min(max(s - entry[g + i], 0.0), width[g + i])
            for k in range(nk):
                # the cells below will give their whole length to the new slab: what lies before is moved back
                for i in range(_GROUP):
                    columns[cells[g + i], old + k] += partial[i] * value[r, k]
                    columns[cells[g + i], new + k] -= partial[i] * value[r, k]
                total[old + k] -= value[r, k]
                total[new + k] += value[r, k]
            current[r] = to
            e += 1
        lo, hi = _window(entry[g] / length, leave / length, source_z, v_lo, v_hi, z0, dz, nz, nk, stride)
        if hi > lo:
            for i in range(_GROUP):
                if width[g + i] > 0.0:
                    _add(columns[cells[g + i], lo:hi], total[lo:hi], np.float32(width[g + i]))


@njit(cache=True, parallel=True)
def _by_channel(data, lengths, rows, row_lo, row_hi, values):
    """Readings of some views with all rows of a channel side by side, times the slant of their rays."""
    nk, nv, _, nc = data.shape
    for i in prange(nv):
        for r in range(row_lo[i], row_hi[i]):
            for c in range(nc):
                slant = _CM * math.sqrt(1.0 + (rows[r] / lengths[c]) ** 2)
                for k in range(nk):
                    values[i, c, r, k] = slant * data[k, i, r, c]


@njit(cache=True, parallel=True)
def strips(
    values, columns, occupied, box, strip, grid_z, angles, source_z, radius, iso, along, across, lengths, rows,
    row_lo, row_hi, offset, fractions, row_of, slab_of, start,
):  # fmt: skip
    """Add the transpose of ``values`` (view, channel, row, basis) to columns; ``strip`` lines of y to a task."""
    nv, nc, nr, _ = values.shape
    ny, nx = occupied.shape
    x0, y0, dx, dy = box
    for task in prange((ny + strip - 1) // strip):
        y_first = task * strip
        y_last = min(y_first + strip, ny)
        own = columns[y_first * nx : y_last * nx]
        part = (x0, y0 + y_first * dy, dx, dy)
        inside = occupied[y_first:y_last]
        cells = np.empty(2 * (nx + y_last - y_first) + _GROUP + 4, np.int64)
        entry = np.empty(cells.size, np.float64)
        width = np.empty(cells.size, np.float64)
        total = np.empty(columns.shape[1], np.float32)
        current = np.empty(nr, np.int32)
        for i in range(nv):
            lo, hi = row_lo[i], row_hi[i]
            if hi <= lo:
                continue
            sx, sy = source_position(angles[i], radius, iso[0], iso[1])
            a, b = offset[i], offset[i + 1]
            view_z = (source_z[i], rows[lo], rows[hi - 1], lo, hi)
            for c in range(nc):
                ux, uy = channel_direction(angles[i], along[c], across[c])
                length = lengths[c]
                n = _walk(sx, sy, ux, uy, length, part, (nx, y_last - y_first), inside, cells, entry, width)
                if n == 0:
                    continue
                current[:] = start[i]
                _channel_adjoint(
                    own, cells, entry, width, n, fractions[a:b], row_of[a:b], slab_of[a:b], current, total,
                    length, view_z, grid_z, values[i, c],
                )  # fmt: skip


@njit(cache=True, parallel=True)
def _unfold(columns, out):
    """Columns to a volume (basis, z, y, x)."""
    nk, nz, ny, nx = out.shape
    for iy in prange(ny):
        for iz in range(nz):
            for k in range(nk):
                for ix in range(nx):
                    out[k, iz, iy, ix] = columns[iy * nx + ix, (iz + 1) * nk + k]


def project_adjoint(
    data: np.ndarray,
    *,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    inside: np.ndarray | None = None,
    **scan: Any,
) -> np.ndarray:
    """Transpose of :func:`twinlab.kernels.project.project` as a map from volumes to line integrals.

    Parameters
    ----------
    data : float32 array (n_basis, n_view, n_row, n_channel)
        One value per ray; rows outside ``row_lo`` to ``row_hi`` are not read.
    shape : tuple (nz, ny, nx)
        Of the volumes.
    spacing_mm, origin_mm : tuple (z, y, x)
        Voxel size, and centre of voxel 0.
    inside : bool array (ny, nx), optional
        Columns to fill; the others are 0. Default: all.
    **scan
        The other arguments of :func:`twinlab.kernels.project.cone`.

    Returns
    -------
    float32 array (n_basis, nz, ny, nx)
        Sum over rays of value times length in the voxel [value cm]. The same for any number of threads.

    Raises
    ------
    InputError
        Inconsistent shapes, sizes or detector description.
    """
    rays = cone(spacing_mm=spacing_mm, **scan)
    data = np.asarray(data, np.float32)
    if data.ndim != 4 or data.shape[1:] != rays.shape:
        refuse("project_adjoint", f"data (n_basis, {', '.join(map(str, rays.shape))})", f"shape {data.shape}")
    nk = data.shape[0]
    nz, ny, nx = map(int, shape)
    occupied = np.ones((ny, nx), np.uint8) if inside is None else np.ascontiguousarray(inside, np.uint8)
    if occupied.shape != (ny, nx):
        refuse("project_adjoint", f"inside of shape {(ny, nx)}", occupied.shape)
    grid = (tuple(map(float, spacing_mm)), tuple(map(float, origin_mm)))
    columns = np.zeros((ny * nx, -(-(nz + 2) * nk // ALIGN) * ALIGN), np.float32)
    for focus in rays.foci:
        for first in range(0, focus.views.size, VIEW_BLOCK):
            _one_block(
                data, columns, occupied, *grid, nz, rays, focus, focus.views[first : first + VIEW_BLOCK]
            )
    out = np.empty((nk, nz, ny, nx), np.float32)
    with one_parallel_region():
        _unfold(columns, out)
    return out


def _one_block(
    data: np.ndarray,
    columns: np.ndarray,
    occupied: np.ndarray,
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    nz: int,
    rays: Cone,
    focus: Focus,
    seen: np.ndarray,
) -> None:
    """Add some views of one displacement of the focal spot to the columns."""
    ny, nx = occupied.shape
    dz, dy, dx = spacing
    z0, y0, x0 = (o - 0.5 * s for o, s in zip(origin, spacing, strict=True))
    angles, source_z = rays.angles[seen] + focus.turn, rays.source_z[seen] + focus.rise
    rows, lo, hi = rays.rows - focus.rise, rays.row_lo[seen], rays.row_hi[seen]
    strip = max(1, min(STRIP_BYTES // (4 * columns.shape[1] * nx), -(-ny // STRIPS)))
    values = np.empty((seen.size, focus.lengths.size, rows.size, data.shape[0]), np.float32)
    with one_parallel_region():
        _by_channel(data[:, seen], focus.lengths, rows, lo, hi, values)
        start_at = np.zeros(seen.size)
        offset, fractions, row_of, slab_of, start = all_events(source_z, rows, lo, hi, z0, dz, nz, start_at)
        strips(
            values, columns, occupied, (x0, y0, dx, dy), strip, (z0, dz, nz), angles, source_z, focus.radius,
            rays.isocentre, focus.along, focus.across, focus.lengths, rows, lo, hi, offset, fractions, row_of, slab_of,
            start,
        )  # fmt: skip
