"""Laws of the fleet from the detailed simulator of one scanner, so that both models tell the same lives."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import minimize
from scipy.stats import norm

from twinlab.maintenance.policy.priors import Fleet
from twinlab.maintenance.wear import load_clinic
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
    exams of a week. What a mode's indicator shows is left as declared.

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
    return world


def exams_ratio(fleet: Fleet, lives: xr.Dataset) -> float:
    """Exams of a week in the simulator's clinic over those of the fleet's mean scanner."""
    clinic = load_clinic(lives.attrs["clinic"])
    week = float(lives.attrs["exams_per_day"]) * (5 + 2 * clinic.weekend_share.value)
    return week / (sum(fleet.clinic.hours) * fleet.clinic.patients_per_hour.value)
