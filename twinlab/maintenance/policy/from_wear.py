"""Laws of the fleet from the detailed simulator of one scanner, so that both models tell the same lives."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import minimize
from scipy.stats import norm

from twinlab.kernels.wear_filament import filament_current
from twinlab.maintenance.policy.priors import Fleet
from twinlab.maintenance.wear import load_clinic, load_scanner_wear, load_tube_wear
from twinlab.schema import check, refuse

FEWEST = 8  # failures of a cause, below which its law is not fitted


def lognormal_lives(days: np.ndarray, failed: np.ndarray) -> tuple[float, float]:
    """Median and standard deviation of the logarithm of censored lives, by maximum likelihood.

    Parameters
    ----------
    days : array (life,)
    failed : array (life,) of bool
        Whether the life ended by this cause; otherwise it is censored.

    Returns
    -------
    tuple of float
        Median, d, and sd of the logarithm.
    """
    log = np.log(np.asarray(days, float))

    def loss(p: np.ndarray) -> float:
        z = (log - p[0]) / np.exp(p[1])
        return -float(np.where(failed, norm.logpdf(z) - p[1], norm.logsf(z)).sum())

    start = np.array([np.median(log[failed]), np.log(max(float(np.std(log[failed])), 0.02))])
    best = minimize(
        loss, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
    )
    return float(np.exp(best.x[0])), float(np.exp(best.x[1]))


def fleet_from_wear(fleet: Fleet, lives: xr.Dataset) -> Fleet:
    """The fleet with the lives of tubes that the simulator of one scanner gives.

    A cause with enough failures becomes a mode that grows from the first day: the simulator's filaments, bearings and
    tracks wear all along. Its median growth and spread are those of a censored log-normal law; lives that ended
    otherwise are censored. Days under the simulator's clinic become days of use at the fleet's mean workload by the
    exams of a week. A filament's indicator gets the noise of :func:`filament_noise`; which units warn is left as
    declared.

    Parameters
    ----------
    fleet : Fleet
    lives : Dataset, dims (life)
        Of :func:`twinlab.maintenance.wear.tube_lives`.

    Returns
    -------
    Fleet
        The sources of changed numbers say so.

    Raises
    ------
    InputError
        No lives, or no cause among the fleet's modes with enough failures.
    """
    check(lives, "life_days", "life_failed", "life_cause", where="fleet_from_wear")
    cause = lives["life_cause"].to_numpy().astype(str)
    days = lives["life_days"].to_numpy() * exams_ratio(fleet, lives)
    found = [name for name in fleet.modes if np.sum(cause == name) >= FEWEST]
    if not found:
        wanted = f"{FEWEST} failures of one of {', '.join(fleet.modes)}"
        refuse("fleet_from_wear", wanted, dict(zip(*np.unique(cause, return_counts=True), strict=True)))
    world = fleet
    for name in found:
        median, spread = lognormal_lives(days, cause == name)
        mode = fleet.modes[name]
        # the unit's own wandering is part of the spread of lives
        between = np.sqrt(max(spread**2 - mode.ripple.value**2, 1e-4))
        source = (
            f"prior: simulator of one scanner, {int(np.sum(cause == name))} failures of {cause.size} lives"
        )
        for field, value in (("onset_days", 0.0), ("growth_days", median), ("spread", between)):
            world = world.replaced(f"modes.{name}.{field}", float(value), source=source)
    if "filament" in found:
        daily = sum(fleet.clinic.hours) / 7 * fleet.clinic.patients_per_hour.value
        noise = filament_noise(scans_per_day=daily)
        source = "prior: simulator of one scanner, noise of its ammeter over a day's scans"
        world = world.replaced("modes.filament.noise", noise, source=source)
    return world


def filament_noise(*, scans_per_day: float, kv: float = 120.0, tube_current_ma: float = 200.0) -> float:
    """Noise of a day's mean filament current over what the current falls by until the filament fails.

    As the simulator of one scanner has it: heating current at constant tube current against the wire's diameter, the
    share of mass at which filaments fail, and the noise of one reading; scans of a day are averaged.

    Parameters
    ----------
    scans_per_day : float
        Above 0.
    kv, tube_current_ma : float
        Of a usual exposure.

    Returns
    -------
    float
        Standard deviation over the level at failure.

    Raises
    ------
    InputError
        Values that are not above 0.
    """
    if min(scans_per_day, kv, tube_current_ma) <= 0:
        refuse("filament_noise", "values above 0", (scans_per_day, kv, tube_current_ma))
    tube, sensors = load_tube_wear(), load_scanner_wear()
    worn = np.sqrt(1 - tube.mass_loss_limit.value)  # mass goes as the diameter squared
    wire = (tube.wire_diameter_m.value, tube.emitting_area_m2.value, tube.perveance.value)
    new, last = (filament_current(1e-3 * tube_current_ma, kv, ratio, *wire) for ratio in (1.0, worn))
    return float(sensors.filament_current_noise.value / np.sqrt(scans_per_day) / (1 - last / new))


def exams_ratio(fleet: Fleet, lives: xr.Dataset) -> float:
    """Exams of a week in the simulator's clinic over those of the fleet's mean scanner."""
    clinic = load_clinic(lives.attrs["clinic"])
    week = float(lives.attrs["exams_per_day"]) * (5 + 2 * clinic.weekend_share.value)
    return week / (sum(fleet.clinic.hours) * fleet.clinic.patients_per_hour.value)
