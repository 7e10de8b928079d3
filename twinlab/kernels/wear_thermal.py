"""Heat of an X-ray tube: two nodes, anode and housing with its oil, in J and W.

    C_a dT_a/dt = P - R (T_a^4 - T_h^4) - G_b (T_a - T_h)
    C_h dT_h/dt =     R (T_a^4 - T_h^4) + G_b (T_a - T_h) - G_c (T_h - T_room)

R = sigma times emissivity times area of the radiating anode, G_b the conductance of the bearing, G_c that of the
cooler. The cooled heat is integrated with the temperatures by the same Runge-Kutta step, which keeps linear
invariants: heat in = heat stored + heat cooled, to rounding. All functions are scalar, temperatures in K.

References
----------
Behling R 2016, Modern Diagnostic X-Ray Sources, CRC Press, ch. 6 (heat balance of rotating anodes, second-hand).
Oosterkamp W J 1948, Philips Res. Rep. 3, 303: temperature of focal spot and track (second-hand).
Kays W M, London A L 1984, Compact Heat Exchangers: effectiveness ``1 - exp(-NTU)`` against a large stream.
"""

from __future__ import annotations

import math

from numba import njit

STEP = 0.06  # of the shorter time constant: a cooling curve then errs by less than 1e-6 of itself
OIL_J_L_K = (
    1600.0  # heat that a litre of transformer oil takes per kelvin (0.88 kg/l, 1.86 kJ/kg/K near 40 degC)
)


@njit(cache=True)
def heat_flows(anode_k, housing_k, radiating_w_k4, bearing_w_k, cooler_w_k, room_k):
    """Heat from anode to housing and from housing to the room, W."""
    inner = radiating_w_k4 * (anode_k**4 - housing_k**4) + bearing_w_k * (anode_k - housing_k)
    return inner, cooler_w_k * (housing_k - room_k)


@njit(cache=True)
def advance(
    anode_k,
    housing_k,
    power_w,
    seconds,
    anode_j_k,
    housing_j_k,
    radiating_w_k4,
    bearing_w_k,
    cooler_w_k,
    room_k,
):
    """Temperatures after some seconds of constant power, by Runge and Kutta's fourth-order step.

    Parameters
    ----------
    anode_k, housing_k : float
        At the start.
    power_w, seconds : float
    anode_j_k, housing_j_k : float
        Heat capacities.
    radiating_w_k4 : float
        Stefan and Boltzmann's constant times emissivity times area.
    bearing_w_k, cooler_w_k : float
        Conductances.
    room_k : float
        Of the cooler's far side.

    Returns
    -------
    anode_k, housing_k, cooled_j : float
        The last is the heat that the cooler took.
    """
    left, cooled = seconds, 0.0
    while left > 0.0:
        hottest = max(anode_k, housing_k) + power_w * min(left, 10.0) / anode_j_k
        link = 4.0 * radiating_w_k4 * hottest**3 + bearing_w_k  # steepest heat flow per kelvin
        housing_link = 4.0 * radiating_w_k4 * housing_k**3 + bearing_w_k + cooler_w_k
        shorter = min(anode_j_k / (link + 1e-9), housing_j_k / (housing_link + 1e-9))
        h = min(STEP * shorter, 10.0 if power_w > 0.0 else left, left)
        a, o, c = anode_k, housing_k, 0.0
        sum_a, sum_h, sum_c = 0.0, 0.0, 0.0
        for stage in range(4):
            inner, outer = heat_flows(a, o, radiating_w_k4, bearing_w_k, cooler_w_k, room_k)
            slope_a, slope_h, c = (power_w - inner) / anode_j_k, (inner - outer) / housing_j_k, outer
            weight = 1.0 if stage in (0, 3) else 2.0
            sum_a, sum_h, sum_c = sum_a + weight * slope_a, sum_h + weight * slope_h, sum_c + weight * c
            ahead = 0.5 * h if stage < 2 else h
            a, o = anode_k + ahead * slope_a, housing_k + ahead * slope_h
        anode_k += h / 6.0 * sum_a
        housing_k += h / 6.0 * sum_h
        cooled += h / 6.0 * sum_c
        left -= h
        if left < 1e-9:
            left = 0.0
    return anode_k, housing_k, cooled


@njit(cache=True)
def cooler_conductance(flow_l_min, clean_w_k, fouling):
    """Conductance of the oil cooler, W/K: capacity of the oil's stream times ``1 - exp(-NTU)``.

    Parameters
    ----------
    flow_l_min : float
        Of the oil.
    clean_w_k : float
        Area times heat transfer of the clean cooler.
    fouling : float
        Share of it that dirt has taken, 0 to 1.
    """
    stream = max(flow_l_min, 1e-3) / 60.0 * OIL_J_L_K
    return stream * -math.expm1(-clean_w_k * (1.0 - min(fouling, 1.0)) / stream)


@njit(cache=True)
def coolant_flow(clean_l_min, fouling, lost_share):
    """Flow of the coolant, l/min: falls by ``lost_share`` of itself in a cooler that is wholly fouled."""
    return clean_l_min * (1.0 - lost_share * min(fouling, 1.0))


@njit(cache=True)
def spot_rise(power_w, spot_width_m, spot_length_m, track_radius_m, rotor_hz, effusivity):
    """Rise of the focal spot above its track in one passage, K: ``2 q sqrt(tau / pi) / e``.

    A point of the track is under the beam for ``tau = width / (2 pi r f)``.

    Parameters
    ----------
    power_w : float
    spot_width_m, spot_length_m : float
        Of the spot on the track: along the rotation, and along the radius.
    track_radius_m, rotor_hz : float
    effusivity : float
        ``sqrt(lambda rho c)`` of the track, W s^0.5 m-2 K-1.
    """
    dwell = spot_width_m / (2.0 * math.pi * track_radius_m * rotor_hz)
    return 2.0 * power_w / (spot_width_m * spot_length_m) * math.sqrt(dwell / math.pi) / effusivity


@njit(cache=True)
def band_rise(power_w, seconds, spot_length_m, track_radius_m, effusivity, resistance_k_w):
    """Rise of the ring under the spot above the bulk of the anode, K.

    Grows as in a half space, ``2 q sqrt(t / pi) / e``, up to that of a steady flow into the bulk.
    """
    ring = 2.0 * math.pi * track_radius_m * spot_length_m
    return min(2.0 * power_w / ring * math.sqrt(seconds / math.pi) / effusivity, power_w * resistance_k_w)
