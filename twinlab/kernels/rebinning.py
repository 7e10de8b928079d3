"""Rebinning over views, filtering along rows and sums over rows: the hot loops between projections and back-projection.

Per detector channel the rebinning of fan to parallel rays is a shift over views. Every loop is parallel
over whole outputs: results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

TAPS = 6  # Lagrange interpolation over views
CHANNELS = 32  # of one piece of work
BLOCK = 512  # columns of a block in the matrix product


@njit(cache=True, inline="always")
def first_tap(place, lowest, highest, periodic):
    """First of the views that interpolate at a fractional index; ``lowest`` to ``highest`` on an open path."""
    first = int(math.floor(place)) - TAPS // 2 + 1  # noqa: RUF046 (CUDA's floor is a float)
    if not periodic:
        first = min(max(first, lowest), highest)
    return first


@njit(cache=True, inline="always")
def lagrange(x, a, one, share):
    """Weight, times ``share``, of point ``a`` of 0 .. TAPS - 1 at ``x``; ``one`` and all others of one type."""
    product = share
    b = one - one
    for _ in range(TAPS):
        if a != b:
            product *= (x - b) / (a - b)
        b += one
    return product


@njit(cache=True, inline="always")
def detector_row(row, margin, n_rows):
    """Detector row that a row counted from the first margin row repeats."""
    return min(max(row - margin, 0), n_rows - 1)


@njit(cache=True)
def _taps(place, count, periodic, share, views, weights):
    """Views and Lagrange weights, times ``share``, that interpolate at a fractional view index."""
    first = first_tap(place, 0, count - TAPS, periodic)
    x = place - first
    for a in range(TAPS):
        views[a] = (first + a) % count
        weights[a] = lagrange(x, float(a), 1.0, share)


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def shift_views(projection, segments, periodic, segment, base, channel, share, row_lo, row_hi, out):
    """Fan-beam rows at parallel angles: interpolation over views at a place that differs from channel to channel.

    Parameters
    ----------
    projection : array (view, row, channel)
    segments : array of int (segment, 3)
        First view, views, and distance between them, of each segment.
    periodic : array of bool (segment,)
        Whether its views close a circle.
    segment : array of int (entry,)
    base : array (entry,)
    channel : array (segment, channel)
        Output ``(e, r, c)`` lies at view ``base[e] + channel[segment, c]`` of the segment.
    share : array (entry or 1, channel)
        Weight of the output.
    row_lo, row_hi : arrays (entry,)
        Detector rows of each output.
    out : array (entry, rows, channel)
        Row 0 is detector row ``row_lo``.
    """
    n_channels = projection.shape[2]
    for e in prange(out.shape[0]):
        s = segment[e]
        views, weights = np.empty((n_channels, TAPS), np.int64), np.empty((n_channels, TAPS), out.dtype)
        for c in range(n_channels):
            place, part = base[e] + channel[s, c], share[e % share.shape[0], c]
            _taps(place, segments[s, 1], periodic[s], part, views[c], weights[c])
            views[c] = segments[s, 0] + segments[s, 2] * views[c]
        for r in range(row_lo[e], row_hi[e]):
            line = out[e, r - row_lo[e]]
            for c in range(n_channels):
                total = weights[c, 0] * projection[views[c, 0], r, c]
                for a in range(1, TAPS):
                    total += weights[c, a] * projection[views[c, a], r, c]
                line[c] = total


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def shift_views_adjoint(parallel, segments, periodic, segment, base, channel, share, row_lo, row_hi, out):
    """Transpose of :func:`shift_views`; added to ``out`` (view, row, channel). Channels belong to one thread."""
    n_channels = parallel.shape[2]
    for piece in prange((n_channels + CHANNELS - 1) // CHANNELS):
        lo, hi = piece * CHANNELS, min((piece + 1) * CHANNELS, n_channels)
        views, weights = np.empty((CHANNELS, TAPS), np.int64), np.empty((CHANNELS, TAPS), parallel.dtype)
        for e in range(parallel.shape[0]):
            s = segment[e]
            for c in range(lo, hi):
                place, part = base[e] + channel[s, c], share[e % share.shape[0], c]
                _taps(place, segments[s, 1], periodic[s], part, views[c - lo], weights[c - lo])
                views[c - lo] = segments[s, 0] + segments[s, 2] * views[c - lo]
            for r in range(row_lo[e], row_hi[e]):
                for c in range(lo, hi):
                    value = parallel[e, r - row_lo[e], c]
                    for a in range(TAPS):
                        out[views[c - lo, a], r, c] += weights[c - lo, a] * value


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_four(out, a, b, c, d, wa, wb, wc, wd):
    """``out += wa a + wb b + wc c + wd d``: the inner loop of a matrix product."""
    for i in range(out.size):
        out[i] += wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i]


@njit(cache=True, fastmath={"contract", "nsz"})
def _multiply(rows, matrix, lo, hi, out):
    """``out[r, i] = sum_k rows[r, k] matrix[k, lo + i]``, summed in the order of k.

    A product written out rather than left to a library, whose sums depend on its number of threads.
    ``k`` is a multiple of eight.
    """
    for start in range(lo, hi, BLOCK):  # eight lines of a block stay in the first-level cache
        end = min(start + BLOCK, hi)
        for r in range(rows.shape[0]):
            out[r, start - lo : end - lo] = 0
        for k in range(0, rows.shape[1], 8):
            for r in range(rows.shape[0]):
                line = out[r, start - lo : end - lo]
                for j in range(k, k + 8, 4):
                    _add_four(
                        line, matrix[j, start:end], matrix[j + 1, start:end], matrix[j + 2, start:end],
                        matrix[j + 3, start:end], rows[r, j], rows[r, j + 1], rows[r, j + 2], rows[r, j + 3],
                    )  # fmt: skip


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def filter_rows(parallel, cone, matrices, kind, first, n_t, row_lo, row_hi, out):
    """Filter rows along t: ``out[e, r, i] = sum_c matrices[kind_e, c, first_e + i] cone[row, c] parallel[e, r, c]``.

    Parameters
    ----------
    parallel : array (entry, rows, channel)
        Row 0 is detector row ``row_lo``.
    cone : array (row, channel)
    matrices : array (kind, channel, t)
        Channels padded with zeros to a multiple of eight.
    kind : array of int (entry,)
        Matrix of each entry.
    first, n_t : arrays of int (entry,)
        Window of the matrix.
    row_lo, row_hi : arrays of int (entry,)
        Detector rows.
    out : array (entry, rows, t)
    """
    n_channels = parallel.shape[2]
    for e in prange(out.shape[0]):
        n_rows = row_hi[e] - row_lo[e]
        matrix = matrices[kind[e]]
        rows = np.zeros((n_rows, matrix.shape[0]), out.dtype)
        for r in range(n_rows):
            for c in range(n_channels):
                rows[r, c] = parallel[e, r, c] * cone[row_lo[e] + r, c]
        _multiply(rows, matrix, first[e], first[e] + n_t[e], out[e])


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def filter_rows_adjoint(filtered, cone, matrices, kind, first, n_t, row_lo, row_hi, out):
    """Transpose of :func:`filter_rows`; ``out`` (entry, rows, channel) is overwritten.

    ``matrices`` (kind, t, channel) are the transposed ones, followed by eight lines of zeros.
    """
    for e in prange(out.shape[0]):
        matrix = matrices[kind[e]]
        n_rows = row_hi[e] - row_lo[e]
        rows = np.zeros((n_rows, (n_t[e] + 7) // 8 * 8), out.dtype)
        rows[:, : n_t[e]] = filtered[e, :n_rows, : n_t[e]]
        _multiply(rows, matrix[first[e] : first[e] + rows.shape[1]], 0, matrix.shape[1], out[e])
        for r in range(n_rows):
            for c in range(matrix.shape[1]):
                out[e, r, c] *= cone[row_lo[e] + r, c]


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def sum_rows(filtered, n_t, row_lo, row_hi, det_lo, margin, n_rows, row_weight, out):
    """Running weighted sums over rows with margins: ``out[e, t, k] = sum_{r < k} w_r filtered[e, r, t]``.

    Parameters
    ----------
    filtered : array (entry, rows, t)
        Rows from ``det_lo`` on.
    n_t : array of int (entry,)
    row_lo, row_hi : arrays of int (entry,)
        Rows with margins.
    det_lo : array of int (entry,)
    margin, n_rows : int
    row_weight : array (row + 2 margin,)
    out : array (entry, t, rows + 2)
        The last sum is repeated.
    """
    for e in prange(out.shape[0]):
        for t in range(n_t[e]):
            total = row_weight.dtype.type(0)
            out[e, t, 0] = total
            for r in range(row_lo[e], row_hi[e]):
                row = detector_row(r, margin, n_rows) - det_lo[e]
                total += row_weight[r] * filtered[e, row, t]
                out[e, t, r - row_lo[e] + 1] = total
            out[e, t, row_hi[e] - row_lo[e] + 1] = total


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def sum_rows_adjoint(sums, n_t, row_lo, row_hi, det_lo, margin, n_rows, row_weight, filtered):
    """Transpose of :func:`sum_rows` (its last, repeated sum excepted); ``filtered`` is overwritten."""
    for e in prange(sums.shape[0]):
        for t in range(n_t[e]):
            filtered[e, :, t] = 0
            total = row_weight.dtype.type(0)
            for r in range(row_hi[e] - 1, row_lo[e] - 1, -1):
                total += sums[e, t, r - row_lo[e] + 1]
                row = detector_row(r, margin, n_rows) - det_lo[e]
                filtered[e, row, t] += row_weight[r] * total
