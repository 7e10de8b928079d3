"""When replacing a part before it fails pays: age and block replacement of Weibull lives, break-even failure cost."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import gamma, gammainc

from twinlab.maintenance.survival import WeibullFit
from twinlab.schema import label, refuse


def mean_life_to(age: ArrayLike, *, shape: float, scale_days: float) -> np.ndarray:
    """Mean life of a part that is taken out at ``age`` at the latest: integral of its survival function, d.

    ``integral from 0 to T of exp(-(t/eta)^beta) dt = eta Gamma(1 + 1/beta) P(1/beta, (T/eta)^beta)`` with the
    regularised incomplete gamma function ``P``.
    """
    x = (np.asarray(age, float) / scale_days) ** shape
    return scale_days * gamma(1 + 1 / shape) * gammainc(1 / shape, x)


def age_cost(
    age: ArrayLike, *, shape: float, scale_days: float, planned_cost: float, failure_cost: float
) -> xr.DataArray:
    """Cost a day in the long run if a part is replaced at failure or at ``age``, whichever is first.

    ``g(T) = (c_p S(T) + c_f F(T)) / integral from 0 to T of S`` [1]_, the renewal-reward theorem.

    Parameters
    ----------
    age : array (age,)
        Ages of planned replacement above 0, d; infinity is run to failure.
    shape, scale_days : float
        Of the Weibull law of lives.
    planned_cost, failure_cost : float
        Of one replacement, any money.

    Returns
    -------
    DataArray, dims (age)
        ``cost_rate``, money a day.

    Raises
    ------
    InputError
        Values that are not above 0.

    References
    ----------
    .. [1] Barlow and Hunter, Oper. Res. 8 (1960) 90, policy I.
    """
    _above_zero("age_cost", shape, scale_days, planned_cost, failure_cost)
    at = np.atleast_1d(np.asarray(age, float))
    if not (at > 0).all():
        refuse("age_cost", "ages above 0 d", at.min())
    survival = np.exp(-((at / scale_days) ** shape))
    cost = planned_cost * survival + failure_cost * (1 - survival)
    rate = cost / mean_life_to(at, shape=shape, scale_days=scale_days)
    return label("cost_rate", rate, {"age": at})


def best_age(*, shape: float, scale_days: float, planned_cost: float, failure_cost: float) -> xr.Dataset:
    """Age of planned replacement with the least cost in the long run.

    It solves ``h(T) integral from 0 to T of S - F(T) = c_p / (c_f - c_p)``, of which the left side rises from 0 where
    the hazard ``h`` rises.

    Parameters
    ----------
    shape, scale_days, planned_cost, failure_cost : float
        As in :func:`age_cost`.

    Returns
    -------
    Dataset, no dims
        ``replacement_age`` (d; infinite where planned replacement never pays: shape at most 1, or a failure that costs
        no more than planned work), ``replacement_cost_rate`` there and ``failure_cost_rate`` of run to failure.

    Raises
    ------
    InputError
        Values that are not above 0.

    Examples
    --------
    >>> best = best_age(shape=2, scale_days=1, planned_cost=1, failure_cost=5)
    >>> f"{float(best.replacement_age):.4f} {float(best.replacement_cost_rate):.4f}"
    '0.5107 4.0852'
    """
    _above_zero("best_age", shape, scale_days, planned_cost, failure_cost)
    law = {"shape": shape, "scale_days": scale_days}
    age = _least_cost(planned_cost / failure_cost, **law)
    costs = {"planned_cost": planned_cost, "failure_cost": failure_cost}
    rates = age_cost([age, np.inf], **law, **costs)
    values = {
        "replacement_age": age,
        "replacement_cost_rate": float(rates[0]),
        "failure_cost_rate": float(rates[1]),
    }
    return xr.Dataset({k: label(k, v) for k, v in values.items()}, attrs={**law, **costs})


def _least_cost(cost_ratio: float, *, shape: float, scale_days: float) -> float:
    """Best age for this ratio of planned to failure cost, d; infinite where there is none."""
    if shape <= 1 or cost_ratio >= 1:
        return float("inf")
    wanted = cost_ratio / (1 - cost_ratio)

    def excess(log_age: float) -> float:
        t = np.exp(log_age)  # in scales
        failed = -np.expm1(-(t**shape))
        return float(
            shape * t ** (shape - 1) * mean_life_to(t, shape=shape, scale_days=1.0) - failed - wanted
        )

    # beyond ten scales, at the latest where S underflows, the left side grows as h alone
    high = max(3.0, np.log(10 * (wanted + 1)) * 2 / (shape - 1))
    if high > 700 or excess(high) <= 0:
        return float("inf")
    return scale_days * float(np.exp(brentq(excess, -40.0, high, xtol=1e-13)))


def best_age_interval(
    fit: WeibullFit,
    *,
    planned_cost: float,
    failure_cost: float,
    confidence: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> tuple[float, float]:
    """How well the best age is known from the lives that a law was fitted to.

    Laws are drawn from the normal approximation of the fit's log scale and log shape.

    Parameters
    ----------
    fit : WeibullFit
        Without covariates.
    planned_cost, failure_cost : float
        As in :func:`age_cost`.
    confidence : float
    draws : int
    seed : int

    Returns
    -------
    tuple of float
        Ends of the interval of ``replacement_age``, d; infinite where planned replacement may never pay.

    Raises
    ------
    InputError
        A fit with covariates, bad confidence, costs that are not above 0.
    """
    if fit.covariance.shape != (2, 2) or not 0 < confidence < 1 or draws < 20:
        refuse("best_age_interval", "a fit without covariates, confidence in (0, 1), 20 draws", confidence)
    middle = [fit.estimate("log_scale"), fit.estimate("log_shape")]
    laws = np.exp(np.random.default_rng(seed).multivariate_normal(middle, fit.covariance, draws))
    _above_zero("best_age_interval", planned_cost, failure_cost)
    ages = [_least_cost(planned_cost / failure_cost, shape=b, scale_days=eta) for eta, b in laws]
    # order statistics: infinite ages have no means to interpolate with
    low, high = np.quantile(ages, [0.5 - confidence / 2, 0.5 + confidence / 2], method="nearest")
    return float(low), float(high)


def break_even_failure_cost(
    age: ArrayLike, *, shape: float, scale_days: float, planned_cost: float
) -> xr.DataArray:
    """Cost of a failure above which replacement at ``age`` costs less than run to failure.

    ``c_f = c_p S(T) / (A(T) / mu - F(T))`` with ``A`` the integral of ``S`` up to ``T`` and ``mu`` the mean life.

    Parameters
    ----------
    age : array (age,)
        Ages of planned replacement above 0, d.
    shape, scale_days, planned_cost : float
        As in :func:`age_cost`.

    Returns
    -------
    DataArray, dims (age)
        ``break_even_cost``, money; infinite where planned replacement never pays (shape at most 1).

    Raises
    ------
    InputError
        Values that are not above 0.
    """
    _above_zero("break_even_failure_cost", shape, scale_days, planned_cost)
    at = np.atleast_1d(np.asarray(age, float))
    if not (at > 0).all():
        refuse("break_even_failure_cost", "ages above 0 d", at.min())
    survival = np.exp(-((at / scale_days) ** shape))
    mean = scale_days * gamma(1 + 1 / shape)
    gain = mean_life_to(at, shape=shape, scale_days=scale_days) / mean - (1 - survival)
    cost = np.full(at.size, np.inf)
    # for the exponential law the gain is 0 up to rounding
    np.divide(planned_cost * survival, gain, out=cost, where=gain > 1e-12)
    return label("break_even_cost", cost, {"age": at})


def expected_failures(age: ArrayLike, *, shape: float, scale_days: float, steps: int = 2000) -> xr.DataArray:
    """Failures to be expected up to each time if every failed part is replaced by a new one: renewal function.

    Solves ``M(t) = F(t) + integral from 0 to t of M(t - x) dF(x)`` by midpoints [1]_.

    Parameters
    ----------
    age : array (age,)
        Times from 0, d.
    shape, scale_days : float
        Of the Weibull law.
    steps : int
        Of the grid up to the last time.

    Returns
    -------
    DataArray, dims (age)
        ``renewals``, 1.

    Raises
    ------
    InputError
        Values that are not above 0.

    References
    ----------
    .. [1] Xie, Commun. Stat. Simul. Comput. 18 (1989) 281, eq. 2.
    """
    _above_zero("expected_failures", shape, scale_days, steps)
    at = np.atleast_1d(np.asarray(age, float))
    if not (np.isfinite(at) & (at >= 0)).all() or at.max() == 0:
        refuse("expected_failures", "finite times from 0 d, one above", at)
    grid = np.linspace(0.0, at.max(), steps + 1)
    middle = grid[1:] - 0.5 * grid[1]

    def law(t: np.ndarray) -> np.ndarray:
        return -np.expm1(-((t / scale_days) ** shape))

    half, failed = law(middle), law(grid)
    first = half[0]
    renewals = np.zeros(steps + 1)
    for i in range(1, steps + 1):
        # sum over j < i of F(t_i - t_(j - 1/2)) (M_j - M_(j - 1))
        known = half[i - 1 : 0 : -1] @ np.diff(renewals[:i])
        renewals[i] = (failed[i] + known - first * renewals[i - 1]) / (1 - first)
    return label("renewals", np.interp(at, grid, renewals), {"age": at})


def block_cost(
    interval: ArrayLike, *, shape: float, scale_days: float, planned_cost: float, failure_cost: float
) -> xr.DataArray:
    """Cost a day in the long run if parts are replaced by the calendar, whatever their age, and at failure.

    ``g(T) = (c_p + c_f M(T)) / T`` [1]_.

    Parameters
    ----------
    interval : array (age,)
        Days between planned replacements, above 0.
    shape, scale_days, planned_cost, failure_cost : float
        As in :func:`age_cost`.

    Returns
    -------
    DataArray, dims (age)
        ``cost_rate``, money a day.

    Raises
    ------
    InputError
        Values that are not above 0.

    References
    ----------
    .. [1] Barlow and Hunter, Oper. Res. 8 (1960) 90; Barlow and Proschan, Mathematical Theory of Reliability (1965),
       section 4.2.
    """
    _above_zero("block_cost", shape, scale_days, planned_cost, failure_cost)
    at = np.atleast_1d(np.asarray(interval, float))
    if not (at > 0).all():
        refuse("block_cost", "intervals above 0 d", at.min())
    renewals = expected_failures(at, shape=shape, scale_days=scale_days).to_numpy()
    return label("cost_rate", (planned_cost + failure_cost * renewals) / at, {"age": at})


def _above_zero(where: str, *values: float) -> None:
    if not all(np.isfinite(v) and v > 0 for v in values):
        refuse(where, "finite values above 0", values)
