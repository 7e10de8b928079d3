"""Spare parts on the shelf: how many, and what a missing one costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from scipy.stats import poisson

from twinlab.schema import label, refuse


def spare_stock(
    spares: Sequence[int],
    *,
    demand_per_year: float,
    replenish_days: float,
    shortage: Literal["emergency", "wait"] = "emergency",
    holding_cost: float = 0.0,
    shortage_cost: float = 0.0,
) -> xr.Dataset:
    """Share of demands met from the shelf, and cost, for a base stock that is ordered back one for one.

    Demands are a Poisson process; every used spare is ordered at once and there after the lead time. When the shelf
    is empty, either an emergency order serves the demand and nothing is taken from what is under way: then shortage
    is the blocking of an Erlang loss system [1]_, whatever the law of the lead time; or the demand waits for the
    next spare under way: then the number under way is Poisson [2]_.

    Parameters
    ----------
    spares : sequence of int
        Base stocks to be compared, 0 or more.
    demand_per_year : float
    replenish_days : float
        Mean lead time.
    shortage : {"emergency", "wait"}
    holding_cost : float
        Of a spare in a year, on the shelf or under way.
    shortage_cost : float
        Of a demand that finds none (emergency), or of a demand that waits for a year (wait).

    Returns
    -------
    Dataset, dims (spares)
        ``fill_rate`` (share met at once), ``mean_wait_days`` of all demands (0 for emergency orders, whose time is the
        caller's), ``stock_cost`` (money a year).

    Raises
    ------
    InputError
        Values below 0, stocks that are no whole numbers, an unknown shortage.

    References
    ----------
    .. [1] Erlang's loss formula; Karush, Oper. Res. 5 (1957) 693, for lost demands and any lead time.
    .. [2] Palm's theorem; Sherbrooke, Oper. Res. 16 (1968) 122.
    """
    where = "spare_stock"
    stock = np.atleast_1d(np.asarray(spares))
    if stock.size == 0 or not np.issubdtype(stock.dtype, np.integer) or stock.min() < 0:
        refuse(where, "whole numbers of spares, 0 or more", spares)
    if demand_per_year <= 0 or replenish_days <= 0 or min(holding_cost, shortage_cost) < 0:
        refuse(where, "demand and lead time above 0, costs 0 or more", (demand_per_year, replenish_days))
    under_way = demand_per_year * replenish_days / 365.25
    if shortage == "emergency":
        missed = np.array([_erlang_loss(int(s), under_way) for s in stock])
        wait = np.zeros(stock.size)
        cost = holding_cost * stock + shortage_cost * demand_per_year * missed
    elif shortage == "wait":
        missed = poisson.sf(stock - 1, under_way)
        # E[(N - s)+] = L P(N >= s) - s P(N >= s + 1)
        waiting = under_way * poisson.sf(stock - 1, under_way) - stock * poisson.sf(stock, under_way)
        wait = waiting / demand_per_year * 365.25  # Little
        cost = holding_cost * stock + shortage_cost * waiting
    else:
        refuse(where, "shortage of emergency or wait", repr(shortage))
    values = {"fill_rate": 1 - missed, "mean_wait_days": wait, "stock_cost": cost}
    about = {"under_way": under_way, "shortage": shortage}
    return xr.Dataset({k: label(k, v, {"spares": stock}) for k, v in values.items()}, attrs=about)


def _erlang_loss(servers: int, load: float) -> float:
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked
