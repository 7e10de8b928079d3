"""From running sums over detector rows to slice means on a grid along and across parallel rays.

Back-projection spends its time where a voxel column meets a ray at rows that differ from voxel to voxel. Here
that step is done once per half-turn angle on points ``(t, s)``: ``t`` the offsets of the parallel rays, ``s``
even positions along them, some millimetres apart. All turns and both directions of one angle modulo pi meet
in the same points, where their means over a slice are combined; what is left per voxel is linear interpolation
of whole columns of slices (:mod:`twinlab.kernels.backproject`).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.vector import read, reread, write

LANES = 8  # slices and bounds are padded to a multiple of it
CHUNK = 64  # rays of one piece of work

FAST = {"contract", "nsz", "arcp"}


@njit(cache=True, inline="always")
def rows_per_mm(distance, root, detector_rows, radius, flat):
    """Detector rows per mm of z at a point.

    Parameters
    ----------
    distance, root : float
        From the source to the point, and to the foot of the isocentre, along the ray in the plane, mm.
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
def row_place(start, scale, bound, zero, top):
    """Position of a slice's bound between running sums, clamped to ``zero`` .. ``top``."""
    return min(max(start + scale * bound, zero), top)


@njit(cache=True, inline="always")
def bounds_inside(low, high, first, step, n_bounds):
    """Bounds ``lo <= k < hi`` of slices between two heights, whole vectors; all when they are uneven (step 0)."""
    if step == 0.0:
        return 0, n_bounds
    most = n_bounds + 0.0
    lo = int(min(max((low - first) / step - 1e-3, 0.0), most)) // LANES * LANES
    hi = (int(min(max((high - first) / step + 1.001, 0.0), most)) + LANES - 1) // LANES * LANES
    return lo, hi


@njit(cache=True, fastmath=FAST)
def _look_up(line, weights, top, start, scale, bounds, lo, hi, edge, edge_weight):
    """Running sums of a ray and of the row weights at the slices' bounds ``lo`` to ``hi``."""
    zero = bounds.dtype.type(0)
    for k in range(lo, hi):
        position = row_place(start, scale, read(bounds, k, 1), zero, top)
        r = np.int32(position)
        f = position - r
        a, b = read(line, r, 1), read(line, r + 1, 1)
        write(edge, k, bounds.dtype.type(a + f * (b - a)), 1)
        a, b = read(weights, r, 1), read(weights, r + 1, 1)
        write(edge_weight, k, bounds.dtype.type(a + f * (b - a)), 1)


@njit(cache=True, fastmath=FAST)
def _add_means(edge, edge_weight, pair, inverse, lo, hi, value, weight):
    """Add the means over slices: differences between upper and lower bounds, times a factor."""
    for k in range(lo, hi):
        mean = (read(edge, k + pair, 2) - read(edge, k, 2)) * inverse
        write(value, k, reread(value, k, 2) + mean, 2)
        mean = (read(edge_weight, k + pair, 2) - read(edge_weight, k, 2)) * inverse
        write(weight, k, reread(weight, k, 2) + mean, 2)


@njit(cache=True, fastmath=FAST)
def _look_up_sums(line, top, start, scale, bounds, lo, hi, edge):
    """As :func:`_look_up`, of the ray alone."""
    zero = bounds.dtype.type(0)
    for k in range(lo, hi):
        position = row_place(start, scale, read(bounds, k, 4), zero, top)
        r = np.int32(position)
        f = position - r
        a, b = read(line, r, 4), read(line, r + 1, 4)
        write(edge, k, bounds.dtype.type(a + f * (b - a)), 4)


@njit(cache=True, fastmath=FAST)
def _add_mean(edge, pair, inverse, lo, hi, value):
    """As :func:`_add_means`, of the ray alone."""
    for k in range(lo, hi):
        mean = (read(edge, k + pair, 5) - read(edge, k, 5)) * inverse
        write(value, k, reread(value, k, 5) + mean, 5)


