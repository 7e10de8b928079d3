"""Cost against the threshold of a policy, on fleets of the history; the threshold with the least cost."""

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
from twinlab.maintenance.policy.simulation import simulate_fleet
from twinlab.schema import label, refuse

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
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
