"""Basis decomposition ray by ray: line integrals of a few materials from measurements of several spectra."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

MOST = 4  # materials
LOGARITHMIC = 3  # first steps, on logarithms: they hold far from the solution
STEPS = 15
ENOUGH = 1e-7  # g/cm2, of all materials: change of the last step
_FLOOR = 1e-30


@njit(cache=True)
def expectations(path, mu, weight, channel, mean, slope):
    """Transmissions of a ray, and minus the derivatives of their logarithms.

    ``mean`` (n_meas,) and ``slope`` (n_meas, n_material) are written.
    """
    n_meas, n_node, n_mat = mu.shape
    for s in range(n_meas):
        total = 0.0
        for k in range(n_mat):
            slope[s, k] = 0.0
        for q in range(n_node):
            x = 0.0
            for k in range(n_mat):
                x += mu[s, q, k] * path[k]
            y = weight[s, q, channel] * math.exp(min(-x, 80.0))
            total += y
            for k in range(n_mat):
                slope[s, k] += mu[s, q, k] * y
        mean[s] = max(total, _FLOOR)
        for k in range(n_mat):
            slope[s, k] /= mean[s]


@njit(cache=True)
def information(slope, precision, quanta, matrix):
    """Fisher information of the line integrals (n_material, n_material), written to ``matrix``."""
    n_meas, n_mat = slope.shape
    for k in range(n_mat):
        for m in range(n_mat):
            total = 0.0
            for s in range(n_meas):
                for t in range(n_meas):
                    total += slope[s, k] * slope[t, m] * precision[s, t] * math.sqrt(quanta[s] * quanta[t])
            matrix[k, m] = total


@njit(cache=True)
def inverted(matrix, n, inverse):
    """Inverse of a small positive definite matrix by Gauss and Jordan; False when it is singular."""
    work = np.empty((MOST, MOST))
    for i in range(n):
        for j in range(n):
            work[i, j] = matrix[i, j]
            inverse[i, j] = 1.0 if i == j else 0.0
    for i in range(n):
        pivot = work[i, i]
        if not pivot > 0.0:
            return False
        for j in range(n):
            work[i, j] /= pivot
            inverse[i, j] /= pivot
        for r in range(n):
            if r != i:
                factor = work[r, i]
                for j in range(n):
                    work[r, j] -= factor * work[i, j]
                    inverse[r, j] -= factor * inverse[i, j]
    return True


@njit(cache=True)
def _score(slope, precision, quanta, residual, k):
    total = 0.0
    for s in range(slope.shape[0]):
        for t in range(slope.shape[0]):
            total += slope[s, k] * precision[s, t] * math.sqrt(quanta[s] * quanta[t]) * residual[t]
    return total


@njit(cache=True, parallel=True)
def decompose_rays(transmission, quanta, mu, weight, precision, row_lo, row_hi, path, covariance, failed):
    """Quasi-likelihood estimate of the line integrals of each ray, by Fisher scoring.

    Solves ``sum_st slope_sk V^-1_st (measured_t - expected_t) = 0`` with the covariance V of the expected
    readings: the maximum-likelihood estimate where readings are independent Poisson numbers.

    Parameters
    ----------
    transmission : float32 array (n_meas, n_view, n_row, n_channel)
        Readings relative to air.
    quanta : float32 array (n_meas, n_view, n_row, n_channel)
        Effective quanta (mean squared over variance) that such a ray has without an object.
    mu : float64 array (n_meas, n_node, n_material), cm2/g
    weight : float64 array (n_meas, n_node, n_channel)
        Shares of the nodes in the reading without an object.
    precision : float64 array (n_meas, n_meas)
        Inverse of the correlation of readings (their covariance over the root of effective quanta).
    row_lo, row_hi : int arrays (n_view,)
    path : float32 array (n_material, n_view, n_row, n_channel), written
    covariance : float32 array (n_material, n_material, n_view, n_row, n_channel), written
        Inverse of the Fisher information: the bound of Cramer and Rao.
    failed : int64 array (n_view,), written
        Rays that did not converge.
    """
    n_meas, n_view, _, n_channel = transmission.shape
    n_mat = mu.shape[2]
    for i in prange(n_view):
        at, step = np.zeros(n_mat), np.zeros(n_mat)
        mean, residual, weightier = np.empty(n_meas), np.empty(n_meas), np.empty(n_meas)
        slope, fisher, inverse = np.empty((n_meas, n_mat)), np.empty((MOST, MOST)), np.empty((MOST, MOST))
        failed[i] = 0
        for r in range(row_lo[i], row_hi[i]):
            for c in range(n_channel):
                for k in range(n_mat):
                    at[k] = 0.0
                done = False
                for n in range(STEPS):
                    expectations(at, mu, weight, c, mean, slope)
                    for s in range(n_meas):
                        measured = max(np.float64(transmission[s, i, r, c]), 0.0)
                        weightier[s] = max(mean[s] * quanta[s, i, r, c], 1e-3)
                        if n < LOGARITHMIC:
                            # a reading of nothing counts as a tenth of a quantum
                            least = 0.1 / max(np.float64(quanta[s, i, r, c]), 1.0)
                            residual[s] = math.log(max(measured, least) / mean[s])
                        else:
                            residual[s] = min(measured / mean[s] - 1.0, 3.0)
                    information(slope, precision, weightier, fisher)
                    if not inverted(fisher, n_mat, inverse):
                        break
                    largest = 0.0
                    for k in range(n_mat):
                        step[k] = _score(slope, precision, weightier, residual, k)
                    for k in range(n_mat):
                        change = 0.0
                        for m in range(n_mat):
                            change -= inverse[k, m] * step[m]
                        at[k] += change
                        largest = max(largest, abs(change))
                    if n >= LOGARITHMIC and largest < ENOUGH:
                        done = True
                        break
                if not done:
                    failed[i] += 1
                for k in range(n_mat):
                    path[k, i, r, c] = at[k]
                    for m in range(n_mat):
                        covariance[k, m, i, r, c] = inverse[k, m]
