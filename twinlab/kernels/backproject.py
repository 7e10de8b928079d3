"""Weighted cone-parallel back-projection of slices, and its transpose.

A slice of thickness ``T`` takes from every ray the mean over its height: with running sums over the detector
rows that mean costs two look-ups whatever ``T`` is. Per half-turn angle the contributions of all turns and
of both directions are normalised by the sum of their weights.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

TILE = 16  # voxels; a tile's part of a view stays in the first-level cache


@njit(cache=True, inline="always")
def parallel_ray(x, y, cosine, sine, radius_squared):
    """Offset ``t`` of the parallel ray through a point, and the point's distance from the source along it.

    Parameters
    ----------
    x, y : float
        Relative to the isocentre, mm.
    cosine, sine : float
        Of the parallel angle.
    radius_squared : float
        Source to isocentre, squared, mm2.

    Returns
    -------
    t, distance, root : float
        mm; ``root`` is the distance from the source to the foot of the isocentre on the ray.
    """
    t = x * cosine + y * sine
    root = math.sqrt(radius_squared - t * t)
    return t, root + (y * cosine - x * sine), root


@njit(cache=True, inline="always")
def rows_per_mm(distance, root, detector_rows, radius, flat):
    """Detector rows per mm of z at a point.

    Parameters
    ----------
    distance, root : float
        From :func:`parallel_ray`, mm.
    detector_rows : float
        Source to detector over the row pitch.
    radius : float
        Source to isocentre, mm.
    flat : bool
        Flat detector: the distance grows with the fan angle.
    """
    scale = detector_rows / distance
    if flat:
        scale *= radius / root
    return scale


@njit(cache=True, inline="always")
def row_cell(position, n_rows):
    """Cell and fraction of a position between running sums over ``n_rows`` rows, clamped to its ends."""
    clamped = min(max(position, 0.0), float(n_rows))
    cell = min(int(clamped), n_rows - 1)
    return cell, clamped - cell


@njit(cache=True, inline="always")
def _place(x, y, e, cosine, sine, source_z, slope, t_first, fan, fan_first, inverse_step, scan):
    """Where a voxel column meets an entry: cell and fraction along t, row position at z = 0, rows per mm."""
    radius, detector_rows, first_edge, flat = scan
    t, distance, root = parallel_ray(x, y, cosine[e], sine[e], radius * radius)
    scale = rows_per_mm(distance, root, detector_rows, radius, flat)
    place = t * inverse_step
    cell = math.floor(place)
    fraction = place - cell
    i = cell - fan_first
    angle = fan[i] + fraction * (fan[i + 1] - fan[i])
    start = first_edge - (source_z[e] + slope[e] * angle) * scale
    return cell - t_first[e], fraction, start, scale


@njit(cache=True, inline="always")
def _add_slices(
    line0, line1, fraction, row_sums, n_rows, start, scale, bounds, pair, edge, edge_weight, value, weight
):
    """Add the means of one ray over all slices, times their weights, to ``value`` and ``weight``.

    Everything in the arrays' own type and contiguous in the slices, so that the loops become vector code.
    """
    kind = bounds.dtype.type
    fraction, start, scale, inverse = kind(fraction), kind(start), kind(scale), kind(1.0 / scale)
    top, last = kind(n_rows), np.uint32(n_rows - 1)
    for k in range(bounds.size):
        position = min(max(start + scale * bounds[k], kind(0.0)), top)
        r = min(np.uint32(position), last)
        f = position - kind(r)
        g0 = line0[r] + f * (line0[r + np.uint32(1)] - line0[r])
        g1 = line1[r] + f * (line1[r + np.uint32(1)] - line1[r])
        edge[k] = g0 + fraction * (g1 - g0)
        edge_weight[k] = row_sums[r] + f * (row_sums[r + np.uint32(1)] - row_sums[r])
    for k in range(value.size):
        value[k] += (edge[k + pair] - edge[k]) * inverse
        weight[k] += (edge_weight[k + pair] - edge_weight[k]) * inverse


@njit(cache=True, parallel=True, fastmath={"contract", "nsz", "arcp"})
def back_project(
    sums, t_first, row_lo, row_hi, cosine, sine, source_z, slope, group,
    x, y, bounds, pair, fan, fan_first, inverse_step, scan, row_sums, least_mm, out,
):  # fmt: skip
    """Add the normalised back-projection of some half-turn angles to an image.

    Parameters
    ----------
    sums : array (entry, t, rows + 1)
        Running weighted sums over rows of filtered parallel projections, windows in t and rows.
    t_first, row_lo, row_hi : arrays of int (entry,)
        First parallel index, row window.
    cosine, sine, source_z, slope : arrays (entry,)
        Parallel angle; source z at fan angle 0 (mm) and its change with the fan angle (mm/rad).
    group : array of int (angles + 1,)
        Bounds of the entries of each half-turn angle.
    x, y : arrays
        Voxel centres relative to the isocentre, mm.
    bounds : array (n,)
        Lower and upper bounds of the slices, mm: shared (``pair`` 1, n = slices + 1) or all lower then all
        upper ones (``pair`` = slices, n = 2 slices).
    pair : int
        Distance in ``bounds`` from a slice's lower to its upper bound.
    fan : array
        Fan angle of parallel index ``fan_first + i``, rad.
    fan_first, inverse_step : int, float
        ``inverse_step`` in 1/mm.
    scan : tuple (radius, detector_rows, first_edge, flat)
        mm; source to detector over row pitch; row position of the detector's axis; flat detector?
    row_sums : array (rows + 1,)
        Running sums of the row weights.
    least_mm : float
        Weight, in mm of slice, below which a voxel counts as unseen: NaN.
    out : array (y, x, z)
        Added to.
    """
    nx, nz = x.size, out.shape[2]
    across = (nx + TILE - 1) // TILE
    n_tiles = across * ((y.size + TILE - 1) // TILE)
    for tile in prange(n_tiles):
        y_lo, x_lo = tile // across * TILE, tile % across * TILE
        edge, edge_weight = np.empty_like(bounds), np.empty_like(bounds)
        value, weight = np.empty(nz, bounds.dtype), np.empty(nz, bounds.dtype)
        least = bounds.dtype.type(least_mm)
        for m in range(group.size - 1):
            for iy in range(y_lo, min(y_lo + TILE, y.size)):
                for ix in range(x_lo, min(x_lo + TILE, nx)):
                    value[:] = 0
                    weight[:] = 0
                    for e in range(group[m], group[m + 1]):
                        it, fraction, start, scale = _place(
                            x[ix], y[iy], e, cosine, sine, source_z, slope, t_first, fan, fan_first,
                            inverse_step, scan,
                        )  # fmt: skip
                        _add_slices(
                            sums[e, it], sums[e, it + 1], fraction, row_sums[row_lo[e] : row_hi[e] + 1],
                            row_hi[e] - row_lo[e], start - row_lo[e], scale, bounds, pair,
                            edge, edge_weight, value, weight,
                        )  # fmt: skip
                    column = out[iy, ix]
                    for k in range(nz):
                        if weight[k] > least:
                            column[k] += value[k] / weight[k]
                        else:
                            column[k] = np.nan


@njit(cache=True, parallel=True, fastmath={"contract", "nsz", "arcp"})
def back_project_adjoint(
    template, t_first, row_lo, row_hi, cosine, sine, source_z, slope, group,
    x, y, bounds, pair, fan, fan_first, inverse_step, scan, row_sums, least_mm, unseen, sums,
):  # fmt: skip
    """Transpose of :func:`back_project`: an image to running sums, added to ``sums``.

    Every angle's entries belong to one thread. ``unseen`` (angles,) counts the voxels of the template that
    the angle does not see. Other parameters as for :func:`back_project`.
    """
    nz = template.shape[2]
    for m in prange(group.size - 1):
        count = group[m + 1] - group[m]
        cells = np.empty((count, bounds.size), np.int64)
        parts = np.empty((count, bounds.size))
        t_cell, t_part, inverse = np.empty(count, np.int64), np.empty(count), np.empty(count)
        edge_weight, weight, load = np.empty(bounds.size), np.empty(nz), np.empty(bounds.size)
        for iy in range(y.size):
            for ix in range(x.size):
                used = False
                for k in range(nz):
                    used = used or template[iy, ix, k] != 0
                if not used:
                    continue
                weight[:] = 0
                for i in range(count):
                    e = group[m] + i
                    t_cell[i], t_part[i], start, scale = _place(
                        x[ix], y[iy], e, cosine, sine, source_z, slope, t_first, fan, fan_first,
                        inverse_step, scan,
                    )  # fmt: skip
                    inverse[i] = 1.0 / scale
                    for k in range(bounds.size):
                        r, f = row_cell(start - row_lo[e] + scale * bounds[k], row_hi[e] - row_lo[e])
                        cells[i, k], parts[i, k] = r, f
                        w0, w1 = row_sums[row_lo[e] + r], row_sums[row_lo[e] + r + 1]
                        edge_weight[k] = w0 + f * (w1 - w0)
                    for k in range(nz):
                        weight[k] += (edge_weight[k + pair] - edge_weight[k]) * inverse[i]
                load[:] = 0
                for k in range(nz):
                    if weight[k] > least_mm:
                        load[k + pair] += template[iy, ix, k] / weight[k]
                        load[k] -= template[iy, ix, k] / weight[k]
                    elif template[iy, ix, k] != 0:
                        unseen[m] += 1
                for i in range(count):
                    line0 = sums[group[m] + i, t_cell[i]]
                    line1 = sums[group[m] + i, t_cell[i] + 1]
                    for k in range(bounds.size):
                        r, f, amount = cells[i, k], parts[i, k], load[k] * inverse[i]
                        line0[r] += amount * (1.0 - t_part[i]) * (1.0 - f)
                        line0[r + 1] += amount * (1.0 - t_part[i]) * f
                        line1[r] += amount * t_part[i] * (1.0 - f)
                        line1[r + 1] += amount * t_part[i] * f
