"""Filament of an X-ray tube: emission, evaporation and heating current of a tungsten wire that grows thinner.

A wire in vacuum emits by Richardson and Dushman's law, loses tungsten by Hertz, Knudsen and Langmuir's, and is
heated by as much current as its radiation asks for. Lengths in m, temperatures in K, currents in A, rates in
kg m-2 s-1. All functions are scalar and shared by the simulator of a scanner and by the filter that follows one.

At constant emission a thinner wire has less area, so it must be hotter; but little hotter, for emission is steep
(``d ln J / d ln T = 2 + phi / kT``, about 22). It needs less heating current all the same, because current goes
with ``d**1.5``: with n = d ln A'/d ln T (about 1.7) of the current ``I = A'(T) d**1.5``,
``d ln I / d ln d = 1.5 - n / (2 + phi / kT)``, about 1.42. So the heating current of a wire that thins evenly
*falls*, by 7 % at 10 % of mass lost, while its resistance and its temperature rise.

References
----------
Dushman S 1923, Phys. Rev. 21, 623, and Herring C, Nichols M H 1949, Rev. Mod. Phys. 21, 185, table I: tungsten
60.2 A cm-2 K-2 and 4.52 eV (both second-hand). Langmuir I 1913, Phys. Rev. 2, 329: evaporation in vacuum equals
condensation, ``m = p sqrt(M / 2 pi R T)``. Alcock C B, Itkin V P, Horrigan M K 1984, Can. Metall. Q. 23, 309:
vapour pressure of solid tungsten, as in the CRC Handbook (second-hand), fitted to 2500 K and used a little beyond.
Jones H A, Langmuir I 1927, Gen. Electr. Rev. 30, 310: heating of ideal filaments, current as d**1.5. Agrawal D C,
Leff H S, Menon V J 1996, Am. J. Phys. 64, 649: power laws of emissivity and resistivity (second-hand).
Longo R T 2003, J. Appl. Phys. 94, 6966: between emission and space charge.
"""

from __future__ import annotations

import math

from numba import njit

RICHARDSON = 6.02e5  # A m-2 K-2, tungsten
WORK_FUNCTION_EV = 4.52
BOLTZMANN_EV = 8.617333262e-5  # eV/K
GAS = 8.314462618  # J/mol/K
STEFAN_BOLTZMANN = 5.670374419e-8  # W m-2 K-4
TUNGSTEN_KG_MOL = 0.18384
TUNGSTEN_KG_M3 = 19300.0
ATMOSPHERE = 101325.0  # Pa
LARGEST_SHARE = 0.95  # of the current that space charge lets through; beyond it no temperature would do


@njit(cache=True)
def emission(temperature_k):
    """Density of thermionic emission, A m-2: ``A T^2 exp(-phi / kT)``."""
    return RICHARDSON * temperature_k**2 * math.exp(-WORK_FUNCTION_EV / (BOLTZMANN_EV * temperature_k))


@njit(cache=True)
def emission_temperature(density_a_m2):
    """Temperature at which tungsten emits a density of current, K (inverse of :func:`emission`)."""
    target = math.log(density_a_m2 / RICHARDSON)
    barrier = WORK_FUNCTION_EV / BOLTZMANN_EV
    t = 2500.0
    for _ in range(8):  # Newton's steps on the logarithm, which is nearly straight in 1/T
        f = 2.0 * math.log(t) - barrier / t - target
        t = max(0.5 * t, t - f / (2.0 / t + barrier / t**2))
    return t


@njit(cache=True)
def vapour_pressure(temperature_k):
    """Vapour pressure of solid tungsten, Pa."""
    exponent = 2.945 - 44094.0 / temperature_k + 1.3677 * math.log10(temperature_k)
    return ATMOSPHERE * 10.0**exponent


@njit(cache=True)
def evaporation_rate(temperature_k):
    """Mass that tungsten loses to a vacuum, kg m-2 s-1: ``p sqrt(M / (2 pi R T))``."""
    return vapour_pressure(temperature_k) * math.sqrt(TUNGSTEN_KG_MOL / (2.0 * math.pi * GAS * temperature_k))


