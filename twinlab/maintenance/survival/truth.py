"""Censored lives drawn from a known law, against which estimators are tried."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from scipy.optimize import brentq
from scipy.special import gamma, gammainc

from twinlab.maintenance.survival.lives import make_lives, make_spans
from twinlab.schema import refuse


def simulate_lives(
    n: int,
    *,
    shape: float,
    scale_days: float,
    effects: Mapping[str, float] | None = None,
    censored: float = 0.4,
    seed: int = 0,
) -> xr.Dataset:
    """Weibull lives with covariates that stretch time, and censoring that knows nothing of the life.

    ``S(t | x) = exp(-(t / (scale exp(x . effects)))^shape)``. Covariates are standard normal. A part is last
    seen at a time even between 0 and a bound, which is chosen so that the expected censored share is ``censored``.

    Parameters
    ----------
    n : int
    shape : float
        Of the Weibull law, 1.
    scale_days : float
        Its scale where the covariates are zero, d.
    effects : mapping of covariate to float, optional
        Change of the logarithm of the life for each unit of the covariate.
    censored : float
        Expected share of lives whose failure is not seen, from 0 up to, not including, 1.
    seed : int

    Returns
    -------
    Dataset, dims (life)
        See :func:`make_lives`.

    Raises
    ------
    InputError
        A value outside its range.
    """
    effects = dict(effects or {})
    if n < 2 or shape <= 0 or scale_days <= 0 or not 0 <= censored < 1:
        refuse(
            "simulate_lives",
            "n above 1, shape and scale above 0, censored in [0, 1)",
            (n, shape, scale_days, censored),
        )
    rng = np.random.default_rng(seed)
    columns = {name: rng.standard_normal(n) for name in effects}
    scale = scale_days * np.exp(sum((effects[k] * v for k, v in columns.items()), np.zeros(n)))
    life = scale * rng.weibull(shape, n)
    last_seen = np.full(n, np.inf)
    if censored > 0:
        last_seen = rng.uniform(0, _bound(shape, scale, censored), n)
    return make_lives(np.minimum(life, last_seen), life <= last_seen, columns)


def _bound(shape: float, scale: np.ndarray, censored: float) -> float:
    """Bound c of even censoring: mean over lives of (1/c) * integral of S from 0 to c is the censored share."""

    def excess(log_c: float) -> float:
        c = np.exp(log_c)
        area = scale * gamma(1 + 1 / shape) * gammainc(1 / shape, (c / scale) ** shape)
        return float(np.mean(area / c)) - censored

    middle = float(np.log(np.median(scale)))
    return float(np.exp(brentq(excess, middle - 20, middle + 20)))


def simulate_spans(
    n: int,
    *,
    shape: float,
    scale_days: float,
    effect: float,
    step_days: float,
    steps: int,
    name: str = "workload",
    seed: int = 0,
) -> xr.Dataset:
    """Lives under a covariate that changes at every step: hazard ``h0(t) exp(effect z(t))``.

    The covariate is a new standard normal in every step; the base hazard is Weibull. Parts that work after
    the last step are censored. The cumulative hazard is inverted exactly inside each step.

    Parameters
    ----------
    n : int
    shape, scale_days : float
        Of the base law.
    effect : float
        Logarithm of the hazard ratio for each unit of the covariate.
    step_days : float
    steps : int
    name : str
        Of the covariate.
    seed : int

    Returns
    -------
    Dataset, dims (span)
        See :func:`make_spans`.

    Raises
    ------
    InputError
        A value outside its range.
    """
    if min(n, steps) < 1 or min(shape, scale_days, step_days) <= 0:
        refuse("simulate_spans", "values above 0", (n, steps, shape, scale_days, step_days))
    rng = np.random.default_rng(seed)
    covariate = rng.standard_normal((n, steps))
    edges = step_days * np.arange(steps + 1)
    base = (edges / scale_days) ** shape
    hazard = np.exp(effect * covariate)
    total = np.concatenate([np.zeros((n, 1)), np.cumsum(hazard * np.diff(base), axis=1)], axis=1)
    wanted = rng.exponential(size=n)
    at = (total[:, 1:] < wanted[:, None]).sum(axis=1)  # step in which the part fails; `steps` if it does not
    failed = at < steps
    inside = np.minimum(at, steps - 1)
    rows = np.arange(n)
    rest = base[inside] + (wanted - total[rows, inside]) / hazard[rows, inside]
    end = np.where(failed, scale_days * rest ** (1 / shape), edges[-1])
    part, step = np.nonzero(np.arange(steps) <= inside[:, None])
    last = step == inside[part]
    return make_spans(
        part,
        edges[step],
        np.where(last, end[part], edges[step + 1]),
        last & failed[part],
        {name: covariate[part, step]},
    )
