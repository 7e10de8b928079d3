"""A tube followed day by day: one day's step of all particles, remaining life of each.

The physics is that of the simulator. A day's stress is reckoned for the median tube (``wear_days``); what a tube
differs by is a factor of its own on each kind of wear.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.wear_days import (
    ARC_EXPOSURE,
    ARCS,
    BEARING,
    CURRENT,
    CURRENT_SLOPE,
    N_CURRENT,
    N_OUTPUT,
    N_VIBRATION,
    OUTPUT,
    RATE_SLOPE,
    ROUGHENING,
    THINNING,
    VIBRATION,
    WATCHED,
)
from twinlab.kernels.wear_rates import LOSS_REF, roughness_output

# what a particle is: logarithms of its factors (static; the last is the normal score of the share of the usual work
# that was done while telemetry lacked), its wear, its two offsets as thought, and the mean law of its bearing's end
EVAPORATION, GROWTH, ROUGHNESS, LOSS_AT_1, NEW_UM, ARC_SCALE, ARC_LOSS, ARC_TRACK, UNSEEN = range(9)
STATICS = 9
THINNED, TREND, GROWN, CURRENT_OFFSET, VIBRATION_OFFSET, LIMIT_MEAN = range(9, 15)
PARTICLE = 15

# stress since the tube was new: of thinning, bearing and roughening, seen and (times its share) not; power of thinning
SEEN, MISSED, POWER = 0, 3, 6
STRESS = 7

# constants of one tube model
LIMIT, LIMIT_SD, SEIZED_SD, OUTPUT_POWER, OUTPUT_LIMIT, FATAL = range(6)
NOISE_CURRENT, NOISE_VIBRATION, NOISE_OUTPUT, FLOOR_CURRENT, FLOOR_OUTPUT, OFFSET_0, OFFSET_1 = range(6, 13)
CONSTANTS = 13

CAUSES = ("filament", "bearing", "track", "arcing")
STEPS = 6  # of the integral of the hazard of arcs
BURNT = 2.0


@njit(cache=True)
def log_survival(z):
    """Logarithm of a normal law's upper tail beyond z."""
    if z < 5.0:
        return math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
    return -0.5 * z * z - math.log(z * math.sqrt(2.0 * math.pi)) + math.log1p(-1.0 / (z * z) + 3.0 / z**4)


@njit(cache=True)
def particle_loss(p):
    """Share of the filament's mass that is gone."""
    return -math.expm1(-2.0 * p[THINNED])


@njit(cache=True)
def particle_output(p, constants):
    """Output over that of a new tube; below 0 for roughness without sense."""
    new = math.exp(p[NEW_UM])
    return roughness_output(new + p[GROWN], new, math.exp(p[LOSS_AT_1]), constants[OUTPUT_POWER])


@njit(cache=True)
def particle_arcs(p, constants):
    """Arcs over those of a new median tube."""
    worn = math.exp(p[ARC_LOSS]) * particle_loss(p) / LOSS_REF
    worn += math.exp(p[ARC_TRACK]) * (1.0 - particle_output(p, constants)) / 0.1
    return math.exp(p[ARC_SCALE] + worn)


@njit(cache=True)
def log_alive(p, constants):
    """Log probability that neither filament nor bearing has reached its limit, which are known in law only."""
    if particle_output(p, constants) <= constants[OUTPUT_LIMIT] or p[THINNED] >= BURNT:
        return -1e6
    total = 0.0
    if p[THINNED] > 0.0:
        total += log_survival((math.log(particle_loss(p)) - constants[LIMIT]) / constants[LIMIT_SD])
    if p[TREND] > 0.0:
        total += log_survival((math.log(p[TREND]) - p[LIMIT_MEAN]) / constants[SEIZED_SD])
    return total


@njit(cache=True)
def thinned(factor, stress, power):
    """Minus log of the diameter ratio: ``d ln r / dt = -c s r^-power``, solved; BURNT where the wire is gone."""
    left = 1.0 - power * factor * stress
    return -math.log(left) / power if left > 1e-3 else BURNT


