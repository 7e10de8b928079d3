"""A tube followed day by day: stress of its scans, one day's step of all particles, remaining life of each.

The physics is that of ``wear_filament`` and ``wear_rates``, which the simulator uses too. A day's stress is
reckoned for the median tube; what a tube differs by is a factor of its own on each kind of wear.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.wear_filament import filament_temperature, heating_current, thinning_rate
from twinlab.kernels.wear_rates import (
    LOSS_REF,
    arc_rate,
    bearing_rate,
    roughening_rate,
    roughness_output,
)
from twinlab.kernels.wear_thermal import band_rise, spot_rise

KELVIN = 273.15
PROBE = 0.97  # diameter ratio at which slopes against a new wire are taken, the middle of a life

# what a day tells: stresses of the median tube, slopes, logarithms of sensors' means with their counts
THINNING, BEARING, ROUGHENING, ARC_EXPOSURE, SECONDS, SCANS = range(6)
RATE_SLOPE, CURRENT_SLOPE = 6, 7
CURRENT, N_CURRENT, VIBRATION, N_VIBRATION, OUTPUT, N_OUTPUT, ARCS, WATCHED = range(8, 16)
DAY_FEATURES = 16
STRESSES = 8  # the first columns, which need no sensor

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

# history in blocks: sums of weights, weighted values and stresses (seen, missed) of each sensor
CURRENT_BLOCK, VIBRATION_BLOCK, OUTPUT_BLOCK, ARCS_BLOCK = 0, 5, 9, 13
BLOCK = 19

CAUSES = ("filament", "bearing", "track", "arcing")
STEPS = 6  # of the integral of the hazard of arcs
BURNT = 2.0


@njit(cache=True)
def scan_stress(tube, kv, ma, seconds, oil_k, anode_k, ratio):
    """Thinning, bearing wear, roughening [um] and arcs of one scan of a tube whose wire has a diameter ratio."""
    power = kv * ma
    t = filament_temperature(0.001 * ma, kv, ratio, tube.emitting_area_m2, tube.perveance)
    thin = (seconds + tube.preheat_s) * thinning_rate(t, tube.wire_diameter_m, tube.free_share)
    bearing_k = oil_k + tube.bearing_heat_share * (anode_k - oil_k)
    turning = seconds + tube.rotor_overhead_s
    bearing = turning * bearing_rate(bearing_k, tube.bearing_life_s, tube.bearing_activation_ev)
    rise = spot_rise(
        power,
        tube.spot_width_m,
        tube.spot_length_m,
        tube.track_radius_m,
        tube.rotor_hz,
        tube.track_effusivity,
    )
    band = band_rise(
        power,
        seconds,
        tube.spot_length_m,
        tube.track_radius_m,
        tube.track_effusivity,
        tube.band_resistance_k_w,
    )
    mean_k = anode_k - 0.5 * power * seconds / tube.anode_j_k  # the anode was cooler before the exposure
    rough = seconds * roughening_rate(
        rise, mean_k + band + rise, tube.roughening_um_s, tube.rise_power, tube.peak_power
    )
    arcs = seconds * arc_rate(kv, 0.0, 1.0, tube.arc_rate_per_s, tube.arc_kv_power, 0.0, 0.0)
    current = heating_current(t, tube.wire_diameter_m * ratio)
    return thin, bearing, rough, arcs, current


@njit(cache=True)
def total_stress(tubes, scans, room_k, totals):
    """Stress of the same scans on many tubes: rows of thinning, bearing, roughening, arcs, mean log current.

    Parameters
    ----------
    tubes : structured array (tube,)
    scans : float64 array (scan, 5)
        kV, mA, s, oil [degC], heat of the anode above the room [kJ].
    room_k : float
    totals : float64 array (tube, 5)
        Filled.
    """
    for j in range(tubes.size):
        tube = tubes[j]
        for k in range(5):
            totals[j, k] = 0.0
        for i in range(scans.shape[0]):
            anode_k = room_k + 1000.0 * scans[i, 4] / tube.anode_j_k
            a, b, c, d, current = scan_stress(
                tube, scans[i, 0], scans[i, 1], scans[i, 2], scans[i, 3] + KELVIN, anode_k, 1.0
            )
            totals[j, 0] += a
            totals[j, 1] += b
            totals[j, 2] += c
            totals[j, 3] += d
            totals[j, 4] += math.log(current) / scans.shape[0]


@njit(cache=True)
def sum_days(scans, which, tubes, room_k, days):
    """Sum scans into days.

    Parameters
    ----------
    scans : float64 array (scan, 9)
        kV, mA, s, oil [degC], heat [kJ] (both finite), filament current [A], vibration [mm/s], output, arcs (NaN:
        not recorded).
    which : int64 array (scan,)
        Row of ``days``.
    tubes : structured array (1,)
        The median tube.
    room_k : float
    days : float64 array (day, DAY_FEATURES)
        Filled; sensors' columns become means of logarithms (output: mean), NaN without readings.
    """
    tube = tubes[0]
    probed = np.zeros(days.shape[0])
    days[:] = 0.0
    for i in range(scans.shape[0]):
        d = days[which[i]]
        kv, ma, seconds, oil_k = scans[i, 0], scans[i, 1], scans[i, 2], scans[i, 3] + KELVIN
        anode_k = room_k + 1000.0 * scans[i, 4] / tube.anode_j_k
        thin, bearing, rough, arcs, current = scan_stress(tube, kv, ma, seconds, oil_k, anode_k, 1.0)
        t = filament_temperature(0.001 * ma, kv, PROBE, tube.emitting_area_m2, tube.perveance)
        heated = seconds + tube.preheat_s
        probed[which[i]] += heated * thinning_rate(t, tube.wire_diameter_m, tube.free_share)
        slope = math.log(heating_current(t, tube.wire_diameter_m * PROBE) / current) / math.log(PROBE)
        d[THINNING] += thin
        d[BEARING] += bearing
        d[ROUGHENING] += rough
        d[ARC_EXPOSURE] += arcs
        d[SECONDS] += seconds
        d[SCANS] += 1.0
        d[CURRENT_SLOPE] += slope
        if scans[i, 5] > 0.0:
            d[CURRENT] += math.log(scans[i, 5] / current)
            d[N_CURRENT] += 1.0
        if scans[i, 6] > 0.0:
            d[VIBRATION] += math.log(scans[i, 6])
            d[N_VIBRATION] += 1.0
        if scans[i, 7] > 0.0:
            d[OUTPUT] += scans[i, 7]
            d[N_OUTPUT] += 1.0
        if scans[i, 8] >= 0.0:
            d[ARCS] += scans[i, 8]
            d[WATCHED] += arcs
    for k in range(days.shape[0]):
        d = days[k]
        if d[SCANS] > 0.0:
            d[RATE_SLOPE] = -math.log(probed[k] / d[THINNING]) / math.log(PROBE)
            d[CURRENT_SLOPE] /= d[SCANS]
        for value, count in ((CURRENT, N_CURRENT), (VIBRATION, N_VIBRATION), (OUTPUT, N_OUTPUT)):
            d[value] = d[value] / d[count] if d[count] > 0.0 else math.nan


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
