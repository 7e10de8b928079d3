"""Basis decomposition ray by ray: line integrals of a few materials from measurements of several spectra.

Two ways to one solution. Rows of rays in float32, from a polynomial of the logarithms as start: every loop runs
along the channels, so that it vectorises. Rays that have not converged after a few steps (few quanta) go through
the second, :mod:`twinlab.kernels.decompose_ray`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.decompose_ray import MOST, solve_ray
from twinlab.kernels.elementary import exp32, log32

LANES = 256  # channels at a time: what they need stays in the nearest memory
TOGETHER = 4  # nodes; their number is a multiple
QUICK = 6  # steps of the first way
CLOSE = np.float32(1e-5)  # change of the logarithms of readings in its last step

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_LEAST = np.float32(1e-30)
_FAINT = np.float32(1e-3)  # quanta
_TENTH = np.float32(0.1)
_FAR = np.float32(3.0)


@njit(cache=True, fastmath={"contract", "nsz"})
def _scale(values, factor, out):
    for c in range(out.size):
        out[c] = factor * values[c]


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_scaled(total, factor, values):
    for c in range(total.size):
        total[c] += factor * values[c]


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_products(total, a, b):
    for c in range(total.size):
        total[c] += a[c] * b[c]


@njit(cache=True, fastmath={"contract", "nsz"})
def _multiply(values, factor):
    for c in range(values.size):
        values[c] *= factor[c]


@njit(cache=True, fastmath={"contract", "nsz"})
def _negative_exponentials(x):
    for c in range(x.size):
        x[c] = exp32(-x[c])


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_nodes(y0, y1, y2, y3, w0, w1, w2, w3, mu, mean, slope0, slope1):
    """Four nodes at a time, so that sums are read and written once for all of them."""
    a0, a1, a2, a3 = mu[0, 0], mu[1, 0], mu[2, 0], mu[3, 0]
    b0, b1, b2, b3 = mu[0, 1], mu[1, 1], mu[2, 1], mu[3, 1]
    for c in range(mean.size):
        p0, p1, p2, p3 = w0[c] * y0[c], w1[c] * y1[c], w2[c] * y2[c], w3[c] * y3[c]
        mean[c] += (p0 + p1) + (p2 + p3)
        slope0[c] += (a0 * p0 + a1 * p1) + (a2 * p2 + a3 * p3)
        slope1[c] += (b0 * p0 + b1 * p1) + (b2 * p2 + b3 * p3)


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_node(y, weight, mu, slope):
    for c in range(y.size):
        slope[c] += mu * weight[c] * y[c]


@njit(cache=True, fastmath={"contract", "nsz"})
def _inverted_row(values, out):
    for c in range(values.size):
        out[c] = _ONE / max(values[c], _LEAST)


@njit(cache=True, fastmath={"contract", "nsz"})
def _logarithms(measured, quanta, out):
    """Logarithms of readings; one of nothing counts as a tenth of a quantum."""
    for c in range(out.size):
        out[c] = log32(max(measured[c], _TENTH / max(quanta[c], _ONE)))


@njit(cache=True, fastmath={"contract", "nsz"})
def _roots(mean, quanta, root):
    for c in range(root.size):
        root[c] = math.sqrt(max(mean[c] * quanta[c], _FAINT))


@njit(cache=True, fastmath={"contract", "nsz"})
def _residuals(logarithm, measured, mean, one_over, first, out):
    """On logarithms in the first step, then relative to what is expected."""
    if first:
        for c in range(out.size):
            out[c] = logarithm[c] - log32(mean[c])
    else:
        for c in range(out.size):
            out[c] = min(max(measured[c], _ZERO) * one_over[c] - _ONE, _FAR)


@njit(cache=True, fastmath={"contract", "nsz"})
def _add_sizes(values, out):
    """A sum and no maximum, so that what is no number stays none."""
    for c in range(out.size):
        out[c] += abs(values[c])


@njit(cache=True)
def _start(logarithm, first, power, coefficient, at, work):
    """Polynomial in a few combinations of the logarithms: ``at`` (material, lanes)."""
    n_mat = at.shape[0]
    v, term = work[:n_mat], work[n_mat]
    for k in range(n_mat):
        v[k] = _ZERO
        for s in range(logarithm.shape[0]):
            _add_products(v[k], first[k, s], logarithm[s])
        at[k] = _ZERO
    for t in range(power.shape[0]):
        term[:] = _ONE
        for k in range(n_mat):
            for _ in range(power[t, k]):
                _multiply(term, v[k])
        for k in range(n_mat):
            _add_products(at[k], coefficient[t, k], term)


@njit(cache=True)
def _expected(at, mu, weight, mean, slope, y):
    """Transmissions of a row of rays, and minus the derivatives of their logarithms."""
    n_node, n_mat = mu.shape
    mean[:] = _ZERO
    slope[:] = _ZERO
    for q in range(0, n_node, TOGETHER):
        for j in range(TOGETHER):
            _scale(at[0], mu[q + j, 0], y[j])
            for k in range(1, n_mat):
                _add_scaled(y[j], mu[q + j, k], at[k])
            _negative_exponentials(y[j])
        for s in range(mean.shape[0]):
            w = weight[s]
            _add_nodes(
                y[0], y[1], y[2], y[3], w[q], w[q + 1], w[q + 2], w[q + 3], mu[q : q + 4], mean[s], slope[s, 0],
                slope[s, 1],
            )  # fmt: skip
            for k in range(2, n_mat):
                for j in range(TOGETHER):
                    _add_node(y[j], w[q + j], mu[q + j, k], slope[s, k])


@njit(cache=True)
def _normal_equations(half, root, slope, residual, fisher, score, rows):
    """Fisher information and score of a row of rays; ``half`` is the triangular root of the precision."""
    n_meas, n_mat = slope.shape[0], slope.shape[1]
    fisher[:] = _ZERO
    score[:] = _ZERO
    whitened, other = rows[:n_mat], rows[n_mat]
    for t in range(n_meas):  # one row of half.T @ (root * slope)
        whitened[:] = _ZERO
        other[:] = _ZERO
        for s in range(t, n_meas):
            if half[s, t] == _ZERO:
                continue
            _scale(root[s], half[s, t], rows[n_mat + 1])
            for k in range(n_mat):
                _add_products(whitened[k], rows[n_mat + 1], slope[s, k])
            _add_products(other, rows[n_mat + 1], residual[s])
        for k in range(n_mat):
            for m in range(k, n_mat):
                _add_products(fisher[k, m], whitened[k], whitened[m])
            _add_products(score[k], whitened[k], other)


@njit(cache=True)
def _invert_rows(fisher, inverse, pivot, factor):
    """Inverses of small symmetric matrices side by side (Gauss and Jordan); ``fisher`` is used up."""
    n = fisher.shape[0]
    for i in range(n):
        for j in range(n):
            inverse[i, j] = _ONE if i == j else _ZERO
            if j < i:
                fisher[i, j] = fisher[j, i]
    for i in range(n):
        _inverted_row(fisher[i, i], pivot)
        for j in range(n):
            _multiply(fisher[i, j], pivot)
            _multiply(inverse[i, j], pivot)
        for r in range(n):
            if r != i:
                _scale(fisher[r, i], -_ONE, factor)
                for j in range(n):
                    _add_products(fisher[r, j], factor, fisher[i, j])
                    _add_products(inverse[r, j], factor, inverse[i, j])


@njit(cache=True)
def _solve_row(measured, quanta, mu, weight, half, first, power, coefficient, at, inverse, change, work):
    """Estimates of a row of rays; ``change`` says how much the logarithms of readings moved in the last step."""
    n_meas, n_mat, n = measured.shape[0], at.shape[0], at.shape[1]
    take = 0
    logarithm, mean, root, residual = (
        work[take : take + n_meas], work[n_meas : 2 * n_meas], work[2 * n_meas : 3 * n_meas],
        work[3 * n_meas : 4 * n_meas],
    )  # fmt: skip
    take = 4 * n_meas
    slope = work[take : take + n_meas * n_mat].reshape(n_meas, n_mat, n)
    take += n_meas * n_mat
    fisher = work[take : take + n_mat * n_mat].reshape(n_mat, n_mat, n)
    take += n_mat * n_mat
    score, rows = work[take : take + n_mat], work[take + n_mat : take + 2 * n_mat + 2]
    take += 2 * n_mat + 2
    y, one_over = work[take : take + TOGETHER], work[take + TOGETHER]
    for s in range(n_meas):
        _logarithms(measured[s], quanta[s], logarithm[s])
    _start(logarithm, first, power, coefficient, at, rows)
    for step in range(QUICK):
        _expected(at, mu, weight, mean, slope, y)
        for s in range(n_meas):
            _inverted_row(mean[s], one_over)
            for k in range(n_mat):
                _multiply(slope[s, k], one_over)
            _roots(mean[s], quanta[s], root[s])
            _residuals(logarithm[s], measured[s], mean[s], one_over, step == 0, residual[s])
        _normal_equations(half, root, slope, residual, fisher, score, rows)
        _invert_rows(fisher, inverse, y[0], one_over)
        for k in range(n_mat):
            rows[k] = _ZERO
            for m in range(n_mat):
                _add_products(rows[k], inverse[k, m], score[m])
            _add_scaled(at[k], -_ONE, rows[k])
        change[:] = _ZERO
        for s in range(n_meas):
            y[0] = _ZERO
            for k in range(n_mat):
                _add_products(y[0], slope[s, k], rows[k])
            _add_sizes(y[0], change)
        if step > 0 and not (change > CLOSE).any():
            break


@njit(cache=True, parallel=True)
def decompose_rays(
    transmission, quanta, mu, weight, precision, half, first, power, coefficient, row_lo, row_hi, path, covariance,
    slow, failed,
):  # fmt: skip
    """Quasi-likelihood estimate of the line integrals of each ray, by Fisher scoring.

    Solves ``sum_st slope_sk V^-1_st (measured_t - expected_t) = 0`` with the covariance V of the expected
    readings: the maximum-likelihood estimate where readings are independent Poisson numbers.

    Parameters
    ----------
    transmission : float32 array (n_meas, n_view, n_row, n_channel)
        Readings relative to air.
    quanta : float32 array (n_meas, n_view, n_row, n_channel)
        Effective quanta (mean squared over variance) that such a ray has without an object.
    mu : float32 array (n_node, n_material), cm2/g
        A multiple of ``TOGETHER`` nodes.
    weight : float32 array (n_spectrum, n_meas, n_node, n_channel)
        Shares of the nodes in the reading without an object; one spectrum for all rows, or one for each.
    precision : float64 array (n_meas, n_meas)
        Inverse of the correlation of readings (their covariance over the root of effective quanta).
    half : float32 array (n_meas, n_meas)
        Its lower triangular root, ``half @ half.T``.
    first : float32 array (n_material, n_meas, n_channel)
        Combinations of logarithms for the start.
    power : int64 array (n_term, n_material)
    coefficient : float32 array (n_term, n_material, n_channel)
        Start: ``sum_t coefficient_t prod_k combination_k ** power_tk``.
    row_lo, row_hi : int arrays (n_view,)
    path : float32 array (n_material, n_view, n_row, n_channel), written
    covariance : float32 array (n_material, n_material, n_view, n_row, n_channel), written
        Inverse of the Fisher information: the bound of Cramer and Rao. Without views: left out.
    slow, failed : int64 array (n_view,), written
        Rays that took the second way, and those of them that did not converge.
    """
    n_meas, n_view, _, n_channel = transmission.shape
    n_mat = mu.shape[1]
    wanted = covariance.shape[2] == n_view
    n_work = 4 * n_meas + n_meas * n_mat + n_mat * n_mat + 2 * n_mat + 3 + TOGETHER
    for i in prange(n_view):
        slow[i] = 0
        failed[i] = 0
        alone, one = np.empty(n_mat), np.empty((MOST, MOST))
        by_measurement, by_material = np.empty((3 + MOST, n_meas)), np.empty((2 * MOST + 1, MOST))
        for c0 in range(0, n_channel, LANES):
            c1 = min(c0 + LANES, n_channel)
            work = np.empty((n_work, c1 - c0), np.float32)
            at, change = np.empty((n_mat, c1 - c0), np.float32), np.empty(c1 - c0, np.float32)
            inverse = np.empty((n_mat, n_mat, c1 - c0), np.float32)
            begin, term = first[:, :, c0:c1].copy(), coefficient[:, :, c0:c1].copy()
            w = weight[0, :, :, c0:c1].copy()
            measured, most = np.empty((n_meas, c1 - c0), np.float32), np.empty((n_meas, c1 - c0), np.float32)
            for r in range(row_lo[i], row_hi[i]):
                if weight.shape[0] > 1:
                    w = weight[r, :, :, c0:c1].copy()
                for s in range(n_meas):
                    measured[s] = transmission[s, i, r, c0:c1]
                    most[s] = quanta[s, i, r, c0:c1]
                _solve_row(measured, most, mu, w, half, begin, power, term, at, inverse, change, work)
                for c in range(c1 - c0):
                    if not change[c] <= CLOSE:
                        slow[i] += 1
                        if not solve_ray(
                            measured[:, c],
                            most[:, c],
                            mu,
                            w,
                            c,
                            precision,
                            alone,
                            one,
                            by_measurement,
                            by_material,
                        ):
                            failed[i] += 1
                        for k in range(n_mat):
                            at[k, c] = alone[k]
                            for m in range(n_mat):
                                inverse[k, m, c] = one[k, m]
                for k in range(n_mat):
                    path[k, i, r, c0:c1] = at[k]
                    if wanted:
                        for m in range(n_mat):
                            covariance[k, m, i, r, c0:c1] = inverse[k, m]