@njit(cache=True, fastmath=FAST)
def _add_product(value, factor, out):
    """Add ``factor * value`` to ``out``. Empties ``value``."""
    zero = out.dtype.type(0)
    for k in range(out.size):
        write(out, k, reread(out, k, 6) + read(factor, k, 6) * reread(value, k, 6), 6)
        write(value, k, zero, 6)


@njit(cache=True, fastmath=FAST)
def _add_quotient(value, weight, least, out):
    """Add ``value / weight`` to ``out``; NaN where the weight is too small. Empties both."""
    zero = out.dtype.type(0)
    for k in range(out.size):
        v, w = reread(value, k, 3), reread(weight, k, 3)
        write(out, k, out.dtype.type(reread(out, k, 3) + (v / w if w > least else out.dtype.type(np.nan))), 3)
        write(value, k, zero, 3)
        write(weight, k, zero, 3)


@njit(cache=True, inline="always")
def meet(t, source, fan):
    """Where a ray starts: source z, and distance from the source to the foot of the isocentre, mm."""
    return source[0] + source[1] * fan, math.sqrt(source[2] * source[2] - t * t)


@njit(cache=True, inline="always")
def column(s, z, root, source, row_lo, flat):
    """Row position of z = 0 in the window, and rows per mm, at ``s`` along a ray."""
    scale = rows_per_mm(root + s, root, source[3], source[2], flat)
    return source[4] - row_lo - z * scale, scale


@njit(cache=True)
def _lines(span, i):
    """Range of lines of points that need point ``i``."""
    lo = 0
    while lo < span.shape[0] and not span[lo, 0] <= i < span[lo, 1]:
        lo += 1
    hi = lo
    while hi < span.shape[0] and span[hi, 0] <= i < span[hi, 1]:
        hi += 1
    return lo, hi


