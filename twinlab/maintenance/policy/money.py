"""What policies cost, and how sure a difference between two is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.stats import t as student

from twinlab.maintenance.policy.priors import Fleet
from twinlab.schema import label, refuse

COSTS = (
    "parts_cost",
    "labour_cost",
    "downtime_cost",
    "emergency_cost",
    "stock_cost_share",
    "monitoring_cost",
)


def costs(result: xr.Dataset, fleet: Fleet) -> xr.Dataset:
    """Costs of a simulated fleet, a scanner and year.

    Parameters
    ----------
    result : Dataset
        Of :func:`~twinlab.maintenance.policy.simulate_fleet`.
    fleet : Fleet
        Whose prices count; may differ from the simulated one's in ``money`` and the costs of parts.

    Returns
    -------
    Dataset, dims (policy, seed)
        ``parts_cost``, ``labour_cost``, ``downtime_cost``, ``emergency_cost``, ``stock_cost_share``,
        ``monitoring_cost``, their sum ``total_cost`` (USD), and ``cancelled_patients``.
    """
    money, clinic = fleet.money, fleet.clinic
    per = result.attrs["scanners"] * result.attrs["years"]
    events = result["part_events"]
    failed = events.sel(event="failures") / per
    price = xr.DataArray([p.cost.value for p in fleet.parts.values()], {"part": list(fleet.parts)})
    hour = money.lost_day.value / clinic.weekday_hours.value
    engineer = money.engineer_hour.value
    watched = result["kind"].isin(["condition", "predictive"])
    shelf = sum(p.stock.value * p.cost.value for p in fleet.parts.values())
    like = xr.zeros_like(result["unplanned_hours"])
    columns = {
        "parts_cost": ((failed + result["planned_by_part"]) * price).sum("part"),
        "labour_cost": engineer * result["repair_work_hours"]
        + engineer * money.after_hours_factor.value * result["planned_work_hours"],
        "downtime_cost": hour
        * (result["unplanned_hours"] + money.planned_share.value * result["planned_hours"]),
        "emergency_cost": events.sel(event="emergency orders").sum("part")
        / per
        * money.emergency_order.value,
        "stock_cost_share": like + shelf * money.holding_share.value / result.attrs["scanners"],
        "monitoring_cost": like + watched * money.monitoring_year.value,
    }
    columns["total_cost"] = sum((columns[name] for name in COSTS), like)
    columns["cancelled_patients"] = (
        result["unplanned_hours"] * clinic.patients_per_hour.value * money.cancelled_share.value
    )
    at = {name: result[name] for name in ("policy", "seed", "kind")}
    data = {k: label(k, v.transpose("policy", "seed").to_numpy(), at) for k, v in columns.items()}
    return xr.Dataset(data, attrs=result.attrs)


def compare(
    data: xr.Dataset, names: Sequence[str], *, against: str = "run to failure", confidence: float = 0.95
) -> xr.Dataset:
    """Policies against one of them, seed by seed.

    The interval of a change is Student's of the paired differences. That of a reduction is of the ratio of means, by
    its linearisation in both means. Both tell how well the mean over fleets is known, given the priors. How much one
    fleet of these years may differ from that mean is told by the 5th and 95th percentile over seeds.

    Parameters
    ----------
    data : Dataset, dims (policy, seed)
        Results or costs.
    names : sequence of str
        Variables to be compared.
    against : str
        The policy that all are compared with.
    confidence : float
        Of the intervals.

    Returns
    -------
    Dataset, dims (quantity, policy)
        ``change``, ``change_low``, ``change_high`` in the variable's unit; ``reduction``, ``reduction_low``,
        ``reduction_high``, ``reduction_p05``, ``reduction_p95`` in %.

    Raises
    ------
    InputError
        Unknown names or policy, fewer than two seeds, bad confidence.
    """
    where = "compare"
    missing = [n for n in names if n not in data]
    if missing:
        refuse(where, f"variables among {sorted(map(str, data))}", ", ".join(missing))
    if against not in data["policy"].values:
        refuse(where, f"a policy among {', '.join(map(str, data.policy.values))}", repr(against))
    if data.sizes["seed"] < 2 or not 0 < confidence < 1:
        refuse(where, "two seeds or more, confidence in (0, 1)", (data.sizes["seed"], confidence))
    rows = [_paired(data[n].transpose("policy", "seed"), against, confidence) for n in names]
    at = {"quantity": list(names), "policy": data["policy"].values}
    return xr.Dataset({k: label(k, [r[k] for r in rows], at) for k in rows[0]}, attrs={"against": against})


def _paired(values: xr.DataArray, against: str, confidence: float) -> dict[str, np.ndarray]:
    mine, base = values.to_numpy(), values.sel(policy=against).to_numpy()
    change, half = _mean_interval(mine - base, confidence)
    ratio, ratio_half = ratio_interval(mine, base, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        single = 100 * (1 - mine / base)
    return {
        "change": change,
        "change_low": change - half,
        "change_high": change + half,
        "reduction": 100 * (1 - ratio),
        "reduction_low": 100 * (1 - ratio - ratio_half),
        "reduction_high": 100 * (1 - ratio + ratio_half),
        "reduction_p05": np.percentile(single, 5, axis=-1),
        "reduction_p95": np.percentile(single, 95, axis=-1),
    }


def _mean_interval(values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the last axis and the half width of Student's interval."""
    n = values.shape[-1]
    half = student.ppf(0.5 + confidence / 2, n - 1) * values.std(-1, ddof=1) / np.sqrt(n)
    return values.mean(-1), half


