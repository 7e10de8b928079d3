"""Basis decomposition of one ray in float64: from nothing, with steps that hold far from the solution."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

MOST = 4  # materials
LOGARITHMIC = 3  # first steps, on logarithms: they hold far from the solution
STEPS = 25
ENOUGH = 1e-7  # g/cm2, of all materials: change of the last step
_FLOOR = 1e-30


@njit(cache=True)
def expectations(path, mu, weight, channel, mean, slope):
    """Transmissions of a ray, and minus the derivatives of their logarithms.

    ``mean`` (n_meas,) and ``slope`` (n_meas, n_material) are written.
    """
    n_meas, n_node, _ = weight.shape
    n_mat = mu.shape[1]
    mean[:] = 0.0
    slope[:] = 0.0
    for q in range(n_node):
        x = 0.0
        for k in range(n_mat):
            x += mu[q, k] * path[k]
        y = math.exp(min(-x, 80.0))
        for s in range(n_meas):
            part = weight[s, q, channel] * y
            mean[s] += part
            for k in range(n_mat):
                slope[s, k] += mu[q, k] * part
    for s in range(n_meas):
        mean[s] = max(mean[s], _FLOOR)
        for k in range(n_mat):
            slope[s, k] /= mean[s]


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
def solve_ray(measured, quanta, mu, weight, channel, precision, at, inverse):
    """Estimate of one ray in float64 from nothing; False when it did not converge.

    ``measured``, ``quanta`` (n_meas,); ``at`` (n_material,) and ``inverse`` (MOST, MOST) are written.
    """
    n_meas, n_mat = measured.size, at.size
    mean, residual, root = np.empty(n_meas), np.empty(n_meas), np.empty(n_meas)
    slope, fisher, score = np.empty((n_meas, n_mat)), np.zeros((MOST, MOST)), np.empty(n_mat)
    at[:] = 0.0
    for n in range(STEPS):
        expectations(at, mu, weight, channel, mean, slope)
        for s in range(n_meas):
            reading = max(np.float64(measured[s]), 0.0)
            root[s] = math.sqrt(max(mean[s] * quanta[s], 1e-3))
            if n < LOGARITHMIC:
                # a reading of nothing counts as a tenth of a quantum
                residual[s] = math.log(max(reading, 0.1 / max(np.float64(quanta[s]), 1.0)) / mean[s])
            else:
                residual[s] = min(reading / mean[s] - 1.0, 3.0)
        fisher[:] = 0.0
        score[:] = 0.0
        for s in range(n_meas):
            for t in range(n_meas):
                factor = precision[s, t] * root[s] * root[t]
                for k in range(n_mat):
                    score[k] += slope[s, k] * factor * residual[t]
                    for m in range(n_mat):
                        fisher[k, m] += slope[s, k] * factor * slope[t, m]
        if not inverted(fisher, n_mat, inverse):
            return False
        largest = 0.0
        for k in range(n_mat):
            change = 0.0
            for m in range(n_mat):
                change -= inverse[k, m] * score[m]
            at[k] += change
            largest = max(largest, abs(change))
        if n >= LOGARITHMIC and largest < ENOUGH:
            return True
    return False
