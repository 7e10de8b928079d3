"""Polychromatic signals of rays.

Rays are independent; loops run along the channels of one detector row, in float32, so that they vectorise.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from twinlab.kernels.elementary import exp32

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_node(p0, p1, p2, p3, m0, m1, m2, m3, more, weight, weight2, signal, second):
    for c in range(signal.size):
        y = exp32(-(m0 * p0[c] + m1 * p1[c] + m2 * p2[c] + m3 * p3[c] + more[c]))
        signal[c] += weight[c] * y
        second[c] += weight2[c] * y


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_scaled(total, factor, values):
    for c in range(total.size):
        total[c] += factor * values[c]


@njit(cache=True, parallel=True)
def polychromatic(path, mu, weight, weight2, gain, row_lo, row_hi, signal, second):
    """Sum over energy nodes of ``weight * exp(-sum_k mu_k path_k)``, and the same with ``weight2``.

    Parameters
    ----------
    path : float32 array (n_basis, n_view, n_row, n_channel)
    mu : float32 array (n_node, 4 or a multiple), zero where there is no basis function
    weight, weight2 : float32 arrays (n_spectrum, n_node, n_channel)
        One spectrum for all rows, or one for each.
    gain : float32 array (n_row, n_channel)
        Factor of both results.
    row_lo, row_hi : int arrays (n_view,)
        Rows to compute; the others get the signal of no object.
    signal, second : float32 arrays (n_view, n_row, n_channel), written
    """
    nk, nv, nr, nc = path.shape
    nq, n_spectrum = mu.shape[0], weight.shape[0]
    for i in prange(nv):
        more = np.zeros(nc, np.float32)
        none = np.zeros(nc, np.float32)
        s = np.empty(nc, np.float32)
        v = np.empty(nc, np.float32)
        for r in range(nr):
            s[:] = 0.0
            v[:] = 0.0
            seen = row_lo[i] <= r < row_hi[i]
            w, w2 = weight[r % n_spectrum], weight2[r % n_spectrum]
            for q in range(nq):
                if not seen:
                    _add_scaled(s, _ONE, w[q])
                    _add_scaled(v, _ONE, w2[q])
                    continue
                if nk > 4:
                    more[:] = 0.0
                    for k in range(4, nk):
                        _add_scaled(more, mu[q, k], path[k, i, r])
                p0 = path[0, i, r]
                p1 = path[1, i, r] if nk > 1 else none
                p2 = path[2, i, r] if nk > 2 else none
                p3 = path[3, i, r] if nk > 3 else none
                _add_node(p0, p1, p2, p3, mu[q, 0], mu[q, 1], mu[q, 2], mu[q, 3], more, w[q], w2[q], s, v)
            for c in range(nc):
                signal[i, r, c] = gain[r, c] * s[c]
                second[i, r, c] = gain[r, c] * v[c]


@njit(cache=True, parallel=True)
def add_object(path, mu, weight, weight2, ray, chord, chord_mu, signal, second):
    """Put one more object on the listed rays: scale their results by what it transmits.

    Parameters
    ----------
    path, mu, weight, weight2
        As for :func:`polychromatic`; the nodes may be others than those of the results.
    ray : int64 array (n,)
        Flat indices into (view, row, channel), each once.
    chord : float32 array (n,)
        Length in the object [cm].
    chord_mu : float32 array (n_node,)
        Its attenuation, or the difference to what it replaces [1/cm].
    signal, second : float32 arrays (n_view, n_row, n_channel), changed
    """
    nk, _, nr, nc = path.shape
    for n in prange(ray.size):
        c = ray[n] % nc
        r = ray[n] // nc % nr
        i = ray[n] // (nc * nr)
        before, after, before2, after2 = _ZERO, _ZERO, _ZERO, _ZERO
        s = r % weight.shape[0]
        for q in range(mu.shape[0]):
            x = _ZERO
            for k in range(nk):
                x += path[k, i, r, c] * mu[q, k]
            y = exp32(-x)
            z = exp32(-x - chord[n] * chord_mu[q])
            before += weight[s, q, c] * y
            after += weight[s, q, c] * z
            before2 += weight2[s, q, c] * y
            after2 += weight2[s, q, c] * z
        signal[i, r, c] *= after / before
        second[i, r, c] *= after2 / before2