def ratio_interval(over: np.ndarray, under: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of two paired means over the last axis, and the half width of its interval by linearisation.

    References
    ----------
    Cochran, Sampling Techniques, 3rd ed. (1977), eq. 6.9.
    """
    over, under = np.broadcast_arrays(over, under)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = over.mean(-1) / under.mean(-1)
        _, half = _mean_interval(over - ratio[..., None] * under, confidence)
        return ratio, half / np.abs(under.mean(-1))


def return_on_fee(
    money: xr.Dataset,
    *,
    policy: str = "predictive",
    against: str = "run to failure",
    confidence: float = 0.95,
) -> xr.Dataset:
    """What a monitored policy saves for what it asks: (saving without fee - fee) / fee.

    Parameters
    ----------
    money : Dataset
        Of :func:`costs`.
    policy, against : str
    confidence : float

    Returns
    -------
    Dataset, no dims
        ``saving`` (USD for a scanner and year, fee paid), ``saving_low``, ``saving_high``; ``roi``, ``roi_low``,
        ``roi_high``; ``roi_p05``, ``roi_p95`` over fleets.

    Raises
    ------
    InputError
        Unknown policies, or one without a fee.
    """
    both = [policy, against]
    if not set(both) <= set(money["policy"].values):
        refuse("return_on_fee", f"policies among {', '.join(map(str, money.policy.values))}", both)
    fee = float(
        money.monitoring_cost.sel(policy=policy).mean() - money.monitoring_cost.sel(policy=against).mean()
    )
    if fee <= 0:
        refuse("return_on_fee", "a policy that asks a fee", policy)
    saved = (money.total_cost.sel(policy=against) - money.total_cost.sel(policy=policy)).to_numpy()
    mean, half = _mean_interval(saved, confidence)
    values = {"saving": mean, "saving_low": mean - half, "saving_high": mean + half}
    values |= {name.replace("saving", "roi"): v / fee for name, v in values.items()}
    values |= {"roi_p05": np.percentile(saved, 5) / fee, "roi_p95": np.percentile(saved, 95) / fee}
    return xr.Dataset({k: label(k, float(v)) for k, v in values.items()}, attrs={"fee": fee})


def break_even_day(
    result: xr.Dataset,
    fleet: Fleet,
    *,
    policy: str = "predictive",
    against: str = "run to failure",
    confidence: float = 0.95,
) -> xr.Dataset:
    """Loss of a day down above which one policy costs less than another, all else as it is.

    Total costs are linear in that loss, so the answer is a ratio of means, with its paired interval.

    Parameters
    ----------
    result : Dataset
        Of :func:`~twinlab.maintenance.policy.simulate_fleet`.
    fleet : Fleet
    policy, against : str
    confidence : float

    Returns
    -------
    Dataset, no dims
        ``break_even_lost_day``, ``break_even_low``, ``break_even_high``, USD. Below 0: the policy costs less even
        if down time costs nothing. NaN: it loses no fewer hours.
    """
    table = costs(result, fleet)
    gap = table.sel(policy=policy) - table.sel(policy=against)
    hours = gap.downtime_cost.to_numpy() / fleet.money.lost_day.value  # USD for each USD of a lost day
    rest = (gap.total_cost - gap.downtime_cost).to_numpy()
    mean, half = np.full(1, np.nan), np.full(1, np.nan)
    if hours.mean() < 0:
        mean, half = ratio_interval(rest[None], -hours[None], confidence)
    values = {
        "break_even_lost_day": mean[0],
        "break_even_low": mean[0] - half[0],
        "break_even_high": mean[0] + half[0],
    }
    return xr.Dataset({k: label(k, float(v)) for k, v in values.items()})
