"""A fleet's numbers as the arrays of the simulation."""

from __future__ import annotations

import numpy as np

from twinlab.kernels.fleet_clock import Hours
from twinlab.kernels.fleet_days import Parts, Site
from twinlab.kernels.fleet_wear import Modes
from twinlab.maintenance.policy.priors import Fleet

DAYS_PER_YEAR = 365.25


def modes_of(fleet: Fleet) -> Modes:
    """Laws of the modes, arrays (mode,)."""
    names = list(fleet.parts)
    modes = list(fleet.modes.values())

    def column(name: str) -> np.ndarray:
        return np.array([getattr(mode, name).value for mode in modes], float)

    return Modes(
        part=np.array([names.index(mode.part) for mode in modes], np.int64),
        onset_shape=column("onset_shape"),
        onset_scale=column("onset_days"),
        growth=column("growth_days"),
        spread=column("spread"),
        ripple=column("ripple"),
        noise=column("noise"),
        seen=column("seen"),
    )


def parts_of(fleet: Fleet) -> Parts:
    """Work and spares of the parts, arrays (part,)."""
    parts = fleet.parts.values()
    return Parts(
        work=np.array([p.work_hours.value for p in parts], float),
        stock=np.array([round(p.stock.value) for p in parts], np.int64),
    )


def hours_of(fleet: Fleet) -> Hours:
    """Hours of the clinic and of the engineer."""
    clinic = np.array(fleet.clinic.hours, float)
    service = fleet.service
    return Hours(
        open=fleet.clinic.open_hour.value,
        clinic=clinic,
        before=np.concatenate([[0.0], np.cumsum(clinic)]),
        engineer_from=service.engineer_from.value,
        engineer_to=service.engineer_to.value,
        engineer_days=round(service.engineer_days.value),
    )


def site_of(fleet: Fleet, *, years: float, settle_years: float) -> Site:
    """Workload and logistics."""
    service, supply = fleet.service, fleet.supply
    settle = round(settle_years * DAYS_PER_YEAR)
    return Site(
        scanners=fleet.scanners,
        settle=settle,
        days=settle + round(years * DAYS_PER_YEAR),
        workload_spread=fleet.clinic.workload_spread.value,
        window=round(service.window_days.value),
        order=round(supply.planned_days.value),
        response=service.response_hours.value,
        diagnosis=service.diagnosis_hours.value,
        repair_spread=service.repair_spread.value,
        courier=supply.courier_hours.value,
        emergency=supply.emergency_hours.value,
        replenish=supply.replenish_days.value,
        set_up=service.set_up_hours.value,
        other_rate=service.other_per_year.value / DAYS_PER_YEAR,
        other_hours=service.other_hours.value,
        oldest=longest_life(fleet),
    )


def longest_life(fleet: Fleet) -> float:
    """Days of use by which parts have failed, but for less than one in a million."""
    parts = dict.fromkeys(fleet.parts, np.inf)
    for mode in fleet.modes.values():
        # the 1e-6 quantiles of the onset and of a slow unit's growth, one after the other
        onset = mode.onset_days.value * 13.8 ** (1 / mode.onset_shape.value)
        growth = mode.growth_days.value * np.exp(4.75 * mode.spread.value)
        parts[mode.part] = min(parts[mode.part], onset + growth)
    return float(max(parts.values()))
