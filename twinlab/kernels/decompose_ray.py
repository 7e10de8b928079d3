"""Basis decomposition of one ray in float64: from nothing, with steps that hold far from the solution.

Scalar functions, which the processor's loop and the CUDA kernel call. They allocate nothing: work space comes from
the caller, ``by_measurement`` (3 + MOST, n_meas) and ``by_material`` (2 * MOST + 1, MOST), both float64.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

MOST = 4  # materials
LOGARITHMIC = 3  # first steps, on logarithms: they hold far from the solution
STEPS = 25
ENOUGH = 1e-7  # g/cm2, of all materials: change of the last step
_FLOOR = 1e-30
# rows of the work space
_MEAN, _ROOT, _RESIDUAL, _SLOPE = 0, 1, 2, 3  # of a measurement; then the slopes of materials
_FISHER, _REDUCED, _SCORE = 0, MOST, 2 * MOST  # of a material: two matrices and a vector


@njit(cache=True)
def _expectations(path, mu, weight, channel, work):
    """Transmissions of a ray, and minus the derivatives of their logarithms, into rows of ``work``."""
    n_meas, n_node, _ = weight.shape
    n_mat = mu.shape[1]
    for s in range(n_meas):
        work[_MEAN, s] = 0.0
        for k in range(n_mat):
            work[_SLOPE + k, s] = 0.0
    for q in range(n_node):
        x = 0.0
        for k in range(n_mat):
            x += mu[q, k] * path[k]
        y = math.exp(min(-x, 80.0))
        for s in range(n_meas):
            part = np.float64(weight[s, q, channel]) * y
            work[_MEAN, s] += part
            for k in range(n_mat):
                work[_SLOPE + k, s] += mu[q, k] * part
    for s in range(n_meas):
        work[_MEAN, s] = max(work[_MEAN, s], _FLOOR)
        for k in range(n_mat):
            work[_SLOPE + k, s] /= work[_MEAN, s]


@njit(cache=True)
def _residuals(measured, quanta, logarithmic, work):
    """Of each measurement: root of its quanta, and how far it is from what is expected, relative to that."""
    for s in range(measured.size):
        reading, most = max(np.float64(measured[s]), 0.0), np.float64(quanta[s])
        mean = work[_MEAN, s]
        work[_ROOT, s] = math.sqrt(max(mean * most, 1e-3))
        if logarithmic:
            # a reading of nothing counts as a tenth of a quantum
            work[_RESIDUAL, s] = math.log(max(reading, 0.1 / max(most, 1.0)) / mean)
        else:
            work[_RESIDUAL, s] = min(reading / mean - 1.0, 3.0)


@njit(cache=True)
def _normal_equations(precision, n_mat, work, square):
    """Fisher information and score of a ray, into rows of ``square``."""
    n_meas = precision.shape[0]
    for k in range(n_mat):
        square[_SCORE, k] = 0.0
        for m in range(n_mat):
            square[_FISHER + k, m] = 0.0
    for s in range(n_meas):
        for t in range(n_meas):
            factor = precision[s, t] * work[_ROOT, s] * work[_ROOT, t]
            for k in range(n_mat):
                square[_SCORE, k] += work[_SLOPE + k, s] * factor * work[_RESIDUAL, t]
                for m in range(n_mat):
                    square[_FISHER + k, m] += work[_SLOPE + k, s] * factor * work[_SLOPE + m, t]


@njit(cache=True)
def _inverted(n, square, inverse):
    """Inverse of the small Fisher information by Gauss and Jordan; False when it is singular."""
    for i in range(n):
        for j in range(n):
            square[_REDUCED + i, j] = square[_FISHER + i, j]
            inverse[i, j] = 1.0 if i == j else 0.0
    for i in range(n):
        pivot = square[_REDUCED + i, i]
        if not pivot > 0.0:
            return False
        for j in range(n):
            square[_REDUCED + i, j] /= pivot
            inverse[i, j] /= pivot
        for r in range(n):
            if r != i:
                factor = square[_REDUCED + r, i]
                for j in range(n):
                    square[_REDUCED + r, j] -= factor * square[_REDUCED + i, j]
                    inverse[r, j] -= factor * inverse[i, j]
    return True


@njit(cache=True)
def solve_ray(measured, quanta, mu, weight, channel, precision, at, inverse, by_measurement, by_material):
    """Estimate of one ray in float64 from nothing; False when it did not converge.

    ``measured``, ``quanta`` (n_meas,); ``at`` (n_material,) and ``inverse`` (MOST, MOST) are written.
    """
    n_mat = mu.shape[1]
    for k in range(n_mat):
        at[k] = 0.0
    for n in range(STEPS):
        _expectations(at, mu, weight, channel, by_measurement)
        _residuals(measured, quanta, n < LOGARITHMIC, by_measurement)
        _normal_equations(precision, n_mat, by_measurement, by_material)
        if not _inverted(n_mat, by_material, inverse):
            return False
        largest = 0.0
        for k in range(n_mat):
            change = 0.0
            for m in range(n_mat):
                change -= inverse[k, m] * by_material[_SCORE, m]
            at[k] += change
            largest = max(largest, abs(change))
        if n >= LOGARITHMIC and largest < ENOUGH:
            return True
    return False
