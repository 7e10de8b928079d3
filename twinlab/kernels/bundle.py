"""Row bundles: all rows of a detector channel follow one path in the x-y plane.

The path is walked once while the integral of every z slab is accumulated side by side. A row's ray lies in
one slab at a time; when it passes from one slab to the next, its integral takes the difference of the two
slabs'. Positions along the ray at which that happens, as fractions of the way to the detector, are the same
for all channels, so they are computed and sorted once per view.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.columns import ALIGN
from twinlab.kernels.lanes import LANES, LINE, add_line, item, pass_slabs, set_item
from twinlab.kernels.rays import channel_direction, clip_axis, first_cell, next_plane, source_position

_GROUP = 4  # cells that share a window of slabs
_AHEAD = 4  # a column is fetched so many cells before it is added
_CM = 0.1  # cm per mm


@njit(cache=True)
def _walk(sx, sy, ux, uy, length, box, n_xy, occupied, cells, entry, width):
    """Cells of the occupied box on a path in the plane: index, distance at entry, length inside.

    Padded with zero lengths to a multiple of ``_GROUP``. Returns the number of entries.
    """
    x0, y0, dx, dy = box
    nx, ny = n_xy
    first, last = clip_axis(sx, ux, x0, x0 + nx * dx, 0.0, length)
    first, last = clip_axis(sy, uy, y0, y0 + ny * dy, first, last)
    if last <= first:
        return 0
    ix = first_cell(sx + first * ux, x0, dx, nx)
    iy = first_cell(sy + first * uy, y0, dy, ny)
    tx = next_plane(ix, sx, ux, x0, dx)
    ty = next_plane(iy, sy, uy, y0, dy)
    step_x = 1 if ux > 0 else -1
    step_y = 1 if uy > 0 else -1
    n = 0
    t = first
    while True:
        end = min(min(tx, ty), last)
        if end > t:
            if occupied[iy, ix]:
                cells[n] = iy * nx + ix
                entry[n] = t
                width[n] = end - t
                n += 1
            t = end
        if end >= last:
            break
        if tx <= ty:
            ix += step_x
            if ix < 0 or ix >= nx:
                break
            tx = next_plane(ix, sx, ux, x0, dx)
        else:
            iy += step_y
            if iy < 0 or iy >= ny:
                break
            ty = next_plane(iy, sy, uy, y0, dy)
    while n % _GROUP and n > 0:
        cells[n] = cells[n - 1]
        entry[n] = entry[n - 1] + width[n - 1]
        width[n] = 0.0
        n += 1
    return n


@njit(cache=True)
def _slab(z, z0, dz, nz):
    """Slab of a height, shifted by one: 0 is below the volume, nz + 1 above."""
    return min(max(math.floor((z - z0) / dz), -1), nz) + 1


@njit(cache=True)
def _events(source_z, rows, z0, dz, nz, nearest, fractions, row_of, slab_of, start):
    """Passages of the rows' rays through planes between slabs, in order along the ray.

    Positions are fractions of the way to the detector, which are the same for every channel. Returns their
    number; ``start`` is each row's slab at the fraction ``nearest``, before which nothing is recorded.
    """
    n = 0
    for r in range(rows.size):
        v = rows[r]
        here = _slab(source_z, z0, dz, nz)
        if v > 0:
            for p in range(here, nz + 1):
                fraction = (z0 + p * dz - source_z) / v
                if fraction >= 1.0:
                    break
                here = p + 1
                if fraction > nearest:
                    if n < fractions.size:
                        fractions[n], row_of[n], slab_of[n] = fraction, r, here
                    n += 1
                else:
                    start[r] = here
        elif v < 0:
            for p in range(here - 1, -1, -1):
                fraction = (z0 + p * dz - source_z) / v
                if fraction >= 1.0:
                    break
                here = p
                if fraction > nearest:
                    if n < fractions.size:
                        fractions[n], row_of[n], slab_of[n] = fraction, r, here
                    n += 1
                else:
                    start[r] = here
    return n


@njit(cache=True, parallel=True)
def all_events(source_z, rows, row_lo, row_hi, z0, dz, nz, nearest):
    """Sorted passages of every view, one after another, with the offsets of the views."""
    nv, nr = source_z.size, rows.size
    offset = np.zeros(nv + 1, np.int64)
    start = np.zeros((nv, nr), np.int32)
    for i in prange(nv):
        lo, hi = row_lo[i], row_hi[i]
        for r in range(nr):
            start[i, r] = _slab(source_z[i], z0, dz, nz)
        nothing = np.empty(0, np.float64)
        none = np.empty(0, np.int32)
        offset[i + 1] = _events(
            source_z[i], rows[lo:hi], z0, dz, nz, nearest[i], nothing, none, none, start[i, lo:hi]
        )
    for i in range(nv):
        offset[i + 1] += offset[i]
    fractions = np.empty(offset[nv], np.float64)
    row_of = np.empty(offset[nv], np.int32)
    slab_of = np.empty(offset[nv], np.int32)
    for i in prange(nv):
        lo, hi = row_lo[i], row_hi[i]
        a, b = offset[i], offset[i + 1]
        f, r, s = np.empty(b - a, np.float64), np.empty(b - a, np.int32), np.empty(b - a, np.int32)
        _events(source_z[i], rows[lo:hi], z0, dz, nz, nearest[i], f, r, s, start[i, lo:hi])
        order = np.argsort(f, kind="mergesort")
        for n in range(b - a):
            fractions[a + n] = f[order[n]]
            row_of[a + n] = r[order[n]] + lo
            slab_of[a + n] = s[order[n]]
    return offset, fractions, row_of, slab_of, start


@njit(cache=True)
def _window(near, far, source_z, v_lo, v_hi, z0, dz, nz, nk, stride):
    """Part of a column that rows between two heights can see between two fractions of the way."""
    low = source_z + min(min(near * v_lo, near * v_hi), min(far * v_lo, far * v_hi))
    high = source_z + max(max(near * v_lo, near * v_hi), max(far * v_lo, far * v_hi))
    a = (low - z0) / dz
    b = (high - z0) / dz
    if b < 0.0 or a > nz:
        return 0, 0
    # one slab of margin: a passage may lie a rounding error outside the group of cells
    first = max(math.floor(a), 0)
    last = min(math.floor(b) + 3, nz + 2)
    return first * nk // ALIGN * ALIGN, min(-(-last * nk // ALIGN) * ALIGN, stride)


@njit(cache=True)
def _channel(
    columns, stride, cells, entry, width, n, fractions, row_of, plane_of, e, last, current, acc, length,
    view_z, grid_z, nk, lanes, out,
):  # fmt: skip
    """Passages ``e:last`` of all rows of one channel of one view, along x-y [mm].

    ``out`` (row * lanes + basis) grows by the difference of the slabs below and above the plane, whichever way the
    ray goes; ``current`` becomes the row's last plane. Arrays have one axis and are not sliced here: the reference
    count of every slice would cost more than the few additions that it saves.
    """
    source_z, v_lo, v_hi = view_z
    z0, dz, nz = grid_z
    acc[:] = 0.0
    for g in range(0, n, _GROUP):
        first = entry[g]
        leave = entry[g + _GROUP - 1] + width[g + _GROUP - 1]
        lo, hi = _window(first / length, leave / length, source_z, v_lo, v_hi, z0, dz, nz, nk, stride)
        # passages before these cells, or where no row sees a part of them that holds anything
        before = first if hi > lo else leave
        while e < last and fractions[e] * length < before:
            below, r = np.int64(plane_of[e]) * nk, np.int64(row_of[e])
            for k in range(nk):
                out[r * lanes + k] += acc[below + k] - acc[below + nk + k]
            current[r] = plane_of[e]
            e += 1
        if hi <= lo:
            continue
        for i in range(g, g + _GROUP):
            cell, begin = cells[i] * stride, entry[i]
            end = begin + width[i]
            while e < last:
                s = item(fractions, e) * length
                if s >= end:
                    break
                plane, r = item(plane_of, e), np.int64(item(row_of, e))
                below = np.int64(plane) * nk
                inside = max(s - begin, 0.0)  # none in a gap before the cell
                for k in range(0, lanes, LANES):
                    pass_slabs(
                        out, r * lanes + k, acc, below + k, below + nk + k, columns, cell, np.float32(inside)
                    )
                set_item(current, r, plane)
                e += 1
            ahead = cells[min(i + _AHEAD, n - 1)] * stride
            for at in range(lo, hi, LINE):
                add_line(acc, at, columns, cell, np.float32(width[i]), ahead)


@njit(cache=True)
def _background(sz, v, length, first, last, z0, z1):
    """Length [mm along x-y] that a row's ray spends inside the whole volume."""
    a, b = clip_axis(sz, v / length, z0, z1, first, last)
    return max(b - a, 0.0)


