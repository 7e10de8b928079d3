"""What a tube's sensors have told, in blocks of days, and moves of particles under all of it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.wear_days import ARCS, CURRENT, CURRENT_SLOPE, OUTPUT, VIBRATION, WATCHED
from twinlab.kernels.wear_filter import (
    CURRENT_OFFSET,
    EVAPORATION,
    GROWN,
    GROWTH,
    MISSED,
    OFFSET_0,
    OFFSET_1,
    PARTICLE,
    POWER,
    ROUGHNESS,
    SEEN,
    STATICS,
    THINNED,
    VIBRATION_OFFSET,
    log_alive,
    log_poisson,
    particle_arcs,
    particle_output,
    set_wear,
    thinned,
    unseen_share,
)

# history in blocks: sums of weights, weighted values and stresses (seen, missed) of each sensor
CURRENT_BLOCK, VIBRATION_BLOCK, OUTPUT_BLOCK, ARCS_BLOCK = 0, 5, 9, 13
BLOCK = 19


@njit(cache=True)
def add_to_block(block, day, stress, noise):
    """Add a day's readings to a block of the history."""
    for sensor in range(3):
        if noise[sensor] <= 0.0:
            continue
        first = (CURRENT_BLOCK, VIBRATION_BLOCK, OUTPUT_BLOCK)[sensor]
        w = 1.0 / noise[sensor]
        block[first] += w
        block[first + 1] += w * day[(CURRENT, VIBRATION, OUTPUT)[sensor]]
        block[first + 2] += w * stress[SEEN + sensor]
        block[first + 3] += w * stress[MISSED + sensor]
        if sensor == 0:
            block[first + 4] += w * day[CURRENT_SLOPE]
    if day[WATCHED] > 0.0:
        a, e = ARCS_BLOCK, day[WATCHED]
        block[a] += day[ARCS]
        block[a + 1] += e
        block[a + 2] += e * stress[SEEN]
        block[a + 3] += e * stress[MISSED]
        block[a + 4] += e * stress[SEEN + 2]
        block[a + 5] += e * stress[MISSED + 2]


@njit(cache=True)
def offset_likelihood(w, wy, wyy, mean, variance):
    """Log likelihood of residuals with a common Gaussian offset, up to a constant; the offset's mean afterwards."""
    total = w + 1.0 / variance
    best = (wy + mean / variance) / total
    return 0.5 * (total * best * best - wyy - mean * mean / variance), best


@njit(cache=True)
def log_history(p, blocks, stress, prior_mean, precision, given, constants):
    """Log posterior density of a particle's factors up to a constant: prior, history in blocks, alive until now.

    Sets wear, offsets and the bearing's limit of the particle as the factors and the history have them.
    """
    total = 0.0
    for j in range(STATICS):
        for k in range(STATICS):
            total -= 0.5 * (p[j] - prior_mean[j]) * precision[j, k] * (p[k] - prior_mean[k])
    for m in range(3):
        p[CURRENT_OFFSET + m] = given[m, 0]
        for k in range(STATICS):
            p[CURRENT_OFFSET + m] += given[m, 1 + k] * p[k]
    share = unseen_share(p)
    evaporation, growth, roughness = math.exp(p[EVAPORATION]), math.exp(p[GROWTH]), math.exp(p[ROUGHNESS])
    sums = np.zeros(6)
    for n in range(blocks.shape[0]):
        b = blocks[n]
        w = b[CURRENT_BLOCK]
        if w > 0.0:
            x = (b[CURRENT_BLOCK + 2] + share * b[CURRENT_BLOCK + 3]) / w
            y = b[CURRENT_BLOCK + 1] / w + b[CURRENT_BLOCK + 4] / w * thinned(evaporation, x, stress[POWER])
            sums[0] += w
            sums[1] += w * y
            sums[2] += w * y * y
        w = b[VIBRATION_BLOCK]
        if w > 0.0:
            y = (
                b[VIBRATION_BLOCK + 1] - growth * (b[VIBRATION_BLOCK + 2] + share * b[VIBRATION_BLOCK + 3])
            ) / w
            sums[3] += w
            sums[4] += w * y
            sums[5] += w * y * y
        w = b[OUTPUT_BLOCK]
        if w > 0.0:
            p[GROWN] = roughness * (b[OUTPUT_BLOCK + 2] + share * b[OUTPUT_BLOCK + 3]) / w
            total -= 0.5 * w * (b[OUTPUT_BLOCK + 1] / w - particle_output(p, constants)) ** 2
        e = b[ARCS_BLOCK + 1]
        if e > 0.0:
            x = (b[ARCS_BLOCK + 2] + share * b[ARCS_BLOCK + 3]) / e
            p[THINNED] = thinned(evaporation, x, stress[POWER])
            p[GROWN] = roughness * (b[ARCS_BLOCK + 4] + share * b[ARCS_BLOCK + 5]) / e
            total += log_poisson(b[ARCS_BLOCK], e * particle_arcs(p, constants))
    part, best = offset_likelihood(sums[0], sums[1], sums[2], p[CURRENT_OFFSET], constants[OFFSET_0])
    p[CURRENT_OFFSET] = best
    total += part
    part, best = offset_likelihood(sums[3], sums[4], sums[5], p[VIBRATION_OFFSET], constants[OFFSET_1])
    p[VIBRATION_OFFSET] = best
    set_wear(p, stress)
    return total + part + log_alive(p, constants)


@njit(cache=True)
def distance(p, centre, inverse):
    """Squared distance from the centre of a Gaussian, in its standard deviations."""
    total = 0.0
    for m in range(STATICS):
        own = 0.0
        for n in range(STATICS):
            own += inverse[m, n] * (p[n] - centre[n])
        total += own * own
    return total


@njit(cache=True)
def move(
    particles, blocks, stress, prior_mean, precision, given, constants, centre, root, inverse, normal, log_u
):
    """Metropolis and Hastings' steps of every particle under its whole history; the share that was accepted.

    Odd steps propose anywhere in a Gaussian of the particles (independence), even ones near by.

    Parameters
    ----------
    particles, stress, constants
        See :func:`step`; particles are equally weighted.
    blocks : float64 array (block, BLOCK)
    prior_mean, precision, given : float64 arrays (STATICS,), (STATICS, STATICS), (3, 1 + STATICS)
    centre, root, inverse : float64 arrays (STATICS,), (STATICS, STATICS) twice
        Gaussian of the proposals, ``root`` a square root of its covariance.
    normal, log_u : float64 arrays (particle, step, STATICS), (particle, step)
    """
    accepted = 0
    tried = np.empty(PARTICLE)
    near = 1.7 / math.sqrt(STATICS)
    for i in range(particles.shape[0]):
        p = particles[i]
        now = log_history(p, blocks, stress, prior_mean, precision, given, constants)
        for k in range(normal.shape[1]):
            z = normal[i, k]
            tried[:] = p
            for m in range(STATICS):
                shift = 0.0
                for n in range(STATICS):
                    shift += root[m, n] * z[n]
                tried[m] = centre[m] + shift if k % 2 == 0 else p[m] + near * shift
            ratio = 0.0
            if k % 2 == 0:  # from the points, so that directions without spread count for neither
                ratio = 0.5 * (distance(tried, centre, inverse) - distance(p, centre, inverse))
            then = log_history(tried, blocks, stress, prior_mean, precision, given, constants)
            if log_u[i, k] < then - now + ratio:
                p[:] = tried
                now = then
                accepted += 1
    return accepted / (particles.shape[0] * normal.shape[1])
