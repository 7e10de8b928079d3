"""Days of a tube's scans: stress of the median tube, means of the sensors, by the physics of the simulator."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.wear_filament import filament_temperature, heating_current, thinning_rate
from twinlab.kernels.wear_loop import spot_above_bulk
from twinlab.kernels.wear_rates import arc_rate, bearing_rate, roughening_rate

KELVIN = 273.15
PROBE = 0.97  # diameter ratio at which slopes against a new wire are taken, the middle of a life

# what a day tells: stresses of the median tube, slopes, logarithms of sensors' means with their counts
THINNING, BEARING, ROUGHENING, ARC_EXPOSURE, SECONDS, SCANS = range(6)
RATE_SLOPE, CURRENT_SLOPE = 6, 7
CURRENT, N_CURRENT, VIBRATION, N_VIBRATION, OUTPUT, N_OUTPUT, ARCS, WATCHED = range(8, 16)
DAY_FEATURES = 16


@njit(cache=True)
def scan_stress(tube, kv, ma, seconds, oil_k, anode_k, ratio):
    """Thinning, bearing wear, roughening [um] and arcs of one scan of a tube whose wire has a diameter ratio."""
    power = kv * ma
    t = filament_temperature(0.001 * ma, kv, ratio, tube.emitting_area_m2, tube.perveance)
    thin = (seconds + tube.preheat_s) * thinning_rate(t, tube.wire_diameter_m, tube.free_share)
    bearing_k = oil_k + tube.bearing_heat_share * (anode_k - oil_k)
    turning = seconds + tube.rotor_overhead_s
    bearing = turning * bearing_rate(bearing_k, tube.bearing_life_s, tube.bearing_activation_ev)
    rise, above = spot_above_bulk(tube, power, seconds)
    mean_k = anode_k - 0.5 * power * seconds / tube.anode_j_k  # the anode was cooler before the exposure
    rough = seconds * roughening_rate(
        rise, mean_k + above, tube.roughening_um_s, tube.rise_power, tube.peak_power
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