@njit(cache=True, parallel=True, fastmath=FAST)
def resample(
    sums, window, source, group, grid, span, fan, fan_first, steps, bounds, even, pair, row_sums, least_mm,
    flat, shares, known, origin, out,
):  # fmt: skip
    """Slice means at the points (t, s) of some half-turn angles, combined over turns and directions.

    Parameters
    ----------
    sums : array (entry, t, rows + 2)
        Running weighted sums over rows of filtered parallel projections, windows in t and rows; the last one
        is repeated.
    window : array of int (entry, 4)
        Direction (1, or -1: seen from behind), first parallel index, row window.
    source : array (entry, 5)
        Source z at fan angle 0 [mm], its change with the fan angle [mm/rad], source to isocentre [mm], source
        to detector over row pitch, row position of the source's height on the detector.
    group : array of int (angles + 1,)
        Bounds of the entries of each half-turn angle.
    grid : array of int (angles, 2)
        First index in t and s of the points of each angle.
    span : array of int (angles, n_s, 2)
        Points ``lo <= i < hi`` in t that each line of points needs, relative to the first.
    fan : array
        Fan angle of parallel index ``fan_first + i``, rad.
    fan_first : int
    steps : (float, float)
        Steps in t and s, mm.
    bounds : array (n,)
        Lower and upper bounds of the slices, mm, padded to a multiple of eight.
    even : (float, float)
        First bound and step of even ones; step 0: uneven.
    pair : int
        Distance in ``bounds`` from a slice's lower to its upper bound.
    row_sums : array (rows + 2,)
        Running sums of the row weights, the last one repeated.
    least_mm : float
        Weight, in mm of slice, below which a point counts as unseen: NaN.
    flat : bool
        Flat detector.
    shares : bool
        Entries of an angle add up (each holds its share of every ray) instead of being averaged.
    known : array (n_s, n_t, slices) or (0, 0, 0)
        From :func:`inverse_weights`, where they are the same at every angle; not with ``shares``.
    origin : (int, int)
        Indices in t and s of its first point.
    out : array (angles, n_s, n_t, slices)
        Overwritten where ``span`` says. ``slices`` is a multiple of eight.
    """
    n_bounds, n_slices = bounds.size, out.shape[3]
    n_edges = (max(n_slices + pair, n_bounds) + LANES - 1) // LANES * LANES
    pieces = (out.shape[2] + CHUNK - 1) // CHUNK
    kind = bounds.dtype.type
    least = kind(least_mm)
    for piece in prange((group.size - 1) * pieces):
        m = piece // pieces
        edge, edge_weight = np.empty(n_edges, bounds.dtype), np.empty(n_edges, bounds.dtype)
        value = np.zeros((out.shape[1], n_slices), bounds.dtype)
        weight = np.zeros((out.shape[1], n_slices), bounds.dtype)
        start, scale = np.empty(out.shape[1]), np.empty(out.shape[1])
        for i in range(piece % pieces * CHUNK, min((piece % pieces + 1) * CHUNK, out.shape[2])):
            j_lo, j_hi = _lines(span[m], i)
            if j_hi == j_lo:
                continue
            for j in range(j_lo, j_hi):
                out[m, j, i] = 0
            for e in range(group[m], group[m + 1]):
                side, row_lo = window[e, 0], window[e, 2]
                index = side * (grid[m, 0] + i)
                height, root = meet(index * steps[0], source[e], fan[index - fan_first])
                for j in range(j_lo, j_hi):
                    s = side * ((grid[m, 1] + j) * steps[1])
                    start[j], scale[j] = column(s, height, root, source[e], row_lo, flat)
                top = window[e, 3] - row_lo
                a, b = j_lo, j_hi - 1  # the nearest and the furthest point reach furthest
                lo, hi = bounds_inside(
                    min(-start[a] / scale[a], -start[b] / scale[b]),
                    max((top - start[a]) / scale[a], (top - start[b]) / scale[b]), even[0], even[1], n_bounds,
                )  # fmt: skip
                if hi > lo and known.size:
                    line = sums[e, index - window[e, 1]]
                    for k in range(lo):
                        edge[k] = 0
                    for k in range(hi, n_edges):
                        edge[k] = line[top]
                    first, last = max(lo - pair, 0) // LANES * LANES, min(hi, n_slices)
                    for j in range(j_lo, j_hi):
                        _look_up_sums(line, kind(top), kind(start[j]), kind(scale[j]), bounds, lo, hi, edge)
                        _add_mean(edge, pair, kind(1.0 / scale[j]), first, last, value[j])
                elif hi > lo:
                    line, weights = sums[e, index - window[e, 1]], row_sums[row_lo:]
                    for k in range(lo):
                        edge[k] = 0
                        edge_weight[k] = weights[0]
                    for k in range(hi, n_edges):
                        edge[k] = line[top]
                        edge_weight[k] = weights[top]
                    first, last = max(lo - pair, 0) // LANES * LANES, min(hi, n_slices)
                    for j in range(j_lo, j_hi):
                        _look_up(
                            line, weights, kind(top), kind(start[j]), kind(scale[j]), bounds, lo, hi, edge,
                            edge_weight,
                        )  # fmt: skip
                        _add_means(
                            edge, edge_weight, pair, kind(1.0 / scale[j]), first, last, value[j], weight[j]
                        )
                if shares:
                    for j in range(j_lo, j_hi):
                        _add_quotient(value[j], weight[j], least, out[m, j, i])
            if known.size:
                t, s = grid[m, 0] + i - origin[0], grid[m, 1] - origin[1]
                for j in range(j_lo, j_hi):
                    _add_product(value[j], known[s + j, t], out[m, j, i])
            elif not shares or group[m + 1] == group[m]:
                for j in range(j_lo, j_hi):
                    _add_quotient(value[j], weight[j], least, out[m, j, i])


