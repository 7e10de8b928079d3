"""What a scintillating detector does to readings after their quanta are drawn: light shared, kept, read out.

All loops work in place on readings (n_view, n_row, n_channel), float32, on the rows of each view's window.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import INLINE
from twinlab.kernels.readings import _normals, _uniforms

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit(**INLINE)
def late_light(x, stored, known, share, decay, mean_decay):
    """What one exponential adds to a reading of ``x``, and the light that it then has in store.

    Parameters
    ----------
    x, stored : float32
        Light absorbed in the view, and in store at its start.
    known : bool
        False: nothing is known of the store, which is then that of long exposure to ``x``.
    share, decay, mean_decay : float32
        See :func:`afterglow`.
    """
    fresh = share * x * mean_decay
    if not known:
        stored = fresh / (_ONE - decay)
    return stored * (_ONE - decay) - fresh, stored * decay + fresh


@njit(cache=True, parallel=True)
def share_light(reading, side, centre, edge, along_rows, row_lo, row_hi):
    """Give each neighbour ``side`` of a cell's reading and keep ``centre`` (``edge`` where one is missing).

    Parameters
    ----------
    reading : float32 array (n_view, n_row, n_channel), changed
    side, centre, edge : float32
    along_rows : bool
        Neighbours across rows; else across channels.
    row_lo, row_hi : int arrays (n_view,)
        The ends of a window count as ends of the detector.
    """
    nv, _, nc = reading.shape
    for i in prange(nv):
        before = np.empty(nc, np.float32)
        own = np.empty(nc, np.float32)
        lo, hi = row_lo[i], row_hi[i]
        for r in range(lo, hi):
            row = reading[i, r]
            own[:] = row
            if along_rows:
                if hi - lo == 1:
                    continue
                keep = edge if r == lo or r == hi - 1 else centre
                for c in range(nc):
                    total = keep * own[c]
                    if r > lo:
                        total += side * before[c]
                    if r < hi - 1:
                        total += side * reading[i, r + 1, c]
                    row[c] = total
                before[:] = own
            else:
                last = nc - 1
                for c in range(1, last):
                    row[c] = centre * own[c] + side * (own[c - 1] + own[c + 1])
                row[0] = edge * own[0] + side * own[1]
                row[last] = edge * own[last] + side * own[last - 1]


@njit(cache=True, parallel=True)
def afterglow(reading, held, last_seen, share, decay, mean_decay, pause, first_view, row_lo, row_hi):
    """Light that leaves the scintillator late: a sum of exponentials, carried from view to view.

    A share f of what is absorbed evenly during a view is stored and leaves with the time constant tau: of a
    store Q at the start of a view of length T, ``Q (1 - exp(-T/tau))`` is read in it; of the light stored during
    the view, ``f x tau/T (1 - exp(-T/tau))`` is left at its end.

    Parameters
    ----------
    reading : float32 array (n_view, n_row, n_channel), changed
    held : float32 array (n_exponential, n_row, n_channel), changed
        Light in store.
    last_seen : int64 array (n_row,), changed
        Last view in which a row was read, -1 at the start. A row that comes into the window later than the first
        view starts as after long exposure to its first reading.
    share : float32 array (n_exponential,)
    decay, mean_decay : float32 arrays (n_exponential,)
        ``exp(-T/tau)`` and ``tau/T (1 - exp(-T/tau))``.
    pause : float32 array (n_view, n_exponential)
        What is left of the store after the pause before the view.
    first_view : int
        Place of the first view in the scan.
    row_lo, row_hi : int arrays (n_view,)
    """
    nv, nr, nc = reading.shape
    for r in prange(nr):
        for i in range(nv):
            if r < row_lo[i] or r >= row_hi[i]:
                continue
            view = first_view + i
            row = reading[i, r]
            known = view == 0 or last_seen[r] == view - 1
            last_seen[r] = view
            for c in range(nc):
                x = row[c]
                y = x
                for k in range(share.size):
                    stored = held[k, r, c] * pause[i, k]
                    late, left = late_light(x, stored, known, share[k], decay[k], mean_decay[k])
                    y += late
                    held[k, r, c] = left
                row[c] = y


@njit(cache=True, parallel=True)
def read_out(
    reading,
    gain,
    offset,
    electronic,
    saturation,
    step,
    noisy,
    first_view,
    realisation,
    k0,
    k1,
    row_lo,
    row_hi,
):
    """Amplify, add electronic noise, cut at saturation, round to counts.

    Parameters
    ----------
    reading : float32 array (n_view, n_row, n_channel), changed
        keV.
    gain, offset : float32 arrays (n_row, n_channel)
        Drift of a cell's gain since calibration (1: none) and what is left of its offset [keV].
    electronic, saturation, step : float32
        Rms noise, largest reading, keV per count (0: analogue).
    noisy : bool
    first_view : int
    realisation, k0, k1 : uint64
    row_lo, row_hi : int arrays (n_view,)
    """
    nv, nr, nc = reading.shape
    for i in prange(nv):
        work = np.zeros((3, nc), np.float32)
        normal, u1, u2 = work[0], work[1], work[2]
        for r in range(row_lo[i], row_hi[i]):
            row = reading[i, r]
            if noisy and electronic > _ZERO:
                first = np.uint64((np.int64(first_view + i) * nr + r) * nc)
                _uniforms(first, realisation, k0, k1, u1, u2)
                _normals(u1, u2, normal)
            for c in range(nc):
                value = row[c] * gain[r, c] + offset[r, c] + electronic * normal[c]
                value = min(value, saturation)
                if noisy and step > _ZERO:
                    value = np.float32(np.rint(value / step)) * step
                row[c] = value


def scale_cells(values, factor):
    """Multiply every view of ``values`` (view, row, channel) by ``factor`` (row, channel), in place."""
    values *= factor