@njit(cache=True, parallel=True)
def bundles(
    columns, occupied, background, box, whole, grid_z, angles, source_z, radius, iso, along, across,
    lengths, rows, row_lo, row_hi, offset, fractions, row_of, plane_of, start, channel_block, view_block,
    out,
):  # fmt: skip
    """All views; ``plane_of`` and ``start`` count the planes below: one less than the slab where rows go up."""
    nk, nv, nr, nc = out.shape
    z0, dz, nz = grid_z
    ny, nx = occupied.shape
    stride = columns.shape[1]
    flat = columns.reshape(columns.size)
    lanes = (nk + LANES - 1) // LANES * LANES
    n_channel_blocks = (nc + channel_block - 1) // channel_block
    n_view_blocks = (nv + view_block - 1) // view_block
    for task in prange(n_channel_blocks * n_view_blocks):
        c_first = task % n_channel_blocks * channel_block
        v_first = task // n_channel_blocks * view_block
        c_last = min(c_first + channel_block, nc)
        cells = np.empty(2 * (nx + ny) + _GROUP + 4, np.int64)
        entry = np.empty(cells.size, np.float64)
        width = np.empty(cells.size, np.float64)
        acc = np.zeros(stride + LANES, np.float32)
        current = np.empty(nr, np.int32)
        block = np.empty((channel_block, nr * lanes), np.float32)
        for i in range(v_first, min(v_first + view_block, nv)):
            lo, hi = row_lo[i], row_hi[i]
            if hi <= lo:
                continue
            sx, sy = source_position(angles[i], radius, iso[0], iso[1])
            v_lo, v_hi = rows[lo], rows[hi - 1]
            block[:] = 0.0
            for c in range(c_first, c_last):
                ux, uy = channel_direction(angles[i], along[c], across[c])
                length = lengths[c]
                n = _walk(sx, sy, ux, uy, length, box, (nx, ny), occupied, cells, entry, width)
                result = block[c - c_first]
                if n > 0:
                    current[:] = start[i]
                    _channel(
                        flat, stride, cells, entry, width, n, fractions, row_of, plane_of, offset[i],
                        offset[i + 1], current, acc, length, (source_z[i], v_lo, v_hi), grid_z, nk,
                        lanes, result,
                    )  # fmt: skip
                    for r in range(lo, hi):
                        slab = current[r] + 1 if rows[r] > 0 else current[r]
                        for k in range(nk):
                            passed = result[r * lanes + k]
                            result[r * lanes + k] = acc[slab * nk + k] + (passed if rows[r] > 0 else -passed)
                first, last = clip_axis(sx, ux, whole[0], whole[1], 0.0, length)
                first, last = clip_axis(sy, uy, whole[2], whole[3], first, last)
                for r in range(lo, hi):
                    inside = _background(source_z[i], rows[r], length, first, last, z0, z0 + nz * dz)
                    slant = _CM * math.sqrt(1.0 + (rows[r] / length) ** 2)
                    for k in range(nk):
                        at = r * lanes + k
                        result[at] = slant * (result[at] + inside * background[k])
            for k in range(nk):
                for r in range(lo, hi):
                    for c in range(c_first, c_last):
                        out[k, i, r, c] = block[c - c_first, r * lanes + k]
