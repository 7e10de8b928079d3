"""Rebinning over views and sums over rows: the hot loops between projections and back-projection.

Per detector channel the rebinning of fan to parallel rays is a shift over views. Every loop is parallel
over whole outputs: results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

TAPS = 6  # Lagrange interpolation over views
CHANNELS = 32  # of one piece of work


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
def shift_views(
    projection, segments, periodic, segment, base, channel, share, row_lo, row_hi, cone, start, out
):
    """Fan-beam rows at parallel angles: interpolation over views at a place that differs from channel to channel.

    Rows are multiplied by the cosine of their cone angle.

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
    cone : array (row, channel)
        Cosine of the cone angle.
    start : array of int (entry,)
        Line of ``out`` that holds each entry's row ``row_lo``; its other rows follow.
    out : array (lines, channels or more)
    """
    n_channels = projection.shape[2]
    for e in prange(segment.size):
        s = segment[e]
        views, weights = np.empty((n_channels, TAPS), np.int64), np.empty((n_channels, TAPS), out.dtype)
        for c in range(n_channels):
            place, part = base[e] + channel[s, c], share[e % share.shape[0], c]
            _taps(place, segments[s, 1], periodic[s], part, views[c], weights[c])
            views[c] = segments[s, 0] + segments[s, 2] * views[c]
        for r in range(row_lo[e], row_hi[e]):
            line = out[start[e] + r - row_lo[e]]
            for c in range(n_channels):
                total = weights[c, 0] * projection[views[c, 0], r, c]
                for a in range(1, TAPS):
                    total += weights[c, a] * projection[views[c, a], r, c]
                line[c] = total
            for c in range(n_channels):
                line[c] *= cone[r, c]


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def shift_views_adjoint(
    parallel, segments, periodic, segment, base, channel, share, row_lo, row_hi, cone, start, out
):
    """Transpose of :func:`shift_views`; added to ``out`` (view, row, channel). Channels belong to one thread."""
    n_channels = out.shape[2]
    for piece in prange((n_channels + CHANNELS - 1) // CHANNELS):
        lo, hi = piece * CHANNELS, min((piece + 1) * CHANNELS, n_channels)
        views, weights = np.empty((CHANNELS, TAPS), np.int64), np.empty((CHANNELS, TAPS), parallel.dtype)
        for e in range(segment.size):
            s = segment[e]
            for c in range(lo, hi):
                place, part = base[e] + channel[s, c], share[e % share.shape[0], c]
                _taps(place, segments[s, 1], periodic[s], part, views[c - lo], weights[c - lo])
                views[c - lo] = segments[s, 0] + segments[s, 2] * views[c - lo]
            for r in range(row_lo[e], row_hi[e]):
                for c in range(lo, hi):
                    value = parallel[start[e] + r - row_lo[e], c] * cone[r, c]
                    for a in range(TAPS):
                        out[views[c - lo, a], r, c] += weights[c - lo, a] * value


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def sum_rows(filtered, start, skip, n_t, row_lo, row_hi, det_lo, margin, n_rows, row_weight, out):
    """Running weighted sums over rows with margins: ``out[e, t, k] = sum_{r < k} w_r filtered[e, r, t]``.

    Parameters
    ----------
    filtered : array (lines, t)
        Rows of all entries.
    start : array of int (entry,)
        Line of each entry's row ``det_lo``.
    skip : array of int (entry,)
        Sample of ``filtered`` at which each entry begins.
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
                line = start[e] + detector_row(r, margin, n_rows) - det_lo[e]
                total += row_weight[r] * filtered[line, skip[e] + t]
                out[e, t, r - row_lo[e] + 1] = total
            out[e, t, row_hi[e] - row_lo[e] + 1] = total


@njit(cache=True, parallel=True, fastmath={"contract", "nsz"})
def sum_rows_adjoint(sums, start, skip, n_t, row_lo, row_hi, det_lo, margin, n_rows, row_weight, filtered):
    """Transpose of :func:`sum_rows` (its last, repeated sum excepted); added to ``filtered``."""
    for e in prange(sums.shape[0]):
        for t in range(n_t[e]):
            total = row_weight.dtype.type(0)
            for r in range(row_hi[e] - 1, row_lo[e] - 1, -1):
                total += sums[e, t, r - row_lo[e] + 1]
                line = start[e] + detector_row(r, margin, n_rows) - det_lo[e]
                filtered[line, skip[e] + t] += row_weight[r] * total
