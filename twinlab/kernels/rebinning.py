"""Rebinning over views, filtering along rows and sums over rows: the hot loops between projections and back-projection.

Per detector channel the rebinning of fan to parallel rays is a shift over views by a constant fraction, so
it and its transpose are both gathers. Every loop is parallel over whole outputs: results do not depend on
the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

BLOCK = 512  # columns of a block in the matrix product


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def shift_views(
    projection, segment_first, segment_count, periodic, segment, shift, offset, weight, row_lo, row_hi, out
):
    """Fan-beam rows at parallel angles: ``out[e, r, c] = sum_a weight[s, a, c] projection[view, r, c]``.

    Parameters
    ----------
    projection : array (view, row, channel)
    segment_first, segment_count, periodic : arrays (segment,)
        Views of each segment; whether they close a circle.
    segment, shift : arrays (entry,)
        Segment and angle index of each output.
    offset : array of int (segment, channel)
    weight : array (segment, tap, channel)
        Interpolation weights.
    row_lo, row_hi : arrays (entry,)
        Detector rows of each output.
    out : array (entry, rows, channel)
        Row 0 is detector row ``row_lo``.
    """
    n_taps = weight.shape[1]
    n_channels = projection.shape[2]
    for e in prange(out.shape[0]):
        s = segment[e]
        first = segment_first[s]
        count = segment_count[s]
        views = np.empty((n_taps, n_channels), np.int64)
        for c in range(n_channels):
            for a in range(n_taps):
                view = shift[e] + offset[s, c] + a
                if periodic[s]:
                    view %= count
                views[a, c] = first + view
        for r in range(row_lo[e], row_hi[e]):
            line = out[e, r - row_lo[e]]
            for c in range(n_channels):
                total = weight[s, 0, c] * projection[views[0, c], r, c]
                for a in range(1, n_taps):
                    total += weight[s, a, c] * projection[views[a, c], r, c]
                line[c] = total


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def shift_views_adjoint(
    parallel, entry_of, first_shift, count, periodic, offset, weight, row_lo, row_hi, out
):
    """Transpose of :func:`shift_views` for one segment, as a gather.

    Parameters
    ----------
    parallel : array (entry, rows, channel)
    entry_of : array of int (angles,)
        Entry of angle ``first_shift + i``; -1: none.
    first_shift, count, periodic : int, int, bool
    offset : array of int (channel,)
    weight : array (tap, channel)
    row_lo, row_hi : arrays (entry,)
    out : array (view of the segment, row, channel)
        Added to.
    """
    n_taps = weight.shape[0]
    n_channels = parallel.shape[2]
    n_angles = entry_of.size
    for view in prange(count):
        for a in range(n_taps):
            for c in range(n_channels):
                angle = view - offset[c] - a - first_shift
                if periodic:
                    angle %= count
                if angle < 0 or angle >= n_angles:
                    continue
                e = entry_of[angle]
                if e < 0:
                    continue
                for r in range(row_lo[e], row_hi[e]):
                    out[view, r, c] += weight[a, c] * parallel[e, r - row_lo[e], c]


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
def filter_rows(parallel, cone, matrix, first, n_t, row_lo, row_hi, out):
    """Filter rows along t: ``out[e, r, i] = sum_c matrix[c, first_e + i] cone[row, c] parallel[e, r, c]``.

    Parameters
    ----------
    parallel : array (entry, rows, channel)
        Row 0 is detector row ``row_lo``.
    cone : array (row, channel)
    matrix : array (channel, t)
        Channels padded with zeros to a multiple of eight.
    first, n_t : arrays of int (entry,)
        Window of the matrix.
    row_lo, row_hi : arrays of int (entry,)
        Detector rows.
    out : array (entry, rows, t)
    """
    n_channels = parallel.shape[2]
    for e in prange(out.shape[0]):
        n_rows = row_hi[e] - row_lo[e]
        rows = np.zeros((n_rows, matrix.shape[0]), out.dtype)
        for r in range(n_rows):
            for c in range(n_channels):
                rows[r, c] = parallel[e, r, c] * cone[row_lo[e] + r, c]
        _multiply(rows, matrix, first[e], first[e] + n_t[e], out[e])


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def filter_rows_adjoint(filtered, cone, matrix, first, n_t, row_lo, row_hi, out):
    """Transpose of :func:`filter_rows`; ``out`` (entry, rows, channel) is overwritten.

    ``matrix`` (t, channel) is the transposed one, followed by eight lines of zeros.
    """
    for e in prange(out.shape[0]):
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
                row = min(max(r - margin, 0), n_rows - 1) - det_lo[e]
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
                row = min(max(r - margin, 0), n_rows - 1) - det_lo[e]
                filtered[e, row, t] += row_weight[r] * total
