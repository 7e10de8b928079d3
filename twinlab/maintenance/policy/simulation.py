"""A fleet simulated under policies, all of which meet the same units, workload and other failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import xarray as xr

from twinlab.kernels import fleet_days as days
from twinlab.kernels.fleet_watch import Watch
from twinlab.kernels.philox import key
from twinlab.kernels.threads import one_parallel_region
from twinlab.maintenance.policy.laws import DAYS_PER_YEAR, hours_of, modes_of, parts_of, site_of
from twinlab.maintenance.policy.priors import Fleet
from twinlab.schema import label, refuse

Kind = Literal["run to failure", "calendar", "age", "condition", "predictive"]
KINDS: tuple[Kind, ...] = ("run to failure", "calendar", "age", "condition", "predictive")


@dataclass(frozen=True)
class Policy:
    """A rule of replacement; planned work is done in service windows after the clinic's hours.

    Attributes
    ----------
    name : str
    kind : str
        ``run to failure``; ``calendar`` or ``age``: when a part has reached its limit in days of the calendar or of
        use; ``condition``: when the smoothed indicator of a mode is above the threshold (1 is the level at failure);
        ``predictive``: when the probability of failure before the window after the next is above the threshold.
    limits : mapping of part to float
        Days; a part that is not named has none.
    threshold : float
    watch : Watch, optional
        What was learnt of indicators, for condition and predictive.
    """

    name: str
    kind: Kind
    limits: Mapping[str, float] = field(default_factory=dict)
    threshold: float = float("inf")
    watch: Watch | None = None


RUN = Policy("run to failure", "run to failure")
_EVENTS = ["failures", "asked of the shelf", "emergency orders", "hours lost"]


def simulate_fleet(
    fleet: Fleet,
    policies: Sequence[Policy],
    *,
    years: float = 3.0,
    settle_years: float = 1.0,
    seeds: int = 50,
    seed: int = 0,
) -> xr.Dataset:
    """Run every policy on the same fleets.

    A fleet begins as one that ran to failure for long; the policy works for ``settle_years`` before counting begins.

    Parameters
    ----------
    fleet : Fleet
    policies : sequence of Policy
        With names of their own.
    years, settle_years : float
        Counted, and before that.
    seeds : int
        Fleets, each with units, workload and other failures of its own.
    seed : int
        Of the first fleet.

    Returns
    -------
    Dataset, dims (policy, seed) and (part, mode, event) where said
        For each scanner and year: ``unplanned_hours`` (clinic hours lost to failures of all kinds), of which
        ``wear_hours`` to the modes and ``other_hours`` to failures without wear; ``planned_hours``; ``clinic_hours``;
        ``failures_by_mode`` (mode), ``planned_by_part`` (part); ``visits``, ``repair_work_hours``,
        ``planned_work_hours``. Sums over the fleet: ``part_events`` (part, event). Coordinate ``kind`` of each policy.

    Raises
    ------
    InputError
        No policy, two of one name, a policy without what it needs, or times below 0.
    """
    where = "simulate_fleet"
    names = [p.name for p in policies]
    if not names or len(set(names)) < len(names):
        refuse(where, "policies with names of their own", names)
    if years <= 0 or settle_years < 0 or seeds < 1 or seed < 0:
        refuse(where, "years above 0, settle_years 0 or more, seeds 1 or more", (years, settle_years, seeds))
    modes, parts = modes_of(fleet), parts_of(fleet)
    watch = _watch(policies, modes.part.size)
    limits = np.full((len(policies), len(fleet.parts)), np.inf)
    for r, policy in enumerate(policies):
        for part, limit in policy.limits.items():
            if part not in fleet.parts or not limit > 0:
                refuse(
                    f"{where}: {policy.name}", f"limits above 0 d of {', '.join(fleet.parts)}", (part, limit)
                )
            limits[r, list(fleet.parts).index(part)] = limit
    shape = (len(policies), seeds)
    sums = days.Sums(
        np.zeros((*shape, days.RECORD)),
        np.zeros((*shape, modes.part.size)),
        np.zeros((*shape, parts.work.size)),
        np.zeros((*shape, parts.work.size, days.DEMANDS)),
    )
    with one_parallel_region():
        days.run_fleets(
            modes,
            parts,
            site_of(fleet, years=years, settle_years=settle_years),
            hours_of(fleet),
            watch,
            np.array([KINDS.index(p.kind) for p in policies], np.int64),
            limits,
            np.array([p.threshold for p in policies], float),
            np.array([key(seed + i) for i in range(seeds)], np.uint64),
            sums,
        )
    return _labelled(fleet, policies, sums, years, seed)


def _watch(policies: Sequence[Policy], modes: int) -> Watch:
    """The one watch of all policies that look at indicators."""
    watching = [p for p in policies if p.kind in ("condition", "predictive")]
    for policy in watching:
        if policy.watch is None or not policy.threshold > 0:
            refuse(f"simulate_fleet: {policy.name}", "a watch and a threshold above 0", policy.threshold)
        if policy.watch is not watching[0].watch:
            refuse("simulate_fleet", "one watch for all policies of a call", "several")
    found = watching[0].watch if watching else None
    return found if found is not None else Watch(*(np.zeros(modes) for _ in range(4)))


def _labelled(
    fleet: Fleet, policies: Sequence[Policy], sums: days.Sums, years: float, seed: int
) -> xr.Dataset:
    base = {"policy": [p.name for p in policies], "seed": seed + np.arange(sums.record.shape[1])}
    per = fleet.scanners * years
    record = sums.record / per
    wear, other = record[..., days.LOST_WEAR], record[..., days.LOST_OTHER]
    columns = {
        "unplanned_hours": wear + other,
        "wear_hours": wear,
        "other_hours": other,
        "planned_hours": record[..., days.LOST_PLANNED],
        "clinic_hours": record[..., days.CLINIC],
        "visits": record[..., days.VISITS],
        "repair_work_hours": record[..., days.WORK_REPAIR],
        "planned_work_hours": record[..., days.WORK_PLANNED],
    }
    data = {name: label(name, values, base) for name, values in columns.items()}
    at_mode, at_part = {**base, "mode": list(fleet.modes)}, {**base, "part": list(fleet.parts)}
    data["failures_by_mode"] = label("failures_by_mode", sums.failures / per, at_mode)
    data["planned_by_part"] = label("planned_by_part", sums.planned / per, at_part)
    data["part_events"] = label("part_events", sums.demands, {**at_part, "event": _EVENTS})
    about = {"scanners": fleet.scanners, "years": years, "fleet": fleet.key, "days_per_year": DAYS_PER_YEAR}
    return xr.Dataset(data, attrs=about).assign_coords(kind=("policy", [p.kind for p in policies]))
