"""Closed forms of flow in vessels: Poiseuille, Womersley, a stenosis, the speed of the pulse wave."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import jv

from twinlab.schema import refuse

BLOOD_DENSITY_KG_PER_M3 = 1060.0
BLOOD_VISCOSITY_PA_S = 0.0035
PA_PER_MMHG = 133.322387415


def _positive(where: str, **values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            refuse(f"{where}: {name}", "a number above 0", value)


def poiseuille_pressure_drop(
    flow_ml_per_s: float, *, radius_mm: float, length_mm: float, viscosity_pa_s: float = BLOOD_VISCOSITY_PA_S
) -> float:
    """Pressure drop of developed laminar flow in a round tube, mmHg: ``8 mu L Q / (pi R^4)``.

    Raises
    ------
    InputError
        A length, radius or viscosity that is not above 0.

    Examples
    --------
    >>> round(poiseuille_pressure_drop(5.0, radius_mm=2.0, length_mm=50.0), 3)
    1.045
    """
    _positive(
        "poiseuille_pressure_drop", radius_mm=radius_mm, length_mm=length_mm, viscosity_pa_s=viscosity_pa_s
    )
    drop = 8 * viscosity_pa_s * length_mm * 1e-3 * flow_ml_per_s * 1e-6 / (math.pi * (radius_mm * 1e-3) ** 4)
    return drop / PA_PER_MMHG


def poiseuille_wall_shear_stress(
    flow_ml_per_s: float, *, radius_mm: float, viscosity_pa_s: float = BLOOD_VISCOSITY_PA_S
) -> float:
    """Wall shear stress of developed laminar flow in a round tube, Pa: ``4 mu Q / (pi R^3)``."""
    _positive("poiseuille_wall_shear_stress", radius_mm=radius_mm, viscosity_pa_s=viscosity_pa_s)
    return 4 * viscosity_pa_s * flow_ml_per_s * 1e-6 / (math.pi * (radius_mm * 1e-3) ** 3)


def stenosis_pressure_drop(
    flow_ml_per_s: float,
    *,
    radius_mm: float,
    throat_radius_mm: float,
    length_mm: float,
    acceleration_ml_per_s2: float = 0.0,
    viscosity_pa_s: float = BLOOD_VISCOSITY_PA_S,
    density_kg_per_m3: float = BLOOD_DENSITY_KG_PER_M3,
) -> float:
    """Pressure drop over a stenosis, mmHg (Young and Tsai 1973).

    ``dp = Kv mu U / D + Kt / 2 rho (A0/A1 - 1)^2 U |U| + Ku rho L dU/dt`` with ``Kv = 32 La/D (A0/A1)^2``,
    ``La = 0.83 L + 1.64 d``, ``Kt = 1.52``, ``Ku = 1.2``; ``U`` is the mean velocity before the stenosis, ``D`` its
    diameter, ``d`` the throat's.

    Parameters
    ----------
    flow_ml_per_s : float
    radius_mm, throat_radius_mm, length_mm : float
        Of the vessel, of the narrowest place, of the narrowing.
    acceleration_ml_per_s2 : float
        Rate of change of the flow.
    viscosity_pa_s, density_kg_per_m3 : float

    Raises
    ------
    InputError
        A size that is not above 0 or a throat wider than the vessel.

    References
    ----------
    Young D F, Tsai F Y 1973, J Biomech 6:395 and 6:547; Kt, Ku and La as Seeley B D, Young D F 1976, J Biomech 9:439.
    """
    _positive(
        "stenosis_pressure_drop",
        radius_mm=radius_mm,
        throat_radius_mm=throat_radius_mm,
        length_mm=length_mm,
        viscosity_pa_s=viscosity_pa_s,
        density_kg_per_m3=density_kg_per_m3,
    )
    if throat_radius_mm > radius_mm:
        refuse(
            "stenosis_pressure_drop: throat_radius_mm", f"at most radius_mm = {radius_mm:g}", throat_radius_mm
        )
    area = math.pi * (radius_mm * 1e-3) ** 2
    ratio = (radius_mm / throat_radius_mm) ** 2
    velocity, rate = flow_ml_per_s * 1e-6 / area, acceleration_ml_per_s2 * 1e-6 / area
    diameter = 2e-3 * radius_mm
    effective = 0.83 * length_mm * 1e-3 + 1.64 * 2e-3 * throat_radius_mm
    viscous = 32.0 * effective / diameter * ratio**2 * viscosity_pa_s * velocity / diameter
    turbulent = 0.5 * 1.52 * density_kg_per_m3 * (ratio - 1.0) ** 2 * velocity * abs(velocity)
    inertial = 1.2 * density_kg_per_m3 * length_mm * 1e-3 * rate
    return (viscous + turbulent + inertial) / PA_PER_MMHG


def womersley_number(
    *,
    radius_mm: float,
    frequency_hz: float,
    viscosity_pa_s: float = BLOOD_VISCOSITY_PA_S,
    density_kg_per_m3: float = BLOOD_DENSITY_KG_PER_M3,
) -> float:
    """``R sqrt(omega rho / mu)``.

    Examples
    --------
    >>> round(womersley_number(radius_mm=12.0, frequency_hz=1.0), 1)
    16.6
    """
    _positive(
        "womersley_number", radius_mm=radius_mm, frequency_hz=frequency_hz, viscosity_pa_s=viscosity_pa_s
    )
    return radius_mm * 1e-3 * math.sqrt(2 * math.pi * frequency_hz * density_kg_per_m3 / viscosity_pa_s)


def womersley_profile(radius_fraction: Any, phase_rad: Any, *, alpha: float) -> np.ndarray:
    """Velocity of oscillating flow in a round tube, over ``G / (rho omega)`` for a gradient ``-dp/dx = G cos(phase)``.

    Parameters
    ----------
    radius_fraction : array
        r/R from 0 to 1; broadcast against ``phase_rad``.
    phase_rad : array
        omega t.
    alpha : float
        Womersley number.

    Returns
    -------
    array

    References
    ----------
    Womersley J R 1955, J Physiol 127:553.
    """
    _positive("womersley_profile", alpha=alpha)
    r, phase = np.asarray(radius_fraction, float), np.asarray(phase_rad, float)
    root = 1j**1.5 * alpha
    shape = 1.0 - jv(0, root * r) / jv(0, root)
    return np.real(shape * np.exp(1j * phase) / 1j)


def moens_korteweg(
    *,
    young_kpa: float,
    thickness_mm: float,
    radius_mm: float,
    poisson: float = 0.5,
    density_kg_per_m3: float = BLOOD_DENSITY_KG_PER_M3,
) -> float:
    """Speed of the pulse wave in m/s: ``sqrt(E h / (2 rho R (1 - nu^2)))``; Poisson's ratio 0 is the classic formula.

    Raises
    ------
    InputError
        A size that is not above 0, or a Poisson's ratio outside 0 to 0.5.
    """
    _positive("moens_korteweg", young_kpa=young_kpa, thickness_mm=thickness_mm, radius_mm=radius_mm)
    if not 0 <= poisson <= 0.5:
        refuse("moens_korteweg: poisson", "0 to 0.5", poisson)
    return math.sqrt(
        1e3 * young_kpa * thickness_mm / (2.0 * density_kg_per_m3 * radius_mm * (1.0 - poisson**2))
    )