@njit(cache=True)
def unseen_share(p):
    """Share of the usual work that was done while telemetry lacked."""
    return 0.5 * math.erfc(-p[UNSEEN] / math.sqrt(2.0))


@njit(cache=True)
def set_wear(p, stress):
    """Wear of a particle after the stress of its life."""
    share = unseen_share(p)
    p[THINNED] = thinned(math.exp(p[EVAPORATION]), stress[0] + share * stress[3], stress[POWER])
    p[TREND] = math.exp(p[GROWTH]) * (stress[1] + share * stress[4])
    p[GROWN] = math.exp(p[ROUGHNESS]) * (stress[2] + share * stress[5])


@njit(cache=True)
def expected(p, day, constants, out):
    """What sensors would show of a day: log current over the median's, log vibration, output, arcs."""
    out[0] = p[CURRENT_OFFSET] - day[CURRENT_SLOPE] * p[THINNED]
    out[1] = p[VIBRATION_OFFSET] + p[TREND]
    out[2] = particle_output(p, constants)
    out[3] = day[WATCHED] * particle_arcs(p, constants)


@njit(cache=True)
def gaussian(residual, variance):
    """Log density."""
    return -0.5 * (residual * residual / variance + math.log(2.0 * math.pi * variance))


@njit(cache=True)
def sensor_noise(day, constants, noise):
    """Variances of a day's means of current, vibration and output; 0 without readings."""
    noise[:] = 0.0
    if day[N_CURRENT] > 0.0:
        noise[0] = constants[NOISE_CURRENT] ** 2 / day[N_CURRENT] + constants[FLOOR_CURRENT] ** 2
    if day[N_VIBRATION] > 0.0:
        noise[1] = constants[NOISE_VIBRATION] ** 2 / day[N_VIBRATION]
    if day[N_OUTPUT] > 0.0:
        noise[2] = constants[NOISE_OUTPUT] ** 2 / day[N_OUTPUT] + constants[FLOOR_OUTPUT] ** 2


@njit(cache=True)
def log_poisson(count, mean):
    """Log probability of a count."""
    mean = max(mean, 1e-12)
    return count * math.log(mean) - mean - math.lgamma(count + 1.0)


@njit(cache=True)
def step(particles, log_weights, day, stress, noise, variances, constants, seen):
    """One day of all particles: wear, survival, and what the sensors say.

    Offsets of current and vibration are Gaussian given a particle's factors, and are followed by Kalman's step,
    whose variances all particles share.

    Parameters
    ----------
    particles : float64 array (particle, PARTICLE)
    log_weights : float64 array (particle,)
        The day's log likelihood is added.
    day : float64 array (DAY_FEATURES,)
    stress : float64 array (STRESS,)
        After the day.
    noise : float64 array (3,)
        From :func:`sensor_noise`.
    variances : float64 array (2,)
        Of the offsets of current and vibration; updated.
    constants : float64 array (CONSTANTS,)
    seen : float64 array (particle, 4)
        Filled with what each particle expected of the sensors before it saw them.
    """
    gain0 = variances[0] / (variances[0] + noise[0]) if noise[0] > 0.0 else 0.0
    gain1 = variances[1] / (variances[1] + noise[1]) if noise[1] > 0.0 else 0.0
    for i in range(particles.shape[0]):
        p = particles[i]
        before = log_alive(p, constants)
        set_wear(p, stress)
        gained = log_alive(p, constants) - before
        expected(p, day, constants, seen[i])
        if noise[0] > 0.0:
            residual = day[CURRENT] - seen[i, 0]
            gained += gaussian(residual, variances[0] + noise[0])
            p[CURRENT_OFFSET] += gain0 * residual
        if noise[1] > 0.0:
            residual = day[VIBRATION] - seen[i, 1]
            gained += gaussian(residual, variances[1] + noise[1])
            p[VIBRATION_OFFSET] += gain1 * residual
        if noise[2] > 0.0:
            gained += gaussian(day[OUTPUT] - seen[i, 2], noise[2])
        if day[WATCHED] > 0.0:
            gained += log_poisson(day[ARCS], seen[i, 3])
        log_weights[i] += gained
    variances[0] *= 1.0 - gain0
    variances[1] *= 1.0 - gain1


