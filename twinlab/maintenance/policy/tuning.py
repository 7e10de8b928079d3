"""Cost against what a service may choose: the threshold of a policy, the spares on the shelf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import xarray as xr

from twinlab.maintenance.policy.learning import HISTORY, Learnt
from twinlab.maintenance.policy.money import costs
from twinlab.maintenance.policy.priors import Fleet
from twinlab.maintenance.policy.rules import condition_policy, predictive_policy
from twinlab.maintenance.policy.simulation import Policy, simulate_fleet
from twinlab.maintenance.policy.stock import spare_stock
from twinlab.schema import label, refuse

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_STOCK = ("stock_hours", "stock_availability", "stock_fill", "stock_fill_expected", "stock_total")
PROBABILITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


def cost_against_threshold(
    fleet: Fleet,
    learnt: Learnt,
    kind: Literal["condition", "predictive"],
    thresholds: Sequence[float] | None = None,
    *,
    seeds: int = 8,
    seed: int = 0,
) -> xr.Dataset:
    """Cost and lost hours of a policy at several thresholds.

    The fleets are those of a history, never those on which policies are compared.

    Parameters
    ----------
    fleet : Fleet
    learnt : Learnt
    kind : {"condition", "predictive"}
    thresholds : sequence of float, optional
        Levels of the indicator or probabilities, ascending.
    seeds : int
    seed : int

    Returns
    -------
    Dataset, dims (threshold)
        ``threshold_cost``, ``threshold_cost_se`` (USD, a scanner and year), ``threshold_hours`` (unplanned, h/a);
        attrs: ``best``, the threshold with the least cost.

    Raises
    ------
    InputError
        An unknown kind, thresholds that do not ascend, fewer than two seeds.
    """
    where = "cost_against_threshold"
    makers = {"condition": (condition_policy, THRESHOLDS), "predictive": (predictive_policy, PROBABILITIES)}
    if kind not in makers or seeds < 2:
        refuse(where, "condition or predictive, two seeds or more", (kind, seeds))
    make, usual = makers[kind]
    values = np.asarray(thresholds if thresholds is not None else usual, float)
    if values.size < 1 or (np.diff(values) <= 0).any():
        refuse(where, "ascending thresholds", values.tolist())
    policies = [replace(make(learnt, float(v)), name=f"{v:g}") for v in values]
    # the second half of the history's seeds: the first gave the cost of failures
    result = simulate_fleet(fleet, policies, seeds=seeds, seed=seed + HISTORY + HISTORY // 2)
    total = costs(result, fleet).total_cost
    # spread between thresholds, not between fleets: each seed's own mean over thresholds is taken out
    centred = total - total.mean("policy") + total.mean()
    columns = {
        "threshold_cost": total.mean("seed"),
        "threshold_cost_se": centred.std("seed", ddof=1) / np.sqrt(seeds),
        "threshold_hours": result.unplanned_hours.mean("seed"),
    }
    data = {k: label(k, v.to_numpy(), {"threshold": values}) for k, v in columns.items()}
    return xr.Dataset(
        data, attrs={"best": float(values[int(np.argmin(total.mean("seed").to_numpy()))]), "kind": kind}
    )


def hours_against_stock(
    fleet: Fleet, policies: Sequence[Policy], spares: Sequence[int], *, seeds: int = 6, seed: int = 0
) -> xr.Dataset:
    """Lost hours and missed spares with so many spares of every part on the fleet's shelf.

    Parameters
    ----------
    fleet : Fleet
    policies : sequence of Policy
    spares : sequence of int
    seeds, seed : int

    Returns
    -------
    Dataset, dims (policy, spares) and (part) where said
        ``stock_hours`` (unplanned, h/a), ``stock_availability`` (% of clinic hours that are not lost to failures),
        ``stock_fill`` (part): share of demands met from the shelf; ``stock_fill_expected`` (part): the same by
        :func:`~twinlab.maintenance.policy.spare_stock` for the demand that was met; ``stock_total`` (USD/a).

    Raises
    ------
    InputError
        No spares to be compared, or negative ones.
    """
    counts = [int(s) for s in spares]
    if not counts or min(counts) < 0:
        refuse("hours_against_stock", "spares of 0 or more", list(spares))
    rows: dict[str, list[np.ndarray]] = {name: [] for name in _STOCK}
    for count in counts:
        world = fleet
        for part in fleet.parts:
            world = world.replaced(f"parts.{part}.stock", float(count))
        result = simulate_fleet(world, policies, seeds=seeds, seed=seed)
        events = result.part_events.sum("seed")
        asked = events.sel(event="asked of the shelf").to_numpy()
        missed = events.sel(event="emergency orders").to_numpy()
        a_year = np.maximum(asked, 1.0) / (seeds * result.attrs["years"])
        lead = fleet.supply.replenish_days.value
        expected = [
            [float(spare_stock([count], demand_per_year=d, replenish_days=lead).fill_rate[0]) for d in row]
            for row in a_year
        ]
        hours = result.unplanned_hours.mean("seed").to_numpy()
        rows["stock_hours"].append(hours)
        rows["stock_availability"].append(100 * (1 - hours / result.clinic_hours.mean("seed").to_numpy()))
        rows["stock_fill"].append(1 - missed / np.maximum(asked, 1.0))
        rows["stock_fill_expected"].append(np.array(expected))
        rows["stock_total"].append(costs(result, world).total_cost.mean("seed").to_numpy())
    at = {"policy": [p.name for p in policies], "spares": counts}
    data = {}
    for name, found in rows.items():
        values = np.stack(found, axis=1)
        data[name] = label(name, values, {**at, "part": list(fleet.parts)} if values.ndim == 3 else at)
    return xr.Dataset(data)
