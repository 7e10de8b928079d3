"""Filtered back-projection on a CUDA device, in float32: the loops of the CPU as one thread per output.

Five steps as on the CPU (:mod:`~twinlab.kernels.rebinning`, :mod:`~twinlab.kernels.resample`,
:mod:`~twinlab.kernels.backproject`), with the same arguments and the same scalar functions. Every output is
summed by one thread in a fixed order: no atomics. Indices are kept apart from single-precision numbers,
because a whole number times one would be computed in double precision.

Kernels are compiled without fast mathematics, which may take it that no number is NaN: NaN marks voxels that
are not seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.backproject import parallel_position
from twinlab.kernels.cuda_memory import put, zeros
from twinlab.kernels.device import namespace
from twinlab.kernels.rebinning import TAPS, detector_row, first_tap, lagrange
from twinlab.kernels.resample import column, meet, row_place

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

__all__ = ["add_back_projection", "filter_rows", "points_on_device", "put", "zeros"]

_ZERO, _ONE, _NAN = np.float32(0.0), np.float32(1.0), np.float32(np.nan)
_2, _3, _4, _5 = (np.float32(i) for i in (2, 3, 4, 5))  # a literal number would be one in double precision


def shift_kernel(
    projection, segments, periodic, segment, whole, part, channel, share, cone, row_lo, row_hi, out
):
    """Rebinning over views and cosine of the cone, one thread per entry and channel.

    As :func:`twinlab.kernels.rebinning.shift_views`; ``base`` is a whole number and a ``part``. Rows of ``out`` beyond
    ``row_hi`` are set to 0.
    """
    n_channels = out.shape[2]
    thread = cuda.grid(1)
    if thread >= out.shape[0] * n_channels:
        return
    e, c = thread // n_channels, thread % n_channels
    s = segment[e]
    start, count, stride = segments[s, 0], segments[s, 1], segments[s, 2]
    place = part[e] + channel[s, c]
    first = first_tap(place, -whole[e], count - TAPS - whole[e], periodic[s])
    x = place - np.float32(first)
    first += whole[e]
    all_of = share[e % share.shape[0], c]
    w0, w1, w2 = (
        lagrange(x, _ZERO, _ONE, all_of),
        lagrange(x, _ONE, _ONE, all_of),
        lagrange(x, _2, _ONE, all_of),
    )
    w3, w4, w5 = lagrange(x, _3, _ONE, all_of), lagrange(x, _4, _ONE, all_of), lagrange(x, _5, _ONE, all_of)
    v0, v1 = start + stride * (first % count), start + stride * ((first + 1) % count)
    v2, v3 = start + stride * ((first + 2) % count), start + stride * ((first + 3) % count)
    v4, v5 = start + stride * ((first + 4) % count), start + stride * ((first + 5) % count)
    for k in range(out.shape[1]):
        r = row_lo[e] + k
        if r < row_hi[e]:
            total = w0 * projection[v0, r, c] + w1 * projection[v1, r, c] + w2 * projection[v2, r, c]
            total += w3 * projection[v3, r, c] + w4 * projection[v4, r, c] + w5 * projection[v5, r, c]
            out[e, k, c] = total * cone[r, c]
        else:
            out[e, k, c] = _ZERO


def sum_kernel(filtered, skip, n_t, row_lo, row_hi, det_lo, margin, n_rows, row_weight, out):
    """Running weighted sums over rows, one thread per entry and t.

    As :func:`twinlab.kernels.rebinning.sum_rows`; entry ``e`` begins at sample ``skip[e]`` of ``filtered``.
    """
    thread = cuda.grid(1)
    if thread >= out.shape[0] * out.shape[1]:
        return
    e, t = thread // out.shape[1], thread % out.shape[1]
    if t >= n_t[e]:
        return
    total = _ZERO
    out[e, t, 0] = total
    for r in range(row_lo[e], row_hi[e]):
        row = detector_row(r, margin, n_rows) - det_lo[e]
        total += row_weight[r] * filtered[e, row, skip[e] + t]
        out[e, t, r - row_lo[e] + 1] = total
    out[e, t, row_hi[e] - row_lo[e] + 1] = total


def resample_kernel(
    sums,
    window,
    source,
    group,
    grid,
    span,
    fan,
    fan_first,
    steps,
    bounds,
    pair,
    row_sums,
    least,
    flat,
    shares,
    out,
):
    """Slice means at the points (t, s), one thread per point and slice.

    As :func:`twinlab.kernels.resample.resample`; points outside ``span`` are set to 0.
    """
    n_s, n_t, n_slices = out.shape[1], out.shape[2], out.shape[3]
    thread = cuda.grid(1)
    if thread >= out.shape[0] * n_s * n_t * n_slices:
        return
    k = thread % n_slices
    i = thread // n_slices % n_t
    j = thread // (n_slices * n_t) % n_s
    m = thread // (n_slices * n_t * n_s)
    if i < span[m, j, 0] or i >= span[m, j, 1]:
        out[m, j, i, k] = _ZERO
        return
    below, above = bounds[k], bounds[min(k + pair, bounds.size - 1)]
    value, weight, total = _ZERO, _ZERO, _ZERO
    for e in range(group[m], group[m + 1]):
        side, row_lo = window[e, 0], window[e, 2]
        index = side * (grid[m, 0] + i)
        height, root = meet(np.float32(index) * steps[0], source[e], fan[index - fan_first])
        s = np.float32(side * (grid[m, 1] + j)) * steps[1]
        start, scale = column(s, height, root, source[e], np.float32(row_lo), flat)
        top = np.float32(window[e, 3] - row_lo)
        high = row_place(start, scale, above, _ZERO, top)
        low = row_place(start, scale, below, _ZERO, top)
        p, q = np.int32(high), np.int32(low)
        f, g = high - np.float32(p), low - np.float32(q)
        line, at = sums[e, index - window[e, 1]], row_sums[row_lo:]
        upper, lower = line[p] + f * (line[p + 1] - line[p]), line[q] + g * (line[q + 1] - line[q])
        value += (upper - lower) / scale
        upper, lower = at[p] + f * (at[p + 1] - at[p]), at[q] + g * (at[q + 1] - at[q])
        weight += (upper - lower) / scale
        if shares:
            total += value / weight if weight > least else _NAN
            value, weight = _ZERO, _ZERO
    if not shares or group[m + 1] == group[m]:
        total = value / weight if weight > least else _NAN
    out[m, j, i, k] = total


def back_kernel(points, rays, grid, steps, x, y, out):
    """Back-projection, one thread per voxel; as :func:`twinlab.kernels.backproject.back_project`."""
    nx, n_slices = out.shape[1], out.shape[2]
    thread = cuda.grid(1)
    if thread >= out.shape[0] * nx * n_slices:
        return
    k = thread % n_slices
    ix = thread // n_slices % nx
    iy = thread // (n_slices * nx)
    # rounding may put a voxel at the rim of the points one cell further
    last_t, last_s = points.shape[2] - 2, points.shape[1] - 2
    total = out[iy, ix, k]
    for m in range(points.shape[0]):
        t, s = parallel_position(x[ix], y[iy], rays[m], steps, grid[m, 0], grid[m, 1])
        i, j = min(np.int32(t), last_t), min(np.int32(s), last_s)
        f, g = t - np.float32(i), s - np.float32(j)
        near = (_ONE - f) * points[m, j, i, k] + f * points[m, j, i + 1, k]
        far = (_ONE - f) * points[m, j + 1, i, k] + f * points[m, j + 1, i + 1, k]
        total += (_ONE - g) * near + g * far
    out[iy, ix, k] = total


def filter_rows(parallel: Any, matrices: Any, kind: np.ndarray, lo: int, hi: int) -> Any:
    """Filter rows along t: a matrix product against the namespace of its arrays.

    Parameters
    ----------
    parallel : array (entry, rows, channel)
        Any array-API array: NumPy, CuPy, ...
    matrices : array (kind, channels or more, t)
        Of the same namespace.
    kind : ndarray of int (entry,)
        Matrix of each entry.
    lo, hi : int
        Samples of t that are wanted.

    Returns
    -------
    array (entry, rows, hi - lo)
    """
    xp = namespace(parallel, matrices)
    _, n_rows, n_channels = parallel.shape

    def product(rows: Any, q: int) -> Any:
        flat = xp.matmul(xp.reshape(rows, (-1, n_channels)), matrices[q, :n_channels, lo:hi])
        return xp.reshape(flat, (-1, n_rows, hi - lo))

    kinds = np.unique(kind).tolist()
    if len(kinds) == 1:
        return product(parallel, kinds[0])
    order = np.argsort(kind, kind="stable")
    back = np.argsort(order, kind="stable")
    parts = [
        product(xp.take(parallel, xp.asarray(np.flatnonzero(kind == q).tolist()), axis=0), q) for q in kinds
    ]
    return xp.take(xp.concat(parts, axis=0), xp.asarray(back.tolist()), axis=0)


def _filtered(parallel: Any, matrices: np.ndarray, kind: np.ndarray, lo: int, hi: int) -> Any:
    """:func:`filter_rows` of an array on the device."""
    rows = memory.algebra(parallel)
    result = filter_rows(rows, namespace(rows).asarray(matrices), kind, lo, hi)
    return memory.there(result)


def points_on_device(
    projection: Any, first_view: int, *, views: tuple[Any, ...], filtering: tuple[Any, ...],
    rows: tuple[Any, ...], common: tuple[Any, ...], weighting: tuple[Any, ...], shape: tuple[int, ...],
) -> Any:  # fmt: skip
    """Slice means at the points (t, s) of some half-turn angles, from projections on the device.

    Parameters
    ----------
    projection : device array (view, row, channel)
        Views from ``first_view`` on.
    first_view : int
    views, filtering, rows, common, weighting : tuples
        Arguments between input and output of ``shift_views``, ``filter_rows``, ``sum_rows`` and ``resample``, the
        latter without ``even``, as on the CPU.
    shape : tuple (angles, n_s, n_t, slices)

    Returns
    -------
    device array of that shape
    """
    segments, periodic, segment, base, channel, share, det_lo, det_hi = views
    cone, matrices, kind, first, n_t = filtering[:5]
    row_lo, row_hi = rows[1:3]
    if segment.size == 0:
        return put(np.full(shape, np.nan))
    n, n_det, n_channels = segment.size, int((det_hi - det_lo).max()), projection.shape[2]
    whole = np.floor(base).astype(np.int64)
    parallel = memory.empty((n, n_det, n_channels))
    memory.launch(
        shift_kernel, n * n_channels, projection, put(segments - np.array([first_view, 0, 0])), put(periodic),
        put(segment), put(whole), put(base - whole), put(channel), put(share), put(cone), put(det_lo),
        put(det_hi), parallel,
    )  # fmt: skip
    lo, hi = int(first.min()), int((first + n_t).max())
    filtered = _filtered(parallel, matrices, kind, lo, hi)
    sums = memory.empty((n, int(n_t.max()), int((row_hi - row_lo).max()) + 2))
    det, margin, n_rows, row_weight = rows[3:]
    memory.launch(
        sum_kernel, n * sums.shape[1], filtered, put(first - lo), put(n_t), put(row_lo), put(row_hi), put(det),
        margin, n_rows, put(row_weight), sums,
    )  # fmt: skip
    window, source, group, grid, span, fan, fan_first, steps, bounds = common
    pair, row_sums, least, flat, shares = weighting
    points = memory.empty(shape)
    memory.launch(
        resample_kernel, math.prod(shape), sums, put(window), put(source), put(group), put(grid), put(span),
        put(fan), fan_first, put(steps), put(bounds), pair, put(row_sums), np.float32(least), bool(flat),
        bool(shares), points,
    )  # fmt: skip
    return points


def add_back_projection(points: Any, place: tuple[Any, ...], image: Any) -> None:
    """Add the back-projection of points to an image (y, x, slices), both on the device.

    ``place``: arguments of :func:`twinlab.kernels.backproject.back_project` between its first and its last.
    """
    rays, grid, steps, x, y = (put(np.asarray(a, np.float32)) for a in place)
    memory.launch(back_kernel, math.prod(image.shape), points, rays, grid, steps, x, y, image)
