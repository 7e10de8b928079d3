"""Expected counts of a photon-counting detector, without random numbers.

The model of :mod:`twinlab.kernels.counting`, integrated: processes, lines and generations of fluorescence are
summed with their probabilities, electronic noise by its distribution function, and only places, directions
and path lengths are sampled, at the points of a low-discrepancy sequence.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.counting import (
    HEIGHT_STEP_KEV,
    MOST_DEPOSITS,
    MOST_PIXELS,
    neighbour,
    spread,
    table_position,
)
from twinlab.kernels.sampling import ELECTRON_REST_KEV, KEV_ANGSTROM, N_X, X_MAX

DIMENSIONS = 12  # place and depth (3), two generations of fluorescence (3 each), scattering (3)
SCATTER_EVERY = 4  # incoherent events are few: every fourth point serves

_ROOT_HALF = math.sqrt(0.5)
_TWO_PI = 2.0 * math.pi
_FAR = 6.0  # standard deviations of noise beyond which a pixel surely counts or does not
_FAINT_KEV = 0.02  # pixels with less than this are not listed among the pulse heights


@njit(cache=True)
def _above(signal, threshold, noise):
    """Probability that a signal with Gaussian noise passes a threshold."""
    if noise <= 0.0:
        return 1.0 if signal >= threshold else 0.0
    away = (signal - threshold) / noise
    if away > _FAR:
        return 1.0
    if away < -_FAR:
        return 0.0
    return 0.5 * math.erfc(-away * _ROOT_HALF)


@njit(cache=True)
def _shifted(u, shift):
    """Sum modulo 1, kept off 0, of which a logarithm is taken."""
    u += shift
    return max(u - math.floor(u), 1e-12)


@njit(cache=True)
def _moved(x, y, z, cosine, turn, way):
    sine = math.sqrt(max(1.0 - cosine * cosine, 0.0))
    return (
        x + way * sine * math.cos(_TWO_PI * turn),
        y + way * sine * math.sin(_TWO_PI * turn),
        z + way * cosine,
    )


@njit(cache=True)
def _score(weight, deposit, n_deposit, sensor, thresholds, work, places, counts, moments, heights):
    """Expected counts of one set of deposits, times its weight."""
    column, row, signal = places[0], places[1], work[0]
    n = 0
    for k in range(n_deposit):
        n = spread(deposit[k, 0], deposit[k, 1], deposit[k, 2], sensor, column, row, signal, n)
    n_bin = thresholds.size
    used = 0
    for k in range(n):
        place = signal[k] / HEIGHT_STEP_KEV
        if signal[k] > _FAINT_KEV:
            i = int(place)
            heights[i] += weight * (1.0 - (place - i))
            heights[i + 1] += weight * (place - i)
        higher = _above(signal[k], thresholds[0], sensor.noise)
        if higher == 0.0:
            continue
        for b in range(n_bin):
            lower = higher
            higher = _above(signal[k], thresholds[b + 1], sensor.noise) if b + 1 < n_bin else 0.0
            work[1 + b, used] = lower - higher
            counts[b] += weight * (lower - higher)
            moments[0, b, b] += weight * (lower - higher)  # a pixel with itself: one count at most
        column[used], row[used] = column[k], row[k]
        used += 1
    for k in range(used):
        for m in range(used):
            where = -1 if m == k else neighbour(column[k], row[k], column[m], row[m], sensor)
            if where < 0:
                continue
            for b in range(n_bin):
                if work[1 + b, k] > 0.0:
                    for c in range(n_bin):
                        moments[where, b, c] += weight * work[1 + b, k] * work[1 + c, m]


@njit(cache=True)
def _put(deposit, n, x, y, energy):
    deposit[n, 0], deposit[n, 1], deposit[n, 2] = x, y, energy


@njit(cache=True)
def _absorbed(
    weight, energy, i, f, left, x, y, z, n, point, sensor, thresholds, deposit, work, places, counts, moments,
    heights,
):  # fmt: skip
    """All ways in which a photon of table position (i, f) is absorbed; ``left`` of the weight is photoelectric."""
    local = left
    for k in range(sensor.line.shape[0]):
        e = 1 + int(sensor.line[k, 1])
        share = sensor.share[i, e] + f * (sensor.share[i + 1, e] - sensor.share[i, e])
        chance = share * sensor.line[k, 2]
        if chance <= 0.0:
            continue
        local -= chance
        sent = sensor.line[k, 0]
        _put(deposit, n, x, y, energy - sent)
        x1, y1, z1 = _moved(x, y, z, 2.0 * point[3] - 1.0, point[4], -math.log(point[5]) / sensor.line[k, 3])
        if z1 < 0.0 or z1 > sensor.thickness:
            _score(
                weight * chance, deposit, n + 1, sensor, thresholds, work, places, counts, moments, heights
            )
            continue
        here = 1.0
        for m in range(sensor.line.shape[0]):
            again = sensor.line_share[k, int(sensor.line[m, 1])] * sensor.line[m, 2]
            if again <= 0.0:
                continue
            here -= again
            _put(deposit, n + 1, x1, y1, sent - sensor.line[m, 0])
            way = -math.log(point[8]) / sensor.line[m, 3]
            x2, y2, z2 = _moved(x1, y1, z1, 2.0 * point[6] - 1.0, point[7], way)
            inside = 0.0 <= z2 <= sensor.thickness
            _put(deposit, n + 2, x2, y2, sensor.line[m, 0])
            listed = n + 3 if inside else n + 2
            _score(
                weight * chance * again,
                deposit,
                listed,
                sensor,
                thresholds,
                work,
                places,
                counts,
                moments,
                heights,
            )
        _put(deposit, n + 1, x1, y1, sent)
        _score(
            weight * chance * here, deposit, n + 2, sensor, thresholds, work, places, counts, moments, heights
        )
    _put(deposit, n, x, y, energy)
    _score(weight * local, deposit, n + 1, sensor, thresholds, work, places, counts, moments, heights)


@njit(cache=True)
def _likelihood(energy, cosine, scatter):
    """Klein-Nishina times scattering function, any scale, and the energy ratio."""
    ratio = 1.0 / (1.0 + energy / ELECTRON_REST_KEV * (1.0 - cosine))
    place = energy / KEV_ANGSTROM * math.sqrt(0.5 * (1.0 - cosine)) * (N_X - 1) / X_MAX
    i = min(int(place), N_X - 2)
    loose = scatter[i] + (place - i) * (scatter[i + 1] - scatter[i])
    return ratio * ratio * (ratio + 1.0 / ratio - (1.0 - cosine * cosine)) * loose, ratio


@njit(cache=True)
def _scattered(
    weight, energy, x, y, z, point, ratio, cosine, sensor, thresholds, deposit, work, places, counts, moments,
    heights,
):  # fmt: skip
    """First an incoherent event; its photon leaves, or is absorbed at its next encounter."""
    _put(deposit, 0, x, y, energy * (1.0 - ratio))
    energy *= ratio
    i, f = table_position(energy)
    mu = sensor.mu[i] + f * (sensor.mu[i + 1] - sensor.mu[i])
    x, y, z = _moved(x, y, z, cosine, point[10], -math.log(point[11]) / mu)
    if z < 0.0 or z > sensor.thickness:
        _score(weight, deposit, 1, sensor, thresholds, work, places, counts, moments, heights)
        return
    _absorbed(
        weight, energy, i, f, 1.0, x, y, z, 1, point, sensor, thresholds, deposit, work, places, counts, moments,
        heights,
    )  # fmt: skip


@njit(cache=True, parallel=True)
def expected_counts(energies, points, shifts, sensor, thresholds, counts, moments, heights):
    """Mean counts, products of counts and pulse heights of one photon that meets a cell, for many energies.

    Parameters
    ----------
    energies : float64 array (n_energy,)
        keV.
    points : float64 array (n_point, DIMENSIONS)
        In [0, 1), evenly spread.
    shifts : float64 array (n_energy, DIMENSIONS)
        Added to the points modulo 1: errors of neighbouring energies are then independent and average out.
    sensor : twinlab.kernels.counting.Sensor
    thresholds : float64 array (n_bin,)
    counts : float64 array (n_energy, n_bin), added to
    moments : float64 array (n_energy, OFFSETS, n_bin, n_bin), added to
        As :func:`twinlab.kernels.counting.count_photons`.
    heights : float64 array (n_energy, n_height), added to
        Pulses by energy without noise.
    """
    n_point = points.shape[0]
    for e in prange(energies.size):
        deposit = np.empty((MOST_DEPOSITS + 1, 3))
        work = np.empty((1 + thresholds.size, MOST_PIXELS))
        places = np.empty((2, MOST_PIXELS), np.int64)
        point = np.empty(DIMENSIONS)
        energy = energies[e]
        i, f = table_position(energy)
        mu = sensor.mu[i] + f * (sensor.mu[i + 1] - sensor.mu[i])
        stopped = -math.expm1(-mu * sensor.thickness)
        incoherent = sensor.share[i, 0] + f * (sensor.share[i + 1, 0] - sensor.share[i, 0])
        scale = 0.0
        for p in range(0, n_point, SCATTER_EVERY):
            scale += _likelihood(energy, 2.0 * _shifted(points[p, 9], shifts[e, 9]) - 1.0, sensor.scatter)[0]
        for p in range(n_point):
            for d in range(DIMENSIONS):
                point[d] = _shifted(points[p, d], shifts[e, d])
            x = point[0] * sensor.pixel[0] * sensor.binned[0]
            y = point[1] * sensor.pixel[1] * sensor.binned[1]
            z = -math.log1p(-point[2] * stopped) / mu
            _absorbed(
                stopped / n_point, energy, i, f, 1.0 - incoherent, x, y, z, 0, point, sensor, thresholds,
                deposit, work, places, counts[e], moments[e], heights[e],
            )  # fmt: skip
            if p % SCATTER_EVERY == 0:
                cosine = 2.0 * point[9] - 1.0
                chance, ratio = _likelihood(energy, cosine, sensor.scatter)
                _scattered(
                    stopped * incoherent * chance / scale, energy, x, y, z, point, ratio, cosine, sensor,
                    thresholds, deposit, work, places, counts[e], moments[e], heights[e],
                )  # fmt: skip