@njit(cache=True)
def systematic(weights, u, chosen):
    """Systematic resampling (Kitagawa 1996): indices of the particles that survive, ascending.

    Parameters
    ----------
    weights : float64 array (particle,)
        Sum 1.
    u : float
        Uniform in [0, 1).
    chosen : int64 array (particle,)
        Filled.
    """
    n = chosen.size
    total, j = weights[0], 0
    for i in range(n):
        while total < (i + u) / n and j < weights.size - 1:
            j += 1
            total += weights[j]
        chosen[i] = j


@njit(cache=True)
def remaining(particles, z_limits, budget, usual, constants, days, causes, worn):
    """Days of a usual workload until each particle fails, and of what.

    Parameters
    ----------
    particles : float64 array (particle, PARTICLE)
    z_limits : float64 array (particle, 2)
        Limits of filament and bearing in standard deviations of their law, beyond the present wear.
    budget : float64 array (particle,)
        Fatal arcs until the last: exponential numbers.
    usual : float64 array (DAY_FEATURES,)
        Stress of a mean day.
    constants : float64 array (CONSTANTS,)
    days, causes : float64 and int64 array (particle,)
        Filled; causes are indices of ``CAUSES``.
    worn : float64 array (particle, 3)
        Filled: mass loss, bearing wear (1: seized), output.
    """
    ahead = np.empty(PARTICLE)
    for i in range(particles.shape[0]):
        p = particles[i]
        power = 1.0 + usual[RATE_SLOPE]
        limit = min(math.exp(constants[LIMIT] + constants[LIMIT_SD] * z_limits[i, 0]), 0.9)
        end = -0.5 * math.log1p(-limit)
        rate = usual[THINNING] * math.exp(p[EVAPORATION])
        times = np.empty(3)
        times[0] = (math.exp(-power * p[THINNED]) - math.exp(-power * end)) / (power * rate)
        seized = math.exp(p[LIMIT_MEAN] + constants[SEIZED_SD] * z_limits[i, 1])
        times[1] = (seized - p[TREND]) / (usual[BEARING] * math.exp(p[GROWTH]))
        new, loss = math.exp(p[NEW_UM]), math.exp(p[LOSS_AT_1])
        new_output = 1.0 - loss * new ** constants[OUTPUT_POWER]
        roughest = ((1.0 - constants[OUTPUT_LIMIT] * new_output) / loss) ** (1.0 / constants[OUTPUT_POWER])
        times[2] = (roughest - new - p[GROWN]) / (usual[ROUGHENING] * math.exp(p[ROUGHNESS]))
        cause = int(np.argmin(times))
        left = max(times[cause], 0.0)
        worn[i, 0], worn[i, 1] = particle_loss(p), p[TREND] / seized
        worn[i, 2] = particle_output(p, constants)
        # a fatal arc before: hazard by the middle of steps, wear meanwhile without its feedback
        spent, h = 0.0, left / STEPS
        for k in range(STEPS):
            ahead[:] = p
            passed = (k + 0.5) * h
            ahead[THINNED] += rate * passed * math.exp(power * p[THINNED])
            ahead[GROWN] += usual[ROUGHENING] * math.exp(p[ROUGHNESS]) * passed
            hazard = constants[FATAL] * usual[ARC_EXPOSURE] * particle_arcs(ahead, constants)
            if spent + hazard * h > budget[i]:
                left, cause = k * h + (budget[i] - spent) / hazard, 3
                break
            spent += hazard * h
        days[i], causes[i] = left, cause
