"""A scanner's life, scan by scan: heat, wear, interlocks, failures and repairs.

The laws are in the neighbouring modules ``wear_filament``, ``wear_thermal`` and ``wear_rates``; this loop strings
them together. Times are seconds since installation; ``tubes`` and ``parts`` are records of parameters by name.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twinlab.kernels.wear_filament import STEFAN_BOLTZMANN, filament_current, mass_loss, thinned
from twinlab.kernels.wear_rates import (
    arc_rate,
    bearing_rate,
    focal_spot_factor,
    poisson,
    roughening_rate,
    roughness_output,
    vibration,
)
from twinlab.kernels.wear_thermal import advance, band_rise, coolant_flow, cooler_conductance, spot_rise

DAY = 86400.0
KELVIN = 273.15
WAIT, LONGEST_WAIT = 10.0, 3600.0  # s, in which an interlock looks again; after which a scan is given up

CAUSES = ("", "filament", "bearing", "arcing", "track", "detector", "slip_ring", "cooling")
FILAMENT, BEARING, ARCING, TRACK, DETECTOR, SLIP_RING, COOLING = range(1, 8)

# columns of what the loop returns of a scan, and of a day
END, CURRENT, HEAT, OIL, OUTPUT, ARCS, VIBRATION, GANTRY, ERRORS, FLOW, TUBE, DELAY = range(12)
SCAN_COLUMNS = 12
DAY_COLUMNS = (
    "filament_mass_loss", "filament_diameter_ratio", "track_roughness_um", "bearing_wear", "output_factor",
    "focal_spot_factor", "arc_rate_per_s", "slip_ring_wear", "gantry_bearing_wear", "coolant_fouling",
    "exposure_seconds", "interlock_delay_s", "tube_number",
)  # fmt: skip
# state while it runs
RATIO, ROUGH, BEAR, SECONDS, RING, GANTRY_WEAR, FOUL, ANODE_K, HOUSING_K, WAITED = range(10)


@njit(cache=True)
def tube_output(state, tube):
    """Output of the tube in its state over that of a new one."""
    return roughness_output(
        state[ROUGH], tube.new_roughness_um, tube.output_loss_at_1_um, tube.output_loss_power
    )


@njit(cache=True)
def renew_tube(state, tube, room_k):
    """A new tube, cold."""
    state[RATIO], state[ROUGH], state[BEAR], state[SECONDS] = 1.0, tube.new_roughness_um, 0.0, 0.0
    state[ANODE_K], state[HOUSING_K] = room_k, room_k


@njit(cache=True)
def warm(state, tube, parts, power_w, seconds):
    """Advance both temperatures of the tube."""
    flow = coolant_flow(parts.coolant_flow_l_min, state[FOUL], parts.fouling_flow_share)
    state[ANODE_K], state[HOUSING_K], _ = advance(
        state[ANODE_K],
        state[HOUSING_K],
        power_w,
        seconds,
        tube.anode_j_k,
        tube.housing_j_k,
        STEFAN_BOLTZMANN * tube.anode_emissivity * tube.anode_area_m2,
        tube.bearing_w_k,
        cooler_conductance(flow, parts.cooler_w_k, state[FOUL]),
        parts.room_c + KELVIN,
    )


@njit(cache=True)
def anode_heat(state, tube, parts):
    """Heat stored in the anode above the room, J."""
    return tube.anode_j_k * (state[ANODE_K] - parts.room_c - KELVIN)


@njit(cache=True)
def spot_above_bulk(tube, power_w, seconds):
    """Rise of the focal spot above its track, and of the spot at the end of an exposure above the bulk, K."""
    rise = spot_rise(
        power_w,
        tube.spot_width_m,
        tube.spot_length_m,
        tube.track_radius_m,
        tube.rotor_hz,
        tube.track_effusivity,
    )
    band = band_rise(
        power_w,
        seconds,
        tube.spot_length_m,
        tube.track_radius_m,
        tube.track_effusivity,
        tube.band_resistance_k_w,
    )
    return rise, rise + band


@njit(cache=True)
def interlock(state, tube, parts, power_w, seconds):
    """Wait until a scan's heat fits: the delay [s], and whether the scan may be done."""
    waited = 0.0
    energy, above = power_w * seconds, spot_above_bulk(tube, power_w, seconds)[1]
    while (
        anode_heat(state, tube, parts) + energy > 1000.0 * tube.anode_limit_kj
        or state[HOUSING_K] - KELVIN > tube.oil_limit_c
        or state[ANODE_K] + energy / tube.anode_j_k + above - KELVIN > tube.track_limit_c
    ):
        if waited >= LONGEST_WAIT:
            return waited, False
        warm(state, tube, parts, 0.0, WAIT)
        waited += WAIT
    return waited, True


