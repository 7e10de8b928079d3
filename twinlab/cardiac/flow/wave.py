"""The pulse wave along one vessel, with a Windkessel, a resistance or nothing that reflects at its end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from pydantic import Field

from twinlab.cardiac.flow.analytic import (
    BLOOD_DENSITY_KG_PER_M3,
    BLOOD_VISCOSITY_PA_S,
    PA_PER_MMHG,
    moens_korteweg,
)
from twinlab.kernels.heart_wave import run_wave
from twinlab.schema import Model, label, refuse

_RESISTANCE_SI = PA_PER_MMHG * 1e6  # of one mmHg s/ml


class ElasticVessel(Model):
    """A straight elastic vessel.

    Attributes
    ----------
    length_mm, radius_mm, thickness_mm : float
        At the reference pressure.
    young_kpa : float
    reference_mmhg : float
        Pressure at which it has that radius.
    viscosity_pa_s, density_kg_per_m3 : float
    profile : float
        Velocity profile ``(zeta + 2)/zeta (1 - (r/R)^zeta)`` of the friction: 2 Poiseuille, 9 usual in large arteries.
    """

    length_mm: float = Field(gt=0)
    radius_mm: float = Field(gt=0)
    thickness_mm: float = Field(gt=0)
    young_kpa: float = Field(gt=0)
    reference_mmhg: float = 0.0
    viscosity_pa_s: float = Field(default=BLOOD_VISCOSITY_PA_S, ge=0)
    density_kg_per_m3: float = Field(default=BLOOD_DENSITY_KG_PER_M3, gt=0)
    profile: float = Field(default=9.0, ge=2)

    @property
    def wave_speed_m_per_s(self) -> float:
        """At the reference pressure (Moens-Korteweg, incompressible wall)."""
        return moens_korteweg(
            young_kpa=self.young_kpa,
            thickness_mm=self.thickness_mm,
            radius_mm=self.radius_mm,
            density_kg_per_m3=self.density_kg_per_m3,
        )

    @property
    def impedance_mmhg_s_per_ml(self) -> float:
        """Characteristic impedance ``rho c / A``."""
        area = math.pi * (self.radius_mm * 1e-3) ** 2
        return self.density_kg_per_m3 * self.wave_speed_m_per_s / area / _RESISTANCE_SI


def pulse_wave(
    vessel: ElasticVessel,
    *,
    inflow_ml_per_s: Callable[[np.ndarray], np.ndarray],
    duration_ms: float,
    resistance_mmhg_s_per_ml: float | None = None,
    peripheral_mmhg_s_per_ml: float = 0.0,
    compliance_ml_per_mmhg: float = 0.0,
    venous_mmhg: float | None = None,
    cells: int = 200,
    every_ms: float = 1.0,
) -> xr.Dataset:
    """Pressure and flow along a vessel for a flow at its inlet, nonlinear.

    Parameters
    ----------
    vessel : ElasticVessel
    inflow_ml_per_s : callable
        Flow at times (n,) in ms.
    duration_ms : float
    resistance_mmhg_s_per_ml : float, optional
        At the end: alone a pure resistance, with the next two the characteristic one of a three-element Windkessel.
        None: no reflection.
    peripheral_mmhg_s_per_ml, compliance_ml_per_mmhg : float
    venous_mmhg : float, optional
        Behind the resistances; default the vessel's reference pressure.
    cells : int
    every_ms : float
        Interval of the result, rounded to whole steps.

    Returns
    -------
    Dataset
        ``wave_pressure`` and ``wave_flow`` (time ms, position mm).

    Raises
    ------
    InputError
        Too few cells, a compliance without a peripheral resistance, or a run in which the vessel collapses or bursts.

    References
    ----------
    Alastruey J et al. 2012, in: Proc 11th Int Conf on Pressure Surges 401 (equations, ends by characteristics);
    Boileau E et al. 2015, Int J Numer Meth Biomed Eng 31:e02732 (single-vessel benchmarks).
    """
    if cells < 20:
        refuse("pulse_wave: cells", "20 or more", cells)
    if not (duration_ms > 0 and every_ms > 0):
        refuse("pulse_wave", "a duration and an interval above 0", (duration_ms, every_ms))
    if (peripheral_mmhg_s_per_ml > 0) != (compliance_ml_per_mmhg > 0):
        refuse("pulse_wave", "peripheral resistance and compliance both or neither", "one of them")
    if resistance_mmhg_s_per_ml is not None and resistance_mmhg_s_per_ml < 0:
        refuse("pulse_wave: resistance_mmhg_s_per_ml", "0 or more, or None", resistance_mmhg_s_per_ml)
    rho, area0 = vessel.density_kg_per_m3, math.pi * (vessel.radius_mm * 1e-3) ** 2
    beta = 4.0 / 3.0 * math.sqrt(math.pi) * vessel.young_kpa * 1e3 * vessel.thickness_mm * 1e-3
    dx = vessel.length_mm * 1e-3 / cells
    dt = 0.4 * dx / (1.5 * vessel.wave_speed_m_per_s)
    every = max(1, round(every_ms * 1e-3 / dt))
    dt = every_ms * 1e-3 / every
    shots = max(1, round(duration_ms / every_ms))
    half_steps = np.arange(2 * shots * every + 1) * (0.5e3 * dt)
    inflow = np.asarray(inflow_ml_per_s(half_steps), float) * 1e-6
    if inflow.shape != half_steps.shape or not np.isfinite(inflow).all():
        refuse("pulse_wave: inflow_ml_per_s", "a finite flow for every time", f"shape {inflow.shape}")
    friction = 2.0 * (vessel.profile + 2.0) * math.pi * vessel.viscosity_pa_s / rho
    p0 = vessel.reference_mmhg * PA_PER_MMHG
    venous = p0 if venous_mmhg is None else venous_mmhg * PA_PER_MMHG
    load = np.array(
        [
            -1.0 if resistance_mmhg_s_per_ml is None else resistance_mmhg_s_per_ml * _RESISTANCE_SI,
            peripheral_mmhg_s_per_ml * _RESISTANCE_SI,
            compliance_ml_per_mmhg * 1e-6 / PA_PER_MMHG,
            venous,
            venous,
        ]
    )
    area, flow = np.full(cells, area0), np.zeros(cells)
    out_a, out_q = np.empty((shots, cells)), np.empty((shots, cells))
    if not run_wave(
        area, flow, dx, dt, shots * every, every, inflow, beta, area0, rho, friction, p0, load, out_a, out_q
    ):
        refuse(
            "pulse_wave",
            "areas between a fifth and five times the reference (less flow or a stiffer wall)",
            "more",
        )
    pressure = (p0 + beta / area0 * (np.sqrt(out_a) - math.sqrt(area0))) / PA_PER_MMHG
    coords = {
        "time": every_ms * np.arange(1, shots + 1),
        "position": (np.arange(cells) + 0.5) * dx * 1e3,
    }
    return xr.Dataset(
        {
            "wave_pressure": label("wave_pressure", pressure, coords),
            "wave_flow": label("wave_flow", out_q * 1e6, coords),
        }
    )
