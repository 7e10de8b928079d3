"""Rates at which parts of a scanner wear: laws with declared priors. Scalar functions, temperatures in K.

Only the form of each law has a reason; its constants are priors of ``protocols/wear/``.

References
----------
Coffin L F 1954, Trans. ASME 76, 931 (thermal fatigue: power of the strain, here of the spot's rise). Mehranian A,
Ay M R, Riyahi Alam N, Zaidi H 2010, Med. Phys. 37, 742, abstract: 4.5 % and 16.8 % less output behind cracks 5 and
50 um deep (50 kV, 6 degrees). Booser E R 1974, Lubr. Eng. 30, 536 (grease life, Arrhenius; second-hand).
"""

from __future__ import annotations

import math

from numba import njit

BOLTZMANN_EV = 8.617333262e-5  # eV/K
RISE_REF_K = 1300.0  # of the focal spot above the track, where the rate of roughening is told
PEAK_REF_K = 2200.0  # of the focal spot itself
BEARING_REF_K = 450.0
KV_REF = 120.0
LOSS_REF = 0.1  # of filament mass, the end of its life


@njit(cache=True)
def roughening_rate(rise_k, peak_k, rate_um_s, rise_power, peak_power):
    """Growth of the track's mean roughness, um per second of exposure.

    ``rate (rise / 1300 K)^m (peak / 2200 K)^n``: thermal fatigue by each passage, worse on a hot track.
    """
    return rate_um_s * (rise_k / RISE_REF_K) ** rise_power * (peak_k / PEAK_REF_K) ** peak_power


@njit(cache=True)
def roughness_output(roughness_um, new_um, loss_at_1_um, power):
    """Output of a rough track over that of a new one.

    ``(1 - l R^p) / (1 - l R_new^p)``; two points of Mehranian et al. give l 0.0179 and p 0.572 at 50 kV.
    """
    return (1.0 - loss_at_1_um * roughness_um**power) / (1.0 - loss_at_1_um * new_um**power)


@njit(cache=True)
def bearing_rate(bearing_k, life_s, activation_ev):
    """Wear of the tube's bearing per second of rotation, 1/s: ``1/L exp(E/k (1/450 K - 1/T))``."""
    return math.exp(activation_ev / BOLTZMANN_EV * (1.0 / BEARING_REF_K - 1.0 / bearing_k)) / life_s


@njit(cache=True)
def vibration(wear, new_mm_s, growth):
    """Vibration of a worn bearing, mm/s rms: ``v0 exp(g w)``."""
    return new_mm_s * math.exp(growth * wear)


@njit(cache=True)
def arc_rate(kv, loss, output, rate_per_s, kv_power, loss_growth, track_growth):
    """Intensity of arcs, per second of exposure.

    ``rate (kV/120)^n exp(a loss / 0.1 + b (1 - output) / 0.1)``: tungsten from filament and track lies on the
    insulators, and a rough track throws particles.

    Parameters
    ----------
    kv : float
    loss : float
        Share of the filament's mass.
    output : float
        Output over that of a new tube, which tells the track's state.
    rate_per_s, kv_power, loss_growth, track_growth : float
        Priors.
    """
    worn = loss_growth * loss / LOSS_REF + track_growth * (1.0 - output) / 0.1
    return rate_per_s * (kv / KV_REF) ** kv_power * math.exp(worn)


@njit(cache=True)
def focal_spot_factor(loss, bearing_wear, loss_growth, wobble):
    """Width of the focal spot over the nominal: a thinner filament sags, a worn bearing wobbles."""
    return 1.0 + loss_growth * loss / LOSS_REF + wobble * bearing_wear**2


@njit(cache=True)
def poisson(mean, u):
    """Count of a Poisson distribution from one uniform number, by inversion (means below some tens)."""
    p = math.exp(-mean)
    total, count = p, 0
    while u > total and count < 1000:
        count += 1
        p *= mean / count
        total += p
        if p < 1e-300:
            break
    return count