@njit(cache=True, parallel=True)
def inverse_weights(
    window, source, fan, fan_first, steps, bounds, pair, row_sums, least_mm, flat, origin, out,
):  # fmt: skip
    """One over the sum of the weights that some entries give the slices at points (t, s); NaN where unseen.

    Parameters
    ----------
    window, source : arrays (entry, 4), (entry, 5)
        Of the entries of one angle.
    out : array (n_s, n_t, slices)
        Overwritten; its first point is ``origin``. Other parameters as for :func:`resample`.
    """
    for i in prange(out.shape[1]):
        for j in range(out.shape[0]):
            for k in range(out.shape[2]):
                below, above = bounds[min(k, bounds.size - 1)], bounds[min(k + pair, bounds.size - 1)]
                total = 0.0
                for e in range(window.shape[0]):
                    side, row_lo = window[e, 0], window[e, 2]
                    index = side * (origin[0] + i)
                    height, root = meet(index * steps[0], source[e], fan[index - fan_first])
                    s = side * ((origin[1] + j) * steps[1])
                    start, scale = column(s, height, root, source[e], row_lo, flat)
                    n_rows = window[e, 3] - row_lo
                    r, f = row_cell(start + scale * below, n_rows)
                    low = (1.0 - f) * row_sums[row_lo + r] + f * row_sums[row_lo + r + 1]
                    r, f = row_cell(start + scale * above, n_rows)
                    high = (1.0 - f) * row_sums[row_lo + r] + f * row_sums[row_lo + r + 1]
                    total += (high - low) / scale
                out[j, i, k] = 1.0 / total if total > least_mm else np.nan


@njit(cache=True, parallel=True, fastmath=FAST)
def resample_adjoint(
    points, window, source, group, grid, span, fan, fan_first, steps, bounds, pair, row_sums, least_mm, flat,
    shares, unseen, sums,
):  # fmt: skip
    """Transpose of :func:`resample`: values at the points to running sums, added to ``sums``.

    Every angle's entries belong to one thread. ``unseen`` (angles,) counts values other than zero at points
    that the angle does not see. Other parameters as for :func:`resample`.
    """
    n_bounds, n_slices = bounds.size, points.shape[3]
    n_used = min(n_slices, n_bounds - pair)
    for m in prange(group.size - 1):
        count = group[m + 1] - group[m]
        cells, parts = np.empty((count, n_bounds), np.int64), np.empty((count, n_bounds))
        inverse, edge_weight, weight = np.empty(count), np.empty(n_bounds), np.empty((count, n_slices))
        load = np.empty((count, n_bounds))
        for j in range(points.shape[1]):
            for i in range(span[m, j, 0], span[m, j, 1]):
                values = points[m, j, i]
                if not values.any():
                    continue
                weight[:] = 0
                for p in range(count):
                    e = group[m] + p
                    side, n_rows = window[e, 0], window[e, 3] - window[e, 2]
                    index = side * (grid[m, 0] + i)
                    z, root = meet(index * steps[0], source[e], fan[index - fan_first])
                    s = side * ((grid[m, 1] + j) * steps[1])
                    start, scale = column(s, z, root, source[e], window[e, 2], flat)
                    inverse[p] = 1.0 / scale
                    for k in range(n_bounds):
                        r, f = row_cell(start + scale * bounds[k], n_rows)
                        cells[p, k], parts[p, k] = r, f
                        w0, w1 = row_sums[window[e, 2] + r], row_sums[window[e, 2] + r + 1]
                        edge_weight[k] = w0 + f * (w1 - w0)
                    total = weight[p] if shares else weight[0]
                    for k in range(n_used):
                        total[k] += (edge_weight[k + pair] - edge_weight[k]) * inverse[p]
                load[:] = 0
                for p in range(count):
                    total = weight[p] if shares else weight[0]
                    for k in range(n_used):
                        if values[k] == 0:
                            continue
                        if total[k] > least_mm:
                            load[p, k + pair] += values[k] / total[k] * inverse[p]
                            load[p, k] -= values[k] / total[k] * inverse[p]
                        else:
                            unseen[m] += 1
                for p in range(count):
                    e = group[m] + p
                    line = sums[e, window[e, 0] * (grid[m, 0] + i) - window[e, 1]]
                    for k in range(n_bounds):
                        r, f = cells[p, k], parts[p, k]
                        line[r] += load[p, k] * (1.0 - f)
                        line[r + 1] += load[p, k] * f