@njit(cache=True)
def expose(state, tube, parts, kv, tube_current_ma, seconds):
    """One exposure: its heat, and what it wears off filament, track and bearing."""
    power = kv * tube_current_ma
    before = state[ANODE_K]
    warm(state, tube, parts, power, seconds)
    mean_k = 0.5 * (before + state[ANODE_K])
    rise, above = spot_above_bulk(tube, power, seconds)
    peak = mean_k + above
    state[ROUGH] += seconds * roughening_rate(
        rise, peak, tube.roughening_um_s, tube.rise_power, tube.peak_power
    )
    bearing_k = state[HOUSING_K] + tube.bearing_heat_share * (state[ANODE_K] - state[HOUSING_K])
    turning = seconds + tube.rotor_overhead_s
    state[BEAR] += turning * bearing_rate(bearing_k, tube.bearing_life_s, tube.bearing_activation_ev)
    state[RATIO] = thinned(
        state[RATIO],
        0.001 * tube_current_ma,
        kv,
        seconds + tube.preheat_s,
        tube.wire_diameter_m,
        tube.emitting_area_m2,
        tube.perveance,
        tube.free_share,
    )
    state[SECONDS] += seconds


@njit(cache=True)
def tube_failure(state, tube, arcs, u):
    """Cause that ends the tube now, or 0."""
    if mass_loss(state[RATIO]) >= tube.mass_loss_limit:
        return FILAMENT
    if state[BEAR] >= 1.0:
        return BEARING
    if arcs > 0 and u < 1.0 - (1.0 - tube.fatal_arc_share) ** arcs:
        return ARCING
    if tube_output(state, tube) <= tube.output_limit:
        return TRACK
    return 0


@njit(cache=True)
def write_day(row, state, tube, number):
    """The hidden state of a day, in the order of ``DAY_COLUMNS``."""
    loss, output = mass_loss(state[RATIO]), tube_output(state, tube)
    row[0], row[1], row[2], row[3], row[4] = loss, state[RATIO], state[ROUGH], state[BEAR], output
    row[5] = focal_spot_factor(loss, state[BEAR], tube.spot_loss_growth, tube.spot_wobble)
    row[6] = arc_rate(
        120.0,
        loss,
        output,
        tube.arc_rate_per_s,
        tube.arc_kv_power,
        tube.arc_loss_growth,
        tube.arc_track_growth,
    )
    row[7], row[8], row[9], row[10] = state[RING], state[GANTRY_WEAR], state[FOUL], state[SECONDS]
    row[11], row[12] = state[WAITED], number


@njit(cache=True)
def close_day(day, state, parts):
    """What a night does: dirt settles; a service cleans the cooler and changes worn brushes."""
    state[FOUL] += parts.fouling_per_day
    state[WAITED] = 0.0
    if parts.service_interval_days > 0.0 and (day + 1) % int(parts.service_interval_days) == 0:
        state[FOUL] = 0.0
        if state[RING] > parts.brush_service_limit:
            state[RING] = 0.0


@njit(cache=True)
def turn_gantry(state, parts, seconds, rotation_s):
    """Rotations of a scan, on slip ring and bearing."""
    if rotation_s <= 0.0:
        return
    turns = seconds / rotation_s + parts.gantry_overhead_s / parts.idle_rotation_s
    state[RING] += turns / parts.slip_ring_life_rotations
    state[GANTRY_WEAR] += turns / parts.gantry_life_rotations


@njit(cache=True)
def read_out(row, state, tube, parts, kv, tube_current_ma, seconds, rotation_s, arcs, u):
    """What true sensors would tell of a scan, before their noise."""
    row[CURRENT] = filament_current(
        0.001 * tube_current_ma,
        kv,
        state[RATIO],
        tube.wire_diameter_m,
        tube.emitting_area_m2,
        tube.perveance,
    )
    row[HEAT] = 0.001 * anode_heat(state, tube, parts)
    row[OIL] = state[HOUSING_K] - KELVIN
    row[OUTPUT] = tube_output(state, tube)
    row[ARCS] = arcs
    row[VIBRATION] = vibration(state[BEAR], tube.vibration_new_mm_s, tube.vibration_growth)
    row[GANTRY] = math.nan
    row[ERRORS] = 0.0
    if rotation_s > 0.0:
        still = vibration(state[GANTRY_WEAR], parts.gantry_vibration_mm_s, parts.gantry_vibration_growth)
        row[GANTRY] = still * (0.5 / rotation_s) ** 2
        mean = seconds * parts.slip_ring_errors_per_s * math.exp(parts.slip_ring_error_growth * state[RING])
        row[ERRORS] = poisson(mean, u)
    row[FLOW] = coolant_flow(parts.coolant_flow_l_min, state[FOUL], parts.fouling_flow_share)


