"""Lives of tubes under a workload: how long, how many scan-seconds, and what ends them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.maintenance.wear.clinic import Clinic
from twinlab.maintenance.wear.parameters import TubeWear, load_scanner_wear
from twinlab.maintenance.wear.planning import workload
from twinlab.maintenance.wear.simulator import simulate_scanner
from twinlab.schema import label, refuse

# the rest of the scanner does not fail meanwhile
STEADY = {"dead_scale_days": 1e9, "slip_ring_life_rotations": 1e15, "fouling_per_day": 1e-9}


def tube_lives(
    n: int,
    *,
    clinic: str | Clinic = "general_clinic",
    years: float = 10.0,
    exams_per_day: float | None = None,
    tube: str | TubeWear = "generic_tube",
    seed: int = 0,
) -> xr.Dataset:
    """Lives of tubes drawn from the spreads, all under the same scans.

    Parameters
    ----------
    n : int
        Tubes.
    clinic : str or Clinic
    years : float
        After which a tube at work is censored.
    exams_per_day : float, optional
    tube : str or TubeWear
    seed : int

    Returns
    -------
    Dataset, dim (life)
        ``life_days``, ``life_failed`` (False: censored), ``life_seconds`` (scan-seconds, localisers included),
        ``life_cause``.

    Raises
    ------
    InputError
        No tubes, or what :func:`workload` refuses.
    """
    if n < 1:
        refuse("tube_lives: n", "1 or more", n)
    scans = workload(clinic, days=max(1, round(365.25 * years)), exams_per_day=exams_per_day, seed=seed)
    parts = load_scanner_wear().with_values(**STEADY)
    last = []
    for k in range(n):
        own = scans.assign_coords(scanner=("scan", np.full(scans.sizes["scan"], f"life-{k}", object)))
        state = simulate_scanner(own, tube=tube, parts=parts, seed=seed, stop_at_failure=True).state
        last.append(state.isel(day=-1))
    cause = np.array([str(s["failed"].item()) for s in last], object)
    values = {
        "life_days": np.array([float(s["day"]) + 1.0 for s in last]),
        "life_failed": cause != "",
        "life_seconds": np.array([float(s["exposure_seconds"]) for s in last]),
        "life_cause": cause,
    }
    return xr.Dataset(
        {name: label(name, array) for name, array in values.items()},
        attrs={"seed": seed, "clinic": scans.attrs["clinic"], "exams_per_day": scans.attrs["exams_per_day"]},
    )