@njit(cache=True)
def resistivity(temperature_k):
    """Resistivity of tungsten, ohm m."""
    return 5.65e-8 * (temperature_k / 300.0) ** 1.2


@njit(cache=True)
def emissivity(temperature_k):
    """Total hemispherical emissivity of tungsten."""
    return 1.731e-3 * temperature_k**0.6632


@njit(cache=True)
def heating_current(temperature_k, diameter_m):
    """Current that keeps a long straight wire at a temperature, A.

    Joule heat equals radiation on every length: ``I^2 = pi^2 d^3 eps sigma T^4 / (4 rho)``.
    """
    radiated = emissivity(temperature_k) * STEFAN_BOLTZMANN * temperature_k**4
    return 0.5 * math.pi * math.sqrt(diameter_m**3 * radiated / resistivity(temperature_k))


@njit(cache=True)
def needed_emission(tube_current_a, kv, perveance):
    """Emission that gives a tube current against space charge, A.

    Longo's law ``1/I = 1/I_emission + 1/(P V^1.5)`` solved for the emission: low kV needs a hotter filament.

    Parameters
    ----------
    tube_current_a, kv : float
    perveance : float
        P, A V-1.5.
    """
    limit = perveance * (1000.0 * kv) ** 1.5
    return tube_current_a / (1.0 - min(tube_current_a / limit, LARGEST_SHARE))


@njit(cache=True)
def filament_temperature(tube_current_a, kv, diameter_ratio, emitting_area_m2, perveance):
    """Temperature of the filament in an exposure, K.

    Parameters
    ----------
    tube_current_a, kv : float
    diameter_ratio : float
        Diameter of the wire over that of a new one, to which its emitting area is proportional.
    emitting_area_m2 : float
        Of a new wire.
    perveance : float
        A V-1.5.
    """
    emitted = needed_emission(tube_current_a, kv, perveance)
    return emission_temperature(emitted / (emitting_area_m2 * diameter_ratio))


@njit(cache=True)
def filament_current(tube_current_a, kv, diameter_ratio, wire_diameter_m, emitting_area_m2, perveance):
    """Heating current in an exposure, A; falls as the wire thins at constant tube current.

    Parameters
    ----------
    tube_current_a, kv, diameter_ratio, emitting_area_m2, perveance
        See :func:`filament_temperature`.
    wire_diameter_m : float
        Of a new wire.
    """
    t = filament_temperature(tube_current_a, kv, diameter_ratio, emitting_area_m2, perveance)
    return heating_current(t, wire_diameter_m * diameter_ratio)


@njit(cache=True)
def thinning_rate(temperature_k, wire_diameter_m, free_share):
    """Rate at which the diameter ratio falls, 1/s: ``2 m_dot f / (rho d0)``, positive.

    Parameters
    ----------
    temperature_k : float
    wire_diameter_m : float
        Of a new wire.
    free_share : float
        Share f of the evaporated tungsten that the coil does not catch again.
    """
    return 2.0 * free_share * evaporation_rate(temperature_k) / (TUNGSTEN_KG_M3 * wire_diameter_m)


@njit(cache=True)
def thinned(
    diameter_ratio, tube_current_a, kv, seconds, wire_diameter_m, emitting_area_m2, perveance, free_share
):
    """Diameter ratio after the filament has been hot for some seconds (an exposure and its preparation).

    One step of Euler: within a scan the rate changes by less than 1e-5 of itself.
    """
    t = filament_temperature(tube_current_a, kv, diameter_ratio, emitting_area_m2, perveance)
    return max(diameter_ratio - seconds * thinning_rate(t, wire_diameter_m, free_share), 0.0)


@njit(cache=True)
def mass_loss(diameter_ratio):
    """Share of the wire's mass that is gone: ``1 - (d/d0)^2``."""
    return 1.0 - diameter_ratio**2