@njit(cache=True)
def repair(cause, state, tubes, number, parts):
    """The failed part is replaced: hours down, and the number of the tube at work."""
    room_k = parts.room_c + KELVIN
    if cause <= TRACK:
        renew_tube(state, tubes[(number + 1) % tubes.size], room_k)
        return tubes[number % tubes.size].tube_downtime_h, number + 1
    if cause == SLIP_RING:
        state[RING] = 0.0
        return parts.slip_ring_downtime_h, number
    if cause == COOLING:
        state[FOUL] = 0.0
        return parts.cooling_downtime_h, number
    return parts.detector_downtime_h, number


@njit(cache=True)
def run(plan, uniform, tubes, parts_record, detector_fails_s, stop_at_failure, scans, days, causes):
    """Fill ``scans``, ``days`` and ``causes``; the number of scans done.

    Parameters
    ----------
    plan : float64 array (scan, 5)
        Planned start [s], kV, mA, exposure [s], rotation time [s]; ascending in time.
    uniform : float64 array (scan, 3)
        For arcs, their outcome, and errors of the slip ring.
    tubes, parts_record : structured arrays
        Successive tubes (used again from the first when they run out), and one scanner.
    detector_fails_s : float64 array
        Ascending.
    stop_at_failure : bool
    scans : float64 array (scan, SCAN_COLUMNS)
        Rows of scans that were not done keep END = NaN.
    days : float64 array (day, len(DAY_COLUMNS))
        Worn state of the day a part failed on, else the state at the day's end.
    causes : int8 array (day,)
    """
    parts = parts_record[0]
    state = np.zeros(10)
    number, day, done, broken = 0, 0, 0, 0
    renew_tube(state, tubes[0], parts.room_c + KELVIN)
    now, down_until = 0.0, 0.0
    for i in range(plan.shape[0]):
        planned, kv, ma, seconds, rotation = plan[i, 0], plan[i, 1], plan[i, 2], plan[i, 3], plan[i, 4]
        scans[i, END] = math.nan
        start = max(planned, now)
        while day < days.shape[0] and start >= (day + 1) * DAY:
            if causes[day] == 0:
                write_day(days[day], state, tubes[number % tubes.size], number)
            close_day(day, state, parts)
            day += 1
        if start < down_until or (stop_at_failure and down_until > 0.0) or day >= days.shape[0]:
            continue
        tube = tubes[number % tubes.size]
        warm(state, tube, parts, 0.0, start - now)
        waited, allowed = interlock(state, tube, parts, kv * ma, seconds)
        now = start + waited
        state[WAITED] += waited
        if not allowed:
            continue
        row = scans[i]
        worn = arc_rate(
            kv,
            mass_loss(state[RATIO]),
            tube_output(state, tube),
            tube.arc_rate_per_s,
            tube.arc_kv_power,
            tube.arc_loss_growth,
            tube.arc_track_growth,
        )
        arcs = poisson(worn * seconds, uniform[i, 0])
        expose(state, tube, parts, kv, ma, seconds)
        turn_gantry(state, parts, seconds, rotation)
        now += seconds
        read_out(row, state, tube, parts, kv, ma, seconds, rotation, arcs, uniform[i, 2])
        row[END], row[TUBE], row[DELAY] = now, number, waited
        done += 1
        if causes[day] != 0:  # a second fault of a day is found the next day
            continue
        cause = tube_failure(state, tube, arcs, uniform[i, 1])
        if cause == 0 and broken < detector_fails_s.size and now >= detector_fails_s[broken]:
            cause = DETECTOR
            broken += 1
        if cause == 0 and state[RING] >= 1.0:
            cause = SLIP_RING
        if cause == 0 and state[FOUL] >= 1.0:
            cause = COOLING
        if cause != 0:
            write_day(days[day], state, tube, number)
            causes[day] = cause
            hours, number = repair(cause, state, tubes, number, parts)
            down_until = now + 3600.0 * hours
    while day < days.shape[0]:
        if causes[day] == 0:
            write_day(days[day], state, tubes[number % tubes.size], number)
        close_day(day, state, parts)
        day += 1
    return done
