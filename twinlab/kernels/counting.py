"""What a photon does in the sensor of a counting detector, event by event.

A photon that meets the sensor at right angles is absorbed in a shell, or scatters incoherently and is absorbed
on its second encounter at the latest; K fluorescence travels on and may be absorbed in another pixel or leave,
and may itself set free one more fluorescence photon of a lighter element. Charge of each deposit reaches the
electrodes as a Gaussian cloud that neighbouring pixels share; each pixel adds electronic noise and compares
with thresholds. :mod:`twinlab.kernels.counting_quadrature` integrates the same model without random numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import draw
from twinlab.kernels.sampling import compton

TABLE_STEP_KEV = 0.25
HEIGHT_STEP_KEV = 0.5
OFFSETS = 4  # neighbours of a cell: itself, beside in the row, in the column, across the corner
MOST_PIXELS = 40  # four deposits, each in up to nine pixels
MOST_DEPOSITS = 4
CLOUD_REACH = 4.5  # standard deviations; beyond, 3e-6 of the charge

_NEXT = np.uint64(1)
_ROOT_HALF = math.sqrt(0.5)
_TWO_PI = 2.0 * math.pi


class Sensor(NamedTuple):
    """Sensor layer and its cross sections.

    ``share`` columns from the second on are the K shells of the elements whose fluorescence is followed.
    """

    thickness: float  # mm
    pixel: np.ndarray  # (2,) side of a pixel along channels and rows, mm
    binned: np.ndarray  # (2,) int64, pixels of a cell along channels and rows
    cloud: float  # standard deviation of the charge cloud, mm
    noise: float  # standard deviation of a registered energy, keV
    mu: np.ndarray  # (n,) 1/mm, photoelectric and incoherent, at multiples of TABLE_STEP_KEV
    share: np.ndarray  # (n, 1 + n_element) of incoherent, and of each K shell, in mu
    line: np.ndarray  # (n_line, 4): energy, element, photons per vacancy, mu at that energy
    line_share: np.ndarray  # (n_line, n_element): K shells in the absorption of the line
    scatter: np.ndarray  # (N_X,) float32, incoherent scattering function


@njit(cache=True)
def table_position(energy):
    """Node below an energy in the tables of a sensor, and the fraction of a step behind it."""
    place = energy / TABLE_STEP_KEV
    i = int(place)
    return i, place - i


@njit(cache=True)
def _interpolated(table, i, f):
    return table[i] + f * (table[i + 1] - table[i])


@njit(cache=True)
def _fraction(at, low, side, cloud):
    """Share of a Gaussian cloud between ``low`` and ``low + side`` on one axis."""
    if cloud <= 0.0:
        return 1.0 if low <= at < low + side else 0.0
    scale = _ROOT_HALF / cloud
    return 0.5 * (math.erf((low + side - at) * scale) - math.erf((low - at) * scale))


@njit(cache=True)
def spread(x, y, energy, sensor, column, row, signal, n):
    """Add the charge of a deposit to the pixels that it reaches; returns how many pixels are listed then.

    ``column``, ``row`` (int64) and ``signal`` (float64, keV) list the pixels; the first ``n`` are in use.
    """
    width, height = sensor.pixel[0], sensor.pixel[1]
    reach = CLOUD_REACH * sensor.cloud
    first_c, last_c = math.floor((x - reach) / width), math.floor((x + reach) / width)
    first_r, last_r = math.floor((y - reach) / height), math.floor((y + reach) / height)
    one = first_c == last_c and first_r == last_r
    for c in range(int(first_c), int(last_c) + 1):
        across = 1.0 if one else _fraction(x, c * width, width, sensor.cloud)
        for r in range(int(first_r), int(last_r) + 1):
            part = energy if one else energy * across * _fraction(y, r * height, height, sensor.cloud)
            k = 0
            while k < n and (column[k] != c or row[k] != r):
                k += 1
            if k == n:
                if n == column.size:
                    continue
                column[n], row[n], signal[n] = c, r, 0.0
                n += 1
            signal[k] += part
    return n


@njit(cache=True)
def bin_of(energy, thresholds):
    """Bin of a registered energy; -1 below the first threshold."""
    b = -1
    while b + 1 < thresholds.size and energy >= thresholds[b + 1]:
        b += 1
    return b


@njit(cache=True)
def neighbour(column, row, other_column, other_row, sensor):
    """Which of the ``OFFSETS`` two pixels' cells are apart; -1 for cells further away."""
    across = abs(column // sensor.binned[0] - other_column // sensor.binned[0])
    along = abs(row // sensor.binned[1] - other_row // sensor.binned[1])
    if across > 1 or along > 1:
        return -1
    return across + 2 * along


@njit(cache=True)
def _absorb(energy, element, x, y, z, sensor, deposit, n, step, history, k0, k1):
    """Photoelectric absorption with K fluorescence of up to two generations; returns deposits listed, and step."""
    for _ in range(2):
        if element < 0:
            break
        a, b, c, d = draw(step, history, k0, k1)
        step += _NEXT
        chosen, passed = -1, 0.0
        for k in range(sensor.line.shape[0]):
            if int(sensor.line[k, 1]) == element:
                passed += sensor.line[k, 2]
                if a < passed:
                    chosen = k
                    break
        if chosen < 0:  # Auger electrons: all stays
            break
        sent = sensor.line[chosen, 0]
        deposit[n, 0], deposit[n, 1], deposit[n, 2] = x, y, energy - sent
        n += 1
        energy = sent
        cosine = 2.0 * b - 1.0
        way = -math.log(d) / sensor.line[chosen, 3]
        sine = math.sqrt(max(1.0 - cosine * cosine, 0.0))
        x += way * sine * math.cos(_TWO_PI * c)
        y += way * sine * math.sin(_TWO_PI * c)
        z += way * cosine
        if z < 0.0 or z > sensor.thickness:
            return n, step
        a, _, _, _ = draw(step, history, k0, k1)
        step += _NEXT
        element = -1
        for j in range(sensor.line_share.shape[1]):
            a -= sensor.line_share[chosen, j]
            if a < 0.0:
                element = j
                break
    deposit[n, 0], deposit[n, 1], deposit[n, 2] = x, y, energy
    return n + 1, step


@njit(cache=True)
def deposits_of(energy, sensor, deposit, history, k0, k1):
    """Follow one photon: fills ``deposit`` (MOST_DEPOSITS, 3) with x, y [mm] and energy [keV].

    Returns the number of deposits and the next free step of the random stream.
    """
    step = np.uint64(0)
    a, b, c, d = draw(step, history, k0, k1)
    step += _NEXT
    x = a * sensor.pixel[0] * sensor.binned[0]
    y = b * sensor.pixel[1] * sensor.binned[1]
    i, f = table_position(energy)
    z = -math.log(c) / _interpolated(sensor.mu, i, f)
    if z > sensor.thickness:
        return 0, step
    n = 0
    scattered = d < _interpolated(sensor.share[:, 0], i, f)
    if scattered:
        cosine, ratio, turn, step = compton(np.float32(energy), sensor.scatter, step, history, k0, k1)
        deposit[0, 0], deposit[0, 1], deposit[0, 2] = x, y, energy * (1.0 - ratio)
        n, energy = 1, energy * ratio
        i, f = table_position(energy)
        a, d, _, _ = draw(step, history, k0, k1)
        step += _NEXT
        way = -math.log(a) / _interpolated(sensor.mu, i, f)
        sine = math.sqrt(max(1.0 - cosine * cosine, 0.0))
        x += way * sine * math.cos(_TWO_PI * turn)
        y += way * sine * math.sin(_TWO_PI * turn)
        z += way * cosine
        if z < 0.0 or z > sensor.thickness:
            return n, step
    element = -1
    d -= _interpolated(sensor.share[:, 0], i, f)  # a second incoherent event leaves all its energy
    if d >= 0.0:
        for j in range(sensor.share.shape[1] - 1):
            d -= _interpolated(sensor.share[:, j + 1], i, f)
            if d < 0.0:
                element = j
                break
    return _absorb(energy, element, x, y, z, sensor, deposit, n, step, history, k0, k1)


@njit(cache=True, parallel=True)
def count_photons(energy, n_photon, sensor, thresholds, first, k0, k1, counts, moments, heights):
    """Monte Carlo of photons of one energy that meet a cell evenly.

    Parameters
    ----------
    energy : float
        keV.
    n_photon : int
        Per block.
    sensor : Sensor
    thresholds : float64 array (n_bin,)
    first : uint64
        Number of the first history.
    k0, k1 : uint64
        Key of the random numbers.
    counts : int64 array (n_block, n_bin), added to
        Counts of all cells, by bin.
    moments : int64 array (n_block, OFFSETS, n_bin, n_bin), added to
        Sums over photons and pairs of cells of the product of their counts.
    heights : int64 array (n_block, n_height), added to
        Pulses by registered energy, in steps of ``HEIGHT_STEP_KEV`` around their multiples.
    """
    for block in prange(counts.shape[0]):
        deposit = np.empty((MOST_DEPOSITS, 3))
        column = np.empty(MOST_PIXELS, np.int64)
        row = np.empty(MOST_PIXELS, np.int64)
        signal = np.empty(MOST_PIXELS)
        hit = np.empty(MOST_PIXELS, np.int64)
        for i in range(n_photon):
            history = first + np.uint64(block) * np.uint64(n_photon) + np.uint64(i)
            n_deposit, step = deposits_of(energy, sensor, deposit, history, k0, k1)
            n = 0
            for k in range(n_deposit):
                n = spread(deposit[k, 0], deposit[k, 1], deposit[k, 2], sensor, column, row, signal, n)
            for k in range(n):
                a, b, _, _ = draw(step, history, k0, k1)
                step += _NEXT
                signal[k] += sensor.noise * math.sqrt(-2.0 * math.log(a)) * math.cos(_TWO_PI * b)
                hit[k] = bin_of(signal[k], thresholds)
                place = math.floor(signal[k] / HEIGHT_STEP_KEV + 0.5)
                if 0 <= place < heights.shape[1]:
                    heights[block, place] += 1
            for k in range(n):
                if hit[k] < 0:
                    continue
                counts[block, hit[k]] += 1
                for m in range(n):
                    if hit[m] >= 0:
                        where = neighbour(column[k], row[k], column[m], row[m], sensor)
                        if where >= 0:
                            moments[block, where, hit[k], hit[m]] += 1
